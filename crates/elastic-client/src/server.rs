//! The detection of the server: its product and its version.
//!
//! Owns: the requests that reveal them. Must not know: indices, or what follows from the version.

use crate::connection::Connection;
use crate::error::Error;
use crate::paths;
use crate::product::{Product, Server, Version};
use crate::request::{Method, Request};
use serde_json::Value;

/// Returns the product and the version of the server. The connection remembers them for 5 s.
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
    if let Some(server) = connection.known_server().get() {
        return Ok(server);
    }
    let server = ask_server(connection, operation).await?;
    connection.known_server().set(server);
    Ok(server)
}

async fn ask_server(connection: &Connection, operation: &str) -> Result<Server, Error> {
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
