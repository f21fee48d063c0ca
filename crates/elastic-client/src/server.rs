//! The server: its product, its version, and its support for points in time (PITs).
//!
//! Owns: the detection of the server. Must not know: indices.

use crate::connection::Connection;
use crate::error::Error;
use crate::paths;
use crate::request::{Method, Request};
use serde_json::Value;

/// The product of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Elasticsearch.
    Elasticsearch,
    /// OpenSearch.
    OpenSearch,
}

/// The version of a server: major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Reads a version such as `8.8.2`, `3.0.0-beta1` or `2`. Missing parts are 0. Returns `None` if the major version
    /// is not a number.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(['.', '-']).map(|p| p.parse::<u32>().ok());
        let major = parts.next()??;
        Some(Self(major, parts.next().flatten().unwrap_or(0), parts.next().flatten().unwrap_or(0)))
    }
}

/// A server's product and version. A server that does not reveal its version is assumed to be recent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// The product.
    pub product: Product,
    /// The version, if the server reveals it.
    pub version: Option<Version>,
}

/// The kind of search context that a server supports for a sliced read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PitSupport {
    /// One PIT over all indices, sliced by shard: Elasticsearch 7.15 and later
    /// ([API](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/point-in-time-api.html)).
    SharedPit,
    /// One PIT for each index, because a shared PIT skips rows: OpenSearch 2.4 and later
    /// ([API](https://docs.opensearch.org/latest/search-plugins/searching-data/point-in-time-api/)).
    PitPerIndex,
    /// Only sliced scrolls.
    ScrollOnly,
}

impl Server {
    /// The version since which Elasticsearch lists in `_ignored` the fields with a value dropped by `ignore_above`.
    ///
    /// The list is made when a document is indexed, so the version that created the index decides.
    pub const NOTES_IGNORED_KEYWORDS: (u32, u32) = (7, 15);

    /// Returns whether `_ignored` lists the fields with a value dropped by `ignore_above`. Every server lists those
    /// with a value dropped by `ignore_malformed`.
    pub fn notes_ignored_keywords(&self) -> bool {
        match self.product {
            Product::Elasticsearch => {
                let (major, minor) = Self::NOTES_IGNORED_KEYWORDS;
                self.version.is_none_or(|v| v >= Version(major, minor, 0))
            }
            Product::OpenSearch => false,
        }
    }

    /// Returns the kind of search context that this server supports.
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

/// Returns the product and the version of the server.
///
/// The setting `server` of the connection has precedence. Otherwise `GET /` returns both. If the server refuses that,
/// `GET /_nodes/_local` returns the version, and a response header or `GET /_security/_authenticate` reveals the
/// product.
///
/// # Errors
///
/// If the setting `server` is invalid, or if the server does not respond or reports another error.
pub async fn fetch_server(connection: &Connection) -> Result<Server, Error> {
    let operation = "read the server's version";
    if let Some(text) = connection.declared_server() {
        return Server::parse_declared(text).ok_or_else(|| {
            Error::Refused(format!(
                "connection \"{}\": server = \"{text}\" is not a known server; write \"elasticsearch 8.8.2\" \
                 or \"opensearch 2.19.1\"",
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

/// Returns whether the server is Elasticsearch, for a user without the permission to read the version. Some refusals
/// have the header `X-Elastic-Product`, but those of the security module do not (8.8.2). `GET /_security/_authenticate`
/// is allowed for every user of Elasticsearch, and OpenSearch has no such path.
async fn is_elasticsearch(connection: &Connection, refused: &Request) -> bool {
    let who = Request::new(Method::Get, paths::authenticate(), "read the authenticated user");
    connection.is_elasticsearch(refused).await || connection.send(&who).await.is_ok()
}

/// Sends a request and returns the response as JSON.
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
