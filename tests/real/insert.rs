//! `INSERT INTO` a table of an index: each row is one document, also where responses are lost.

use crate::command::{flowsigma, stderr, stdout};
use crate::golden::{alone, assert_nothing_open, registry, remake, servers};
use elastic_client::{Connection, Method, Request};
use flowsigma_tests::cluster::Cluster;
use flowsigma_tests::golden::documents;
use flowsigma_tests::proxy::{Fault, Proxy};
use serde_json::{Value, json};
use std::process::Output;

const TARGET: &str = "inserted";

/// The number of documents in the index that is read.
fn flows() -> u64 {
    documents().len() as u64
}

/// Makes an empty index with a field of each kind that a row may have.
async fn make_target(connection: &Connection) {
    let delete =
        Request::new(Method::Delete, format!("/{TARGET}"), "delete").with_param("ignore_unavailable", "true");
    connection.send(&delete).await.unwrap();
    let create = Request::new(Method::Put, format!("/{TARGET}"), "create").with_body(&json!({
        "settings": { "number_of_shards": 2, "number_of_replicas": 0 },
        "mappings": { "properties": {
            "at": { "type": "date" }, "address": { "type": "ip" }, "name": { "type": "keyword" },
            "flows": { "type": "long" }, "share": { "type": "double" }, "known": { "type": "boolean" },
        } },
    }));
    connection.send(&create).await.unwrap();
}

/// The documents of the target, with their ids.
async fn written(connection: &Connection) -> Vec<(String, Value)> {
    let refresh = Request::new(Method::Post, format!("/{TARGET}/_refresh"), "refresh");
    connection.send(&refresh).await.unwrap();
    let search =
        Request::new(Method::Post, format!("/{TARGET}/_search"), "search").with_param("size", "10000");
    let found = connection.send(&search).await.unwrap().json("search").unwrap();
    let hits = found["hits"]["hits"].as_array().unwrap();
    let mut written: Vec<_> =
        hits.iter().map(|hit| (hit["_id"].as_str().unwrap().to_owned(), hit["_source"].clone())).collect();
    written.sort_by(|a, b| a.0.cmp(&b.0));
    written
}

/// Runs statements with two connections to one server: `reads` may read, and `writes` may write.
fn sql(reads: &str, writes: &str, scheduler: Option<&Cluster>, statement: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("flowsigma.toml");
    let text = format!(
        "[connections.reads]\nnodes = [\"{reads}\"]\n[connections.writes]\nnodes = [\"{writes}\"]\nwrite = true\n"
    );
    std::fs::write(&config, text).unwrap();
    let tables = ["reads", "writes"].map(|name| {
        format!(
            "CREATE EXTERNAL TABLE {name} STORED AS ELASTICSEARCH LOCATION 'elasticsearch://{name}/{TARGET}' \
             OPTIONS (metadata '_id'); \
             CREATE EXTERNAL TABLE {name}_flows STORED AS ELASTICSEARCH LOCATION 'elasticsearch://{name}/flows_to_insert'; "
        )
    });
    let statements = tables.concat() + statement;
    let scheduler = scheduler.map(|cluster| ["--scheduler", cluster.scheduler_url.as_str()]);
    let scheduler = scheduler.as_ref().map_or(&[][..], |args| &args[..]);
    let args = ["--config", config.to_str().unwrap(), "sql", "--format", "csv", "-c", &statements];
    flowsigma(&[&args[..], scheduler].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_is_one_document_also_where_responses_are_lost() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        remake(&connection, "flows_to_insert", 3, "keyword").await;
        make_target(&connection).await;
        // The first bulk request is written and its response lost, the second is refused for a while.
        let mut bulk = 0;
        let proxy = Proxy::start(&url, move |seen| {
            if !seen.path.ends_with("/_bulk") {
                return Fault::None;
            }
            bulk += 1;
            match bulk {
                1 => Fault::ResetAnswer,
                2 => Fault::status(429, "es_rejected_execution_exception"),
                _ => Fault::None,
            }
        })
        .await
        .unwrap();
        let counts = "INSERT INTO writes (address, flows, at) \
            SELECT \"netflow.ipv4_src_addr\", count(*), TIMESTAMP '2026-01-02T03:04:05.678' FROM reads_flows \
            GROUP BY 1";
        let inserted = sql(&proxy.url, &proxy.url, None, counts);
        assert!(inserted.status.success(), "{url}: {}", stderr(&inserted));
        let documents = written(&connection).await;
        assert_eq!(stdout(&inserted), format!("count\n{}\n", documents.len()), "{url}");
        let sum: u64 = documents.iter().map(|(_, document)| document["flows"].as_u64().unwrap()).sum();
        assert_eq!(sum, flows(), "{url}: each flow counts once");
        let scanner = documents.iter().find(|(_, document)| document["address"] == "20.54.0.162").unwrap();
        let expected = json!({ "address": "20.54.0.162", "flows": 1253, "at": "2026-01-02T03:04:05.678Z" });
        assert_eq!(scanner.1, expected, "{url}: no field for a column without a value");
        assert_nothing_open(&connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_makes_an_insert_repeatable_and_values_keep_their_types() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        remake(&connection, "flows_to_insert", 1, "keyword").await;
        make_target(&connection).await;
        let rows = "INSERT INTO writes (_id, name, flows, share, known) VALUES \
            ('a', 'x \"y\" é', 9223372036854775807, 0.1, true), ('b', NULL, -1, 1e300, false)";
        for _ in 0..2 {
            let inserted = sql(&url, &url, None, rows);
            assert!(inserted.status.success(), "{url}: {}", stderr(&inserted));
            assert_eq!(stdout(&inserted), "count\n2\n");
        }
        let expected = [
            ("a", json!({ "name": "x \"y\" é", "flows": i64::MAX, "share": 0.1, "known": true })),
            ("b", json!({ "flows": -1, "share": 1e300, "known": false })),
        ];
        assert_eq!(
            written(&connection).await,
            expected.map(|(id, document)| (id.to_owned(), document)),
            "{url}"
        );
        let read = sql(&url, &url, None, "SELECT name, flows FROM reads WHERE _id = 'a'");
        assert_eq!(stdout(&read), "name,flows\n\"x \"\"y\"\" é\",9223372036854775807\n", "{}", stderr(&read));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_computes_the_rows_and_the_client_writes_them() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        remake(&connection, "flows_to_insert", 3, "keyword").await;
        make_target(&connection).await;
        // Its processes may only read.
        let config =
            format!("[connections.reads]\nnodes = [\"{url}\"]\n[connections.writes]\nnodes = [\"{url}\"]\n");
        let cluster = Cluster::start(2, 2, &config).await.unwrap();
        let copy = "INSERT INTO writes (address) SELECT \"netflow.ipv4_src_addr\" FROM writes_flows";
        let inserted = sql(&url, &url, Some(&cluster), copy);
        assert_eq!(stdout(&inserted), format!("count\n{}\n", flows()), "{url}: {}", stderr(&inserted));
        assert_eq!(written(&connection).await.len() as u64, flows(), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_refused_and_named() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        remake(&connection, "flows_to_insert", 1, "keyword").await;
        make_target(&connection).await;
        for (statement, code, words) in [
            ("INSERT INTO reads (flows) VALUES (1)", 2, &["\"reads\" may only read", "write = true"][..]),
            (
                "INSERT INTO writes (flows) VALUES (1), (2); DELETE FROM writes",
                1,
                &["only INSERT INTO is possible"],
            ),
            (
                "INSERT INTO writes (address) VALUES ('no address')",
                1,
                &["INSERT INTO writes", "1 of 1 documents", "400"],
            ),
            ("INSERT INTO writes (share) VALUES (CAST('NaN' AS DOUBLE))", 1, &["column \"share\""]),
        ] {
            let refused = sql(&url, &url, None, statement);
            let error = stderr(&refused);
            assert_eq!(refused.status.code(), Some(code), "{url}: {statement}: {error}");
            assert!(words.iter().all(|word| error.contains(word)), "{statement}: {error}");
        }
        assert_eq!(written(&connection).await.len(), 2, "{url}: only what was right");
    }
}
