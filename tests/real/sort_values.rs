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
        let through = registry(&[&proxy.url], None);
        for (index, filter, count) in [
            ("sorted-a", "", DOCUMENTS),
            ("sorted-*", "", 2 * DOCUMENTS),
            ("sorted-a", "WHERE n >= 100 AND n < 1000", 900),
        ] {
            let how = format!("{url} {index} {filter}");
            let before = proxy.seen().len();
            let batches = read(&through, index, &format!("SELECT * FROM t {filter}")).await.unwrap();
            for (column, value) in COLUMNS {
                let rows = by_number(&batches, column);
                assert_eq!(rows.len(), count, "{how}");
                for (n, text) in rows {
                    let number = usize::try_from(n).unwrap();
                    let expected = value(number).filter(|_| number < DOCUMENTS);
                    assert_eq!(text, expected, "{how}: {column} of {n}");
                }
            }
            let sorted: Vec<_> = proxy.seen()[before..].iter().map(sorted_fields).collect();
            let all = COLUMNS.iter().map(|(name, _)| *name);
            let most = sorted.iter().max_by_key(|fields| fields.len()).unwrap();
            assert!(all.clone().all(|name| most.iter().any(|field| field == name)), "{how}: {most:?}");
            assert!(!most.iter().any(|field| field == "n"), "{how}: a number is no sort value");
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
        // The slice of the other shard has single values.
        let batches = read(&through, "several", "SELECT n, ip FROM t").await.unwrap();
        assert_eq!(by_number(&batches, "ip").len(), DOCUMENTS, "{url}");
        assert!(proxy.seen().iter().any(|seen| sorted_fields(seen).contains(&"ip".to_owned())), "{url}");
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
        for (rule, refused) in [(no_proof as fn(&Seen) -> Fault, false), (no_keys, true)] {
            let proxy = Proxy::start(&url, rule).await.unwrap();
            let batches =
                read(&registry(&[&proxy.url], None), "unsorted", "SELECT n, k FROM t").await.unwrap();
            let rows = by_number(&batches, "k");
            assert_eq!(rows.len(), DOCUMENTS, "{url}");
            assert!(rows.into_iter().all(|(n, text)| text == word(usize::try_from(n).unwrap())), "{url}");
            let refusals = proxy.seen().iter().filter(|seen| !sorted_fields(seen).is_empty()).count();
            assert_eq!(refusals > 0, refused, "{url}");
            // Each slice tries once.
            assert!(refusals <= 2, "{url}: {refusals}");
        }
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
        for (column, value) in [("ip", address as Cell), ("rare", COLUMNS[5].1)] {
            let rows = by_number(&batches, column);
            assert_eq!(rows.len(), DOCUMENTS, "{url}");
            for (n, text) in rows {
                assert_eq!(text, value(usize::try_from(n).unwrap()), "{url}: {column} of {n}");
            }
        }
        assert_nothing_open(&connection).await;
    }
}
