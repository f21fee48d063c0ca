//! What a pushed filter must not lose, case by case; the random ones are in `differential.rs`.

use crate::golden::{ALONE, count, options, registry, remake, servers};
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::EsTable;
use elastic_client::{Connection, Method, Request};
use flowsigma_tests::cluster::Cluster;
use flowsigma_tests::cluster::{embedded_context, remote_context};
use serde_json::{Value, json};
use std::sync::Arc;

async fn send(connection: &Connection, method: Method, path: &str, body: Value) {
    let request = Request::new(method, path, "prepare a test index").with_param("refresh", "true");
    connection.send(&request.with_body(&body)).await.unwrap();
}

async fn put_mapping(connection: &Connection, index: &str, properties: Value) {
    let request = Request::new(Method::Put, format!("/{index}/_mapping"), "map a field")
        .with_body(&json!({ "properties": properties }));
    connection.send(&request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_older_than_the_keyword_of_its_text_is_found() {
    let _alone = ALONE.lock().await;
    for url in servers() {
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "late", 1, "keyword").await;
        put_mapping(&connection, "late", json!({ "note": { "type": "text" } })).await;
        send(&connection, Method::Put, "/late/_doc/old", json!({ "note": "same" })).await;
        let raw = json!({ "note": { "type": "text", "fields": { "raw": { "type": "keyword" } } } });
        put_mapping(&connection, "late", raw).await;
        send(&connection, Method::Put, "/late/_doc/new", json!({ "note": "same" })).await;
        let table = EsTable::try_new(Arc::clone(&registry), "test", "late", &options(&[])).await.unwrap();
        let ctx = SessionContext::new();
        ctx.register_table("t", Arc::new(table)).unwrap();
        for (condition, rows) in [("note = 'same'", 2), ("note LIKE 's%'", 2), ("note <> 'same'", 0)] {
            let sql = format!("SELECT count(*) FROM t WHERE {condition}");
            assert_eq!(count(&ctx, &sql).await.unwrap(), rows, "{url} {condition}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_filter_hides_a_document_of_which_one_value_would_be_kept() {
    let _alone = ALONE.lock().await;
    for url in servers() {
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "twice", 1, "keyword").await;
        let properties = json!({
            "k": { "type": "keyword" }, "n": { "type": "long" }, "d": { "type": "double" },
            "ip": { "type": "ip" }, "flag": { "type": "boolean" }, "at": { "type": "date" },
        });
        put_mapping(&connection, "twice", properties).await;
        let document = json!({
            "k": ["a", "b"], "n": [1, 3], "d": [0.5, 1.5], "ip": ["10.0.0.1", "11.0.0.1"],
            "flag": [true, false], "at": ["1969-01-01", "2024-01-01"],
        });
        send(&connection, Method::Put, "/twice/_doc/1", document).await;
        let table = EsTable::try_new(Arc::clone(&registry), "test", "twice", &options(&[])).await.unwrap();
        let ctx = SessionContext::new();
        for function in datafusion_elasticsearch::functions() {
            ctx.register_udf(function.as_ref().clone());
        }
        ctx.register_table("t", Arc::new(table)).unwrap();
        for kept in [
            "k <> 'a'",
            "NOT (k = 'a')",
            "k NOT IN ('a', 'c')",
            "k NOT LIKE 'a%'",
            "k NOT LIKE '%a'",
            "k NOT ILIKE 'A'",
            "k IS DISTINCT FROM 'a'",
            "k NOT BETWEEN 'a' AND 'aa'",
            "n <> 1",
            "n NOT BETWEEN 0 AND 2",
            "NOT (n > 1)",
            "NOT (n = 1 OR k = 'b')",
            "d <> 0.5",
            "ip <> '10.0.0.1'",
            "NOT cidr(ip, '10.0.0.0/8')",
            "NOT flag",
            "flag IS NOT TRUE",
            "at <> '1969-01-01'",
            "k IS NOT NULL",
        ] {
            let error = count(&ctx, &format!("SELECT count(*) FROM t WHERE {kept}")).await;
            let error = error.expect_err(kept).to_string();
            assert!(error.contains("more than one value"), "{url} {kept}: {error}");
        }
        // The 1,730 other documents have none of these fields.
        for (dropped, rows) in [("k = 'c'", 0), ("n = 2", 0), ("k IS NULL", 1730), ("ip = '12.0.0.1'", 0)] {
            let sql = format!("SELECT count(*) FROM t WHERE {dropped}");
            assert_eq!(count(&ctx, &sql).await.unwrap(), rows, "{url} {dropped}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_before_1970_equals_itself() {
    let _alone = ALONE.lock().await;
    for url in servers() {
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "dated", 1, "keyword").await;
        put_mapping(&connection, "dated", json!({ "at": { "type": "date" } })).await;
        for day in ["0001-01-01", "1900-01-01", "9999-12-31"] {
            send(&connection, Method::Put, &format!("/dated/_doc/{day}"), json!({ "at": day })).await;
        }
        let table = EsTable::try_new(Arc::clone(&registry), "test", "dated", &options(&[])).await.unwrap();
        let ctx = SessionContext::new();
        ctx.register_table("t", Arc::new(table)).unwrap();
        // DataFusion reads a text as nanoseconds, which these years are beyond.
        let at = |text: &str| format!("arrow_cast('{text}', 'Timestamp(Millisecond, None)')");
        let (first, last) = (at("0001-01-01T00:00:00"), at("9999-12-31T23:59:59.999"));
        for (condition, rows) in [
            ("at = '1900-01-01'".to_owned(), 1),
            ("at <> '1900-01-01'".to_owned(), 2),
            (format!("at <= {first}"), 1),
            (format!("at < {first}"), 0),
            (format!("at > {last}"), 0),
            (format!("at < {last}"), 3),
        ] {
            let sql = format!("SELECT count(*) FROM t WHERE {condition}");
            assert_eq!(count(&ctx, &sql).await.unwrap(), rows, "{url} {condition}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cidr_is_a_function_on_every_node() {
    let _alone = ALONE.lock().await;
    for url in servers() {
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        let config = format!("[connections.test]\nnodes = [\"{url}\"]\n");
        let cluster = Cluster::start(1, 2, &config).await.unwrap();
        for address in ["keyword", "ip"] {
            remake(&connection, "networks", 2, address).await;
            for embedded in [true, false] {
                let ctx = match embedded {
                    true => embedded_context(Arc::clone(&registry)).await.unwrap(),
                    false => remote_context(Arc::clone(&registry), &cluster.scheduler_url).await.unwrap(),
                };
                let table = EsTable::try_new(Arc::clone(&registry), "test", "networks", &options(&[])).await;
                ctx.register_table("t", Arc::new(table.unwrap())).unwrap();
                let cidr = r#"cidr("netflow.ipv4_src_addr", '20.54.0.160/28')"#;
                for (condition, rows) in [(cidr.to_owned(), 1326), (format!("NOT {cidr}"), 404)] {
                    let sql = format!("SELECT count(*) FROM t WHERE {condition}");
                    let how = format!("{url} {address} embedded {embedded}: {condition}");
                    assert_eq!(count(&ctx, &sql).await.expect(&how), rows, "{how}");
                }
            }
        }
    }
}
