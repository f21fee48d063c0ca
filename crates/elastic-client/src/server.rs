//! What answers: product, version, and which points in time it can hold.
//!
//! Owns: the detection of a server. Must not know: indices.

use crate::connection::Connection;
use crate::error::Error;
use crate::paths;
use crate::request::{Method, Request};
use serde_json::Value;

/// Who made the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Elastic's.
    Elasticsearch,
    /// The OpenSearch project's.
    OpenSearch,
}

/// Major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Reads `8.8.2`, `3.0.0-beta1`, `2`; missing parts are 0.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(['.', '-']).map(|p| p.parse::<u32>().ok());
        let major = parts.next()??;
        Some(Self(major, parts.next().flatten().unwrap_or(0), parts.next().flatten().unwrap_or(0)))
    }
}

/// A server, as far as it tells. Where it hides its version, it is a recent one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Product.
    pub product: Product,
    /// Version, where told.
    pub version: Option<Version>,
}

/// How a server can hold one state of an index for a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PitSupport {
    /// One PIT over all indices, sliced by shard (Elasticsearch 7.15).
    SharedPit,
    /// One PIT an index (OpenSearch 2.4): a shared one skips rows there.
    PitPerIndex,
    /// Sliced scroll.
    ScrollOnly,
}

impl Server {
    /// From when on Elasticsearch notes in `_ignored` the fields of which a value was left out for
    /// `ignore_above`: of documents that are indexed since, so it is the index's version that counts.
    pub const NOTES_IGNORED_KEYWORDS: (u32, u32) = (7, 15);

    /// Whether `_ignored` names the fields of which a value was left out for `ignore_above`, as it
    /// does those of malformed values everywhere.
    pub fn notes_ignored_keywords(&self) -> bool {
        match self.product {
            Product::Elasticsearch => {
                let (major, minor) = Self::NOTES_IGNORED_KEYWORDS;
                self.version.is_none_or(|v| v >= Version(major, minor, 0))
            }
            Product::OpenSearch => false,
        }
    }

    /// How this server opens a point in time.
    pub fn pit_support(&self) -> PitSupport {
        let since = |version| self.version.is_none_or(|v| v >= version);
        match self.product {
            Product::Elasticsearch if since(Version(7, 15, 0)) => PitSupport::SharedPit,
            Product::OpenSearch if since(Version(2, 4, 0)) => PitSupport::PitPerIndex,
            Product::Elasticsearch | Product::OpenSearch => PitSupport::ScrollOnly,
        }
    }

    fn parse_declared(text: &str) -> Option<Self> {
        let (product, version) = text.split_once([' ', '-']).unwrap_or((text, ""));
        let product = match product.to_ascii_lowercase().as_str() {
            "elasticsearch" => Product::Elasticsearch,
            "opensearch" => Product::OpenSearch,
            _ => return None,
        };
        Some(Self { product, version: Version::parse(version) })
    }
}

/// Asks `GET /`; where that is refused, `GET /_nodes/_local` for the version and
/// `is_elasticsearch` for the product. The configuration's `server` goes before all.
pub async fn fetch_server(connection: &Connection) -> Result<Server, Error> {
    let operation = "ask the server's version";
    if let Some(text) = connection.declared_server() {
        return Server::parse_declared(text).ok_or_else(|| {
            Error::Refused(format!(
                "connection \"{}\": server = \"{text}\" is not a server; write \"elasticsearch 8.8.2\" or \"opensearch 2.19.1\"",
                connection.name()
            ))
        });
    }
    let root = Request::new(Method::Get, paths::info(), operation);
    match connection.send(&root).await {
        Ok(response) => {
            let body = response.json(operation)?;
            let version = body["version"]["number"].as_str().and_then(Version::parse);
            let product = if body["version"]["distribution"] == "opensearch" {
                Product::OpenSearch
            } else {
                Product::Elasticsearch
            };
            return Ok(Server { product, version });
        }
        Err(e) if matches!(e.status(), Some(403 | 404 | 405 | 410)) => {}
        Err(e) => return Err(e),
    }
    let is_elasticsearch = is_elasticsearch(connection, &root).await;
    let nodes = Request::new(Method::Get, paths::local_node(), operation)
        .with_param("filter_path", "nodes.*.version");
    let version = match connection.send(&nodes).await {
        Ok(response) => response.json(operation)?["nodes"]
            .as_object()
            .and_then(|nodes| nodes.values().next())
            .and_then(|node| node["version"].as_str())
            .and_then(Version::parse),
        Err(e) if matches!(e.status(), Some(403 | 404 | 405 | 410)) => None,
        Err(e) => return Err(e),
    };
    let product = if is_elasticsearch { Product::Elasticsearch } else { Product::OpenSearch };
    Ok(Server { product, version })
}

/// Tells the products apart for a user who may ask for neither version nor nodes. Some refusals
/// carry `X-Elastic-Product`, those of security do not (8.8.2); but Elasticsearch tells whoever is
/// signed in who they are, at a path that OpenSearch does not have.
async fn is_elasticsearch(connection: &Connection, refused: &Request) -> bool {
    let who = Request::new(Method::Get, paths::authenticate(), "ask who is signed in");
    connection.is_elasticsearch(refused).await || connection.send(&who).await.is_ok()
}

/// A JSON answer to a GET.
pub(crate) async fn fetch_json(connection: &Connection, request: Request) -> Result<Value, Error> {
    let response = connection.send(&request).await?;
    response.json(&request.operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pit_support_follows_from_product_and_version() {
        for (text, expected) in [
            ("elasticsearch 9.2.0", PitSupport::SharedPit),
            ("elasticsearch 7.15.0", PitSupport::SharedPit),
            ("elasticsearch 7.14.2", PitSupport::ScrollOnly),
            ("elasticsearch", PitSupport::SharedPit),
            ("opensearch 3.3.0", PitSupport::PitPerIndex),
            ("opensearch-2.4.0", PitSupport::PitPerIndex),
            ("opensearch 2.3.1", PitSupport::ScrollOnly),
        ] {
            assert_eq!(Server::parse_declared(text).unwrap().pit_support(), expected, "{text}");
        }
        assert_eq!(Server::parse_declared("solr 9"), None);
    }
}
