//! Keywords and addresses that are read by sort values.

use crate::faults::registry;
use crate::golden::{alone, assert_nothing_open, options, servers};
use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{EsTable, open_contexts};
use elastic_client::{Connection, ConnectionRegistry, Method, Request};
use flowsigma_tests::bulk::{Found, load};
use flowsigma_tests::proxy::{Fault, Proxy, Seen};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const DOCUMENTS: usize = 1_200;
/// Far more than a proof needs.
const READS: usize = 50;
/// The value of a column in document `n`, which may be missing.
type Cell = fn(usize) -> Option<String>;

const COLUMNS: [(&str, Cell); 6] = [
    ("k", word),
    ("alias", word),
    ("ip", address),
    ("lower", |n| word(n).map(|word| word.to_lowercase())),
    ("filled", |n| match n % 5 {
        0 => None,
        1 => Some("NIL".into()),
        _ => Some(format!("f{n}")),
    }),
    ("rare", |n| (n == 700).then(|| "once".into())),
];

fn word(n: usize) -> Option<String> {
    match n % 7 {
        0 => None,
        1 => Some(String::new()),
        2 => Some(format!("\"],\"sort\":[{n}]}}\\ \n")),
        3 => Some(format!("Größe 数 🦀 {n}")),
        4 => Some(format!("{n} {}", "Long".repeat(1_000))),
        _ => Some(format!("W{}", n % 3)),
    }
}

fn address(n: usize) -> Option<String> {
    match n % 4 {
        0 => None,
        1 => Some(format!("2001:db8::{:x}", n + 1)),
        _ => Some(format!("10.0.{}.{}", n / 256, n % 256)),
    }
}

fn document(n: usize) -> Value {
    let mut document = json!({ "n": n });
    for (field, value) in [("k", word(n)), ("lower", word(n)), ("ip", address(n)), ("rare", COLUMNS[5].1(n))]
    {
        if let Some(value) = value {
            document[field] = json!(value);
        }
    }
    match n % 5 {
        0 => {}
        1 => document["filled"] = Value::Null,
        _ => document["filled"] = json!(format!("f{n}")),
    }
    document
}

async fn make(connection: &Connection, index: &str, properties: Value, documents: &[Value]) {
    let delete = Request::new(Method::Delete, format!("/{index}"), "delete a test index")
        .with_param("ignore_unavailable", "true");
    connection.send(&delete).await.unwrap();
    let normalizer = json!({ "low": { "type": "custom", "filter": ["lowercase"] } });
    let create = Request::new(Method::Put, format!("/{index}"), "create a test index").with_body(&json!({
        "settings": { "number_of_shards": 2, "number_of_replicas": 0, "analysis": { "normalizer": normalizer } },
        "mappings": { "properties": properties },
    }));
    connection.send(&create).await.unwrap();
    // Several segments.
    for (part, documents) in documents.chunks(500).enumerate() {
        let ids = documents.iter().enumerate().map(|(id, document)| (format!("{part}-{id}"), document));
        load(connection, index, ids, Found::AtOnce).await.unwrap();
    }
}

fn properties() -> Value {
    json!({
        "n": { "type": "long" }, "k": { "type": "keyword" }, "alias": { "type": "alias", "path": "k" },
        "ip": { "type": "ip" }, "lower": { "type": "keyword", "normalizer": "low" },
        "filled": { "type": "keyword", "null_value": "NIL" }, "rare": { "type": "keyword" },
    })
}

async fn open(registry: &Arc<ConnectionRegistry>, index: &str) -> Result<EsTable> {
    EsTable::try_new(Arc::clone(registry), "test", index, &options(&[("page_size", "50")])).await
}

async fn read(registry: &Arc<ConnectionRegistry>, index: &str, sql: &str) -> Result<Vec<RecordBatch>> {
    read_table(open(registry, index).await?, sql).await
}

async fn read_table(table: EsTable, sql: &str) -> Result<Vec<RecordBatch>> {
    let ctx = SessionContext::new();
    ctx.register_table("t", Arc::new(table))?;
    let plan = ctx.sql(sql).await?.into_unoptimized_plan();
    let (plan, open) = open_contexts(plan).await?;
    let rows = async { ctx.execute_logical_plan(plan).await?.collect().await }.await;
    open.close().await?;
    rows
}

/// Returns the value of `column` in each document.
fn by_number(batches: &[RecordBatch], column: &str) -> BTreeMap<i64, Option<String>> {
    let mut values = BTreeMap::new();
    for batch in batches {
        let numbers =
            batch.column_by_name("n").unwrap().as_primitive::<datafusion::arrow::datatypes::Int64Type>();
        let texts = batch.column_by_name(column).unwrap().as_string::<i32>();
        for row in 0..batch.num_rows() {
            let text = texts.is_valid(row).then(|| texts.value(row).to_owned());
            assert_eq!(values.insert(numbers.value(row), text), None, "a document is read twice");
        }
    }
    values
}

/// Fails unless `column` has its value in each of `count` documents.
fn assert_column(batches: &[RecordBatch], column: &str, value: Cell, count: usize, how: &str) {
    let rows = by_number(batches, column);
    assert_eq!(rows.len(), count, "{how}: {column}");
    for (n, text) in rows {
        let number = usize::try_from(n).unwrap();
        // Only the first documents have the fields.
        let expected = value(number).filter(|_| number < DOCUMENTS);
        assert_eq!(text, expected, "{how}: {column} of {n}");
    }
}

/// Reads through a proxy until a page was asked for by sort values: a proof may come after the last page. Returns the
/// rows, and the fields of such pages.
async fn read_by_sort(proxy: &Proxy, index: &str, sql: &str) -> (Vec<RecordBatch>, Vec<Vec<String>>) {
    let through = registry(&[&proxy.url], None);
    for _ in 0..READS {
        let before = proxy.seen().len();
        let batches = read(&through, index, sql).await.unwrap();
        let seen = proxy.seen();
        let fields = seen[before..].iter().map(sorted_fields).filter(|fields| !fields.is_empty());
        let fields: Vec<_> = fields.collect();
        if !fields.is_empty() {
            return (batches, fields);
        }
    }
    panic!("{READS} reads of {index}, and no page by sort values");
}

/// The fields that a search for a page reads by sort values.
fn sorted_fields(seen: &Seen) -> Vec<String> {
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let keys = body["sort"].as_array().into_iter().flatten().filter_map(Value::as_object);
    keys.flat_map(|key| key.keys().cloned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sort_values_are_what_doc_values_are() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None);
        let connection = direct.get("test").unwrap();
        let documents: Vec<Value> = (0..DOCUMENTS).map(document).collect();
        make(&connection, "sorted-a", properties(), &documents).await;
        // An index without the fields.
        let few: Vec<Value> = (DOCUMENTS..2 * DOCUMENTS).map(|n| json!({ "n": n })).collect();
        make(&connection, "sorted-b", json!({ "n": { "type": "long" } }), &few).await;
        let proxy = Proxy::start(&url, |_| Fault::None).await.unwrap();
        for (index, filter, count) in [
            ("sorted-a", "", DOCUMENTS),
            ("sorted-*", "", 2 * DOCUMENTS),
            ("sorted-a", "WHERE n >= 100 AND n < 1000", 900),
        ] {
            let how = format!("{url} {index} {filter}");
            let sql = format!("SELECT * FROM t {filter}");
            let (batches, mut sorted) = read_by_sort(&proxy, index, &sql).await;
            for (column, value) in COLUMNS {
                assert_column(&batches, column, value, count, &how);
            }
            // Without a field of a number.
            let mut all = COLUMNS.map(|(name, _)| name);
            all.sort_unstable();
            for fields in &mut sorted {
                fields.sort_unstable();
                assert_eq!(*fields, all, "{how}");
            }
        }
        assert_nothing_open(&connection).await;
    }
}

/// The least of several values would be a wrong answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_slice_with_several_values_is_read_by_doc_values() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None);
        let connection = direct.get("test").unwrap();
        let mut documents: Vec<Value> = (0..DOCUMENTS).map(document).collect();
        documents[DOCUMENTS - 1]["k"] = json!(["b", "a"]);
        make(&connection, "several", properties(), &documents).await;
        let proxy = Proxy::start(&url, |_| Fault::None).await.unwrap();
        let through = registry(&[&proxy.url], None);
        let error = read(&through, "several", "SELECT n, k, ip FROM t").await.unwrap_err().to_string();
        assert!(error.contains("\"k\"") && error.contains("has more than one value"), "{url}: {error}");
        // Another column of the same documents has single values.
        let (batches, _) = read_by_sort(&proxy, "several", "SELECT n, ip FROM t").await;
        assert_column(&batches, "ip", address, DOCUMENTS, &url);
        assert_nothing_open(&connection).await;
    }
}

/// Without a proof, or if the server refuses the sort keys, the rows are the same.
#[tokio::test(flavor = "multi_thread")]
async fn without_sort_values_the_rows_are_the_same() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&[&url], None).get("test").unwrap();
        let documents: Vec<Value> = (0..DOCUMENTS).map(document).collect();
        make(&connection, "unsorted", properties(), &documents).await;
        let no_proof = |seen: &Seen| match String::from_utf8_lossy(&seen.body).contains("value_count") {
            true => Fault::status(400, "parsing_exception"),
            false => Fault::None,
        };
        let no_keys = |seen: &Seen| match sorted_fields(seen).is_empty() {
            true => Fault::None,
            false => Fault::status(400, "illegal_argument_exception"),
        };
        let sql = "SELECT n, k FROM t";
        let proxy = Proxy::start(&url, no_proof).await.unwrap();
        let batches = read(&registry(&[&proxy.url], None), "unsorted", sql).await.unwrap();
        assert_column(&batches, "k", word, DOCUMENTS, &url);
        assert!(proxy.seen().iter().all(|seen| sorted_fields(seen).is_empty()), "{url}");
        let proxy = Proxy::start(&url, no_keys).await.unwrap();
        let (batches, refused) = read_by_sort(&proxy, "unsorted", sql).await;
        assert_column(&batches, "k", word, DOCUMENTS, &url);
        // Each slice tries once.
        assert!(refused.len() <= 2, "{url}: {refused:?}");
        assert_nothing_open(&connection).await;
    }
}

/// Elasticsearch prints the sort values of all indices of a point in time as the last one would: an address as a keyword,
/// or a keyword as an address.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_with_other_types_that_came_later_changes_no_value() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None);
        let connection = direct.get("test").unwrap();
        let delete = Request::new(Method::Delete, "/typed-b", "delete a test index")
            .with_param("ignore_unavailable", "true");
        connection.send(&delete).await.unwrap();
        let documents: Vec<Value> = (0..DOCUMENTS).map(document).collect();
        make(&connection, "typed-a", properties(), &documents).await;
        let table = open(&direct, "typed-*").await.unwrap();
        let other = json!({ "n": { "type": "long" }, "ip": { "type": "keyword" }, "rare": { "type": "ip" } });
        make(&connection, "typed-b", other, &[]).await;
        let batches = read_table(table, "SELECT n, ip, rare FROM t").await.unwrap();
        assert_column(&batches, "ip", address, DOCUMENTS, &url);
        assert_column(&batches, "rare", COLUMNS[5].1, DOCUMENTS, &url);
        assert_nothing_open(&connection).await;
    }
}
