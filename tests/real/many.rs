//! Many shards and many indices behind one name, beyond what one point in time (PIT) or a server's limit holds.

use crate::command::{assert_golden, flowsigma, stderr, stdout};
use crate::golden::{alone, assert_nothing_open, registry, servers};
use bytes::Bytes;
use elastic_client::{Connection, Method, Product, Request, fetch_server};
use flowsigma_tests::golden::{NOTEBOOK_QUERY, documents, load};
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::Instant;

const INDICES_AT_ONCE: usize = 8;

fn name(prefix: &str, number: usize) -> String {
    format!("{prefix}-{number:04}")
}

async fn set(connection: &Connection, setting: &str, value: Value) {
    let request = Request::new(Method::Put, "/_cluster/settings", "set a limit")
        .with_body(&json!({ "persistent": { setting: value } }));
    connection.send(&request).await.unwrap();
}

/// Servers refuse to delete a pattern.
async fn delete(connection: &Connection, prefix: &str, count: usize) {
    let names: Vec<String> = (0..count).map(|number| name(prefix, number)).collect();
    for names in names.chunks(100) {
        let delete = Request::new(Method::Delete, format!("/{}", names.join(",")), "delete test indices")
            .with_param("ignore_unavailable", "true");
        connection.send(&delete).await.unwrap();
    }
}

/// What `detect` says of all indices with this prefix.
fn detect(url: &str, prefix: &str, read: &str) -> Result<Value, String> {
    let index = format!("{prefix}-*");
    let scope = ["--url", url, "--index", &index, "--query", NOTEBOOK_QUERY];
    let output = flowsigma(
        &[&["detect", "--format", "json", "--option", &format!("read={read}")], &scope[..]].concat(),
    );
    match output.status.success() {
        true => Ok(serde_json::from_str(stdout(&output)).unwrap()),
        false => Err(stderr(&output).to_owned()),
    }
}

/// The search contexts of a `detect` over all indices with this prefix, as its plan names them.
fn read_from(url: &str, prefix: &str) -> String {
    let index = format!("{prefix}-*");
    let scope = ["--url", url, "--index", &index, "--query", NOTEBOOK_QUERY];
    let output = flowsigma(&[&["plan", "--format", "json"], &scope[..]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let plan: Value = serde_json::from_str(stdout(&output)).unwrap();
    plan["read_from"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_shards_are_read_by_several_points_in_time_or_by_scroll() {
    const INDICES: usize = 10;
    const SHARDS: u32 = 14;
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        delete(&connection, "shards", INDICES).await;
        let documents = documents();
        for number in 0..INDICES {
            // Each index has documents that the query finds, so that none is skipped.
            let part: Vec<_> = documents.iter().skip(number).step_by(INDICES).cloned().collect();
            load(&connection, &name("shards", number), SHARDS, "keyword", &part).await.unwrap();
        }
        let response = detect(&url, "shards", "auto").unwrap();
        assert_golden(&response, &url);
        assert_eq!(response["coverage"]["slices"], 140, "{url}");
        assert_eq!(
            response["coverage"]["consistency"], "point_in_time",
            "{url}: a limit is left from before?"
        );
        match fetch_server(&connection).await.unwrap().product {
            Product::Elasticsearch => {
                assert_eq!(read_from(&url, "shards"), "point in time per group of indices");
            }
            Product::OpenSearch => {
                assert_eq!(read_from(&url, "shards"), "point in time per index");
                set(&connection, "search.max_open_pit_context", json!(100)).await;
                let (auto, pit) = (detect(&url, "shards", "auto"), detect(&url, "shards", "pit"));
                set(&connection, "search.max_open_pit_context", Value::Null).await;
                let auto = auto.unwrap();
                assert_golden(&auto, &url);
                assert_eq!(auto["coverage"]["consistency"], "scroll");
                let error = pit.unwrap_err();
                let said = "read = \"pit\" needs 140 points in time on 1 OpenSearch nodes, one for each shard, \
                            but search.max_open_pit_context of the server allows 100 per node";
                assert!(error.contains(said), "{error}");
            }
        }
        assert_nothing_open(&connection).await;
        delete(&connection, "shards", INDICES).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes to make the indices; scripts/test --long"]
async fn a_thousand_indices_are_read_exactly() {
    const INDICES: usize = 1_000;
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        set(&connection, "cluster.max_shards_per_node", json!(3_000)).await;
        delete(&connection, "thousand", INDICES).await;
        let keyword = json!({ "type": "keyword" });
        let create = json!({
            "settings": { "number_of_shards": 1, "number_of_replicas": 0 },
            "mappings": { "properties": {
                "@timestamp": { "type": "date" }, "src_addr_space": keyword, "dst_addr_space": keyword,
                "netflow": { "properties": { "ipv4_src_addr": keyword, "ipv4_dst_addr": keyword } },
            } },
        });
        futures::stream::iter(0..INDICES)
            .for_each_concurrent(INDICES_AT_ONCE, |number| {
                let path = format!("/{}", name("thousand", number));
                let create = Request::new(Method::Put, path, "create a test index").with_body(&create);
                let connection = &connection;
                async move { drop(connection.send(&create).await.unwrap()) }
            })
            .await;
        let mut body = String::new();
        for (number, document) in documents().iter().enumerate() {
            let index = name("thousand", number % INDICES);
            body.push_str(&format!("{}\n{document}\n", json!({ "index": { "_index": index } })));
        }
        let mut bulk =
            Request::new(Method::Post, "/_bulk", "load test indices").with_param("refresh", "true");
        bulk.body = Some(Bytes::from(body));
        let loaded = connection.send(&bulk).await.unwrap().json("load").unwrap();
        assert_eq!(loaded["errors"], false, "{}", loaded["items"][0]);
        let started = Instant::now();
        let response = detect(&url, "thousand", "auto").unwrap();
        let took = started.elapsed();
        assert_golden(&response, &url);
        let (read, skipped) = (&response["coverage"]["slices"], &response["coverage"]["skipped_indices"]);
        assert_eq!(read.as_u64().unwrap() + skipped.as_u64().unwrap(), INDICES as u64, "{url}");
        println!("{url}: {took:?}");
        assert_nothing_open(&connection).await;
        delete(&connection, "thousand", INDICES).await;
        set(&connection, "cluster.max_shards_per_node", Value::Null).await;
    }
}
