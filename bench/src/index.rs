//! The indices that the flows are loaded into.
//!
//! Owns: names, mappings and settings, and the requests that create, refresh and merge. Must not know: the content of
//! documents.

use anyhow::{Result, ensure};
use elasticsearch::Elasticsearch;
use elasticsearch::http::headers::HeaderMap;
use elasticsearch::http::{Method, request::JsonBody};
use serde_json::{Value, json};
use std::time::Duration;

/// The longest time of a request. A merge of millions of documents takes minutes.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The fields of the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shape {
    /// The fields of the notebook's index, with objects
    Flows,
    /// The two addresses as keywords at the top level: src, dst
    Flat,
}

/// The type of the address fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AddressType {
    /// The type keyword
    Keyword,
    /// The type ip
    Ip,
}

impl AddressType {
    fn mapping(self) -> Value {
        match self {
            Self::Keyword => json!({ "type": "keyword" }),
            Self::Ip => json!({ "type": "ip" }),
        }
    }
}

/// Returns the name of the index with this place among `indices`.
pub(crate) fn name(index: &str, place: u32, indices: u32) -> String {
    if indices == 1 { index.to_owned() } else { format!("{index}-{place:05}") }
}

/// Returns the mapping of a shape.
pub(crate) fn mapping(shape: Shape, addresses: AddressType) -> Value {
    let keyword = json!({ "type": "keyword" });
    let fields = |names: &[&str], kind: &str| {
        names.iter().map(|name| ((*name).to_owned(), json!({ "type": kind }))).collect::<Vec<_>>()
    };
    let properties = match shape {
        Shape::Flat => json!({ "src": keyword, "dst": keyword }),
        Shape::Flows => {
            let mut netflow = serde_json::Map::new();
            netflow.insert("ipv4_src_addr".into(), addresses.mapping());
            netflow.insert("ipv4_dst_addr".into(), addresses.mapping());
            let integers = [
                "l4_src_port",
                "l4_dst_port",
                "protocol",
                "tcp_flags",
                "src_tos",
                "input_snmp",
                "output_snmp",
                "src_mask",
                "dst_mask",
                "src_as",
                "dst_as",
            ];
            netflow.extend(fields(&integers, "integer"));
            netflow.extend(fields(&["in_bytes", "in_pkts", "flow_seq_num"], "long"));
            netflow.extend(fields(&["first_switched", "last_switched"], "date"));
            json!({
                "@timestamp": { "type": "date" },
                "@version": keyword,
                "src_addr_space": keyword,
                "dst_addr_space": keyword,
                "netflow": { "properties": netflow },
                "host": { "properties": { "name": keyword } },
                "agent": { "properties": { "name": keyword, "version": keyword } },
                "event": { "properties": { "dataset": keyword, "category": keyword } },
                "tags": keyword,
            })
        }
    };
    json!({ "dynamic": "strict", "properties": properties })
}

/// Sends a request, and fails unless it succeeds.
pub(crate) async fn send(
    client: &Elasticsearch,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value> {
    let body = body.map(JsonBody::new);
    let sent = client.send(method, path, HeaderMap::new(), None::<&()>, body, Some(LONGEST)).await?;
    let (status, text) = (sent.status_code(), sent.text().await?);
    ensure!(status.is_success(), "{path}: {status}: {text}");
    Ok(serde_json::from_str(&text)?)
}

/// Creates an index without replicas that is not refreshed while it is loaded.
pub(crate) async fn create(client: &Elasticsearch, name: &str, shards: u32, mapping: &Value) -> Result<()> {
    let settings = json!({ "number_of_shards": shards, "number_of_replicas": 0, "refresh_interval": "-1" });
    let body = json!({ "settings": settings, "mappings": mapping });
    send(client, Method::Put, &format!("/{name}"), Some(&body)).await?;
    Ok(())
}
