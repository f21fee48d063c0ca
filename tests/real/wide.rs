//! Indices with more columns than a server gives doc values of in one answer, such as those of Beats.

use crate::faults::registry;
use crate::golden::{alone, assert_nothing_open, options, servers};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{EsTable, open_contexts};
use elastic_client::{Connection, ConnectionRegistry, Method, Request};
use flowsigma_tests::bulk::{Found, load};
use flowsigma_tests::cluster::embedded_context;
use flowsigma_tests::proxy::{Fault, Proxy};
use serde_json::{Map, Value, json};
use std::sync::Arc;

const COLUMNS: usize = 270;
const DOCUMENTS: usize = 400;

/// The type and a value of each column; some documents lack it.
fn cell(column: usize, document: usize) -> (&'static str, Option<Value>) {
    let (number, there) = (column * 1000 + document, !(column + document).is_multiple_of(7));
    let (kind, value) = match column % 8 {
        0 => ("keyword", json!(format!("word {number}"))),
        1 => ("long", json!(number)),
        2 => ("double", json!(number as f64 + 0.5)),
        3 => ("boolean", json!(number.is_multiple_of(2))),
        4 => ("date", json!(1_700_000_000_000u64 + number as u64)),
        5 => ("ip", json!(format!("10.{}.{}.{}", column % 256, document / 256, document % 256))),
        6 => ("text", json!(format!("some text {number}"))),
        _ => ("integer", json!(number)),
    };
    (kind, there.then_some(value))
}

async fn make(connection: &Connection) {
    let delete =
        Request::new(Method::Delete, "/wide", "delete a test index").with_param("ignore_unavailable", "true");
    connection.send(&delete).await.unwrap();
    let mut properties = Map::new();
    for column in 0..COLUMNS {
        properties.insert(format!("c{column}"), json!({ "type": cell(column, 0).0 }));
    }
    let create = Request::new(Method::Put, "/wide", "create a test index").with_body(&json!({
        "settings": { "number_of_shards": 3, "number_of_replicas": 0 },
        "mappings": { "properties": properties },
    }));
    connection.send(&create).await.unwrap();
    let document = |number: usize| {
        let cells = (0..COLUMNS).filter_map(|c| Some((format!("c{c}"), cell(c, number).1?)));
        json!(cells.collect::<Map<String, Value>>())
    };
    let documents: Vec<Value> = (0..DOCUMENTS).map(document).collect();
    let by_id = documents.iter().enumerate().map(|(id, document)| (format!("{id:03}"), document));
    load(connection, "wide", by_id, Found::AtOnce).await.unwrap();
}

async fn table(registry: &Arc<ConnectionRegistry>, ctx: &SessionContext, with: &[(&str, &str)]) {
    let with = options(&[&[("metadata", "_id"), ("page_size", "70")], with].concat());
    let table = EsTable::try_new(Arc::clone(registry), "test", "wide", &with).await.unwrap();
    ctx.deregister_table("t").unwrap();
    ctx.register_table("t", Arc::new(table)).unwrap();
}

async fn read(ctx: &SessionContext, sql: &str) -> Result<RecordBatch> {
    let plan = ctx.sql(sql).await?.into_unoptimized_plan();
    let (plan, open) = open_contexts(plan).await?;
    let rows = async { ctx.execute_logical_plan(plan).await?.collect().await }.await;
    open.close().await?;
    let rows = rows?;
    Ok(concat_batches(&rows[0].schema(), &rows)?)
}

/// The same rows by few columns at a time.
async fn assert_same_by_parts(ctx: &SessionContext, all: &RecordBatch, order: &str, how: &str) {
    let names: Vec<String> = all.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names.len(), COLUMNS + 1, "{how}");
    for part in names.chunks(30) {
        let columns: Vec<String> = part.iter().map(|name| format!("\"{name}\"")).collect();
        let part_rows = read(ctx, &format!("SELECT {} FROM t {order}", columns.join(", "))).await.unwrap();
        assert_eq!(part_rows.num_rows(), all.num_rows(), "{how}");
        for name in part {
            assert_eq!(part_rows.column_by_name(name), all.column_by_name(name), "{how}: {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_columns_than_doc_values_in_one_answer_are_read_exactly() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&[&url], None);
        let connection = registry.get("test").unwrap();
        make(&connection).await;
        let embedded = embedded_context(Arc::clone(&registry)).await.unwrap();
        for (ctx, kind) in [(&embedded, "cluster"), (&SessionContext::new(), "process")] {
            table(&registry, ctx, &[]).await;
            let how = format!("{url} {kind}");
            for order in ["ORDER BY _id", "ORDER BY c0 DESC, c1 LIMIT 45"] {
                let all = read(ctx, &format!("SELECT * FROM t {order}")).await.unwrap();
                assert_same_by_parts(ctx, &all, order, &how).await;
            }
            let some = read(ctx, "SELECT * FROM t WHERE c257 = 257005 OR c6 LIKE '%6012' ORDER BY _id")
                .await
                .unwrap();
            assert_eq!(some.num_rows(), 2, "{how}");
            assert_eq!(read(ctx, "SELECT * FROM t LIMIT 5").await.unwrap().num_rows(), 5, "{how}");
        }
        table(&registry, &embedded, &[("read", "scroll")]).await;
        let narrow = read(&embedded, "SELECT c0, c1, c2 FROM t").await.unwrap();
        assert_eq!(narrow.num_rows(), DOCUMENTS, "{url}");
        let error = read(&embedded, "SELECT * FROM t").await.unwrap_err().to_string();
        assert!(error.contains("index \"wide\": 237 columns are read from doc values"), "{url}: {error}");
        assert_nothing_open(&connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_in_one_of_the_requests_for_a_page_is_mended_or_said() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        make(&direct).await;
        let ctx = SessionContext::new();
        let pages = Proxy::start(&url, |_| Fault::None).await.unwrap();
        // No look for ignored values.
        let with = [("ignored", "null")];
        table(&registry(&[&pages.url], None), &ctx, &with).await;
        let all = read(&ctx, "SELECT * FROM t ORDER BY _id").await.unwrap();
        let pages = pages.pages();
        assert!(pages >= 3 * 7, "{url}: {pages}");
        let faults: [(&str, bool, Fault); 5] = [
            ("503", true, Fault::status(503, "unavailable")),
            ("a row less", false, Fault::Rewrite(|body| drop(hits(body).pop()))),
            (
                "a row twice",
                false,
                Fault::Rewrite(|body| {
                    let first = hits(body).first().cloned();
                    hits(body).extend(first);
                }),
            ),
            (
                "other rows",
                false,
                Fault::Rewrite(|body| {
                    if let Some(last) = hits(body).last_mut() {
                        last["sort"] = json!([1_234_567]);
                    }
                }),
            ),
            ("failed shard", false, Fault::Rewrite(|body| body["_shards"]["failed"] = json!(1))),
        ];
        for (name, mended, fault) in faults {
            for page in (0..pages).step_by(7) {
                let proxy = Proxy::break_page(&url, page, fault.clone()).await.unwrap();
                table(&registry(&[&proxy.url], None), &ctx, &with).await;
                let how = format!("{url} {name} page {page} of {pages}");
                match read(&ctx, "SELECT * FROM t ORDER BY _id").await {
                    Ok(rows) => assert_eq!(rows, all, "{how}"),
                    Err(e) => {
                        assert!(!mended && e.to_string().contains("index \"wide\" slice "), "{how}: {e}")
                    }
                }
            }
        }
        direct.send(&Request::new(Method::Delete, "/wide", "delete")).await.unwrap();
        assert_nothing_open(&direct).await;
    }
}

fn hits(body: &mut Value) -> &mut Vec<Value> {
    body["hits"]["hits"].as_array_mut().unwrap()
}
