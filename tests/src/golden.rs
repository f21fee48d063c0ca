//! The golden flows: 1,430 documents whose statistics are known, and others that must not count.

use crate::bulk::{self, Found};
use anyhow::{Context, Result};
use elastic_client::{Connection, Method, Request};
use serde_json::{Value, json};

/// Source, destination, flows.
pub const FLOWS: [(&str, &str, usize); 13] = [
    ("10.52.1.0", "20.52.101.0", 7),
    ("10.52.1.1", "20.52.101.1", 8),
    ("10.52.1.2", "20.52.101.2", 9),
    ("10.52.1.3", "20.52.101.3", 13),
    ("10.52.1.4", "20.52.101.4", 13),
    ("10.52.1.5", "20.52.101.5", 7),
    ("10.52.1.6", "20.52.101.6", 7),
    ("10.52.1.7", "20.52.101.7", 9),
    ("10.52.1.8", "20.52.101.8", 12),
    ("10.52.1.9", "20.52.101.9", 13),
    ("20.54.0.162", "10.54.0.162", 1253),
    ("20.54.0.172", "10.54.0.172", 73),
    ("20.54.0.182", "10.54.0.182", 6),
];

/// The notebook's query, as it was written for Elasticsearch 2.
pub const NOTEBOOK_QUERY: &str = r#"{"query": {"filtered": {"query": {"match_all": {}}, "filter": {"bool": {
  "must": {"range": {"@timestamp": {"gte": "now-1h", "lt": "now"}}},
  "should": [{"term": {"src_addr_space": "private"}}, {"term": {"dst_addr_space": "private"}}]}}}},
  "_source": ["netflow.ipv4_src_addr", "netflow.ipv4_dst_addr"]}"#;

fn document(source: &str, destination: &str, at: i64, spaces: (&str, &str)) -> Value {
    json!({
        "@timestamp": at,
        "src_addr_space": spaces.0,
        "dst_addr_space": spaces.1,
        "netflow": { "ipv4_src_addr": source, "ipv4_dst_addr": destination, "bytes": at % 1500 },
    })
}

/// The 1,430 documents that count and 300 that do not: too old, in the future, and with neither
/// side private.
pub fn documents() -> Vec<Value> {
    let now = chrono::Utc::now().timestamp_millis();
    let mut all = Vec::new();
    for (source, destination, flows) in FLOWS {
        for i in 0..flows {
            let at = now - 60_000 - (i as i64 % 40) * 60_000;
            let spaces = if i % 2 == 0 { ("private", "public") } else { ("public", "private") };
            all.push(document(source, destination, at, spaces));
        }
    }
    for i in 0..100 {
        all.push(document("10.52.1.0", "20.52.101.0", now - 2 * 3_600_000 - i, ("private", "public")));
        all.push(document("10.52.1.0", "20.52.101.0", now + 3_600_000 + i, ("private", "public")));
        all.push(document("10.52.1.0", "20.52.101.0", now - 60_000 - i, ("public", "public")));
    }
    all
}

/// Makes an index with `shards` shards whose addresses are mapped as `address_type`, and loads
/// `documents` into it.
pub async fn load(
    connection: &Connection,
    index: &str,
    shards: u32,
    address_type: &str,
    documents: &[Value],
) -> Result<()> {
    let address = json!({ "type": address_type });
    let keyword = json!({ "type": "keyword" });
    let create = Request::new(Method::Put, format!("/{index}"), "create a test index").with_body(&json!({
        "settings": { "number_of_shards": shards, "number_of_replicas": 0 },
        "mappings": { "properties": {
            "@timestamp": { "type": "date" },
            "src_addr_space": keyword, "dst_addr_space": keyword,
            "netflow": { "properties": {
                "ipv4_src_addr": address, "ipv4_dst_addr": address, "bytes": { "type": "long" },
            } },
        } },
    }));
    connection.send(&create).await?;
    // With ids of their own, documents are in the same shards each time.
    let documents = documents.iter().enumerate().map(|(id, document)| (format!("flow-{id}"), document));
    bulk::load(connection, index, documents, Found::AtOnce).await
}

/// How many points in time and scrolls the server holds open.
pub async fn count_open_contexts(connection: &Connection) -> Result<u64> {
    let stats = Request::new(Method::Get, "/_nodes/stats/indices/search", "count open contexts");
    let body = connection.send(&stats).await?.json("stats")?;
    let nodes = body["nodes"].as_object().context("no nodes")?;
    Ok(nodes.values().filter_map(|n| n["indices"]["search"]["open_contexts"].as_u64()).sum())
}
