//! Loading documents through the official client.
//!
//! Owns: writing to an index by an implementation that is not ours, beside which ours is tested. Must not know: what
//! the documents are.
//!
//! The official client asks no server which product it is, so that it loads OpenSearch as well. It is built here
//! without TLS and knows no credentials of ours: where a connection has those, its bodies are sent over that.

use anyhow::{Context, Result, ensure};
use elastic_client::{Connection, Method, Request};
use elasticsearch::http::request::Body;
use elasticsearch::http::transport::{SingleNodeConnectionPool, TransportBuilder};
use elasticsearch::params::Refresh;
use elasticsearch::{BulkOperation, BulkOperations, BulkParts, Elasticsearch};
use serde_json::Value;

/// When loaded documents are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Once they are loaded.
    AtOnce,
    /// Once the index is refreshed.
    Later,
}

/// Indexes these documents by their ids and returns the response, whose items may be errors.
///
/// # Errors
/// If the whole request failed.
pub async fn bulk(
    connection: &Connection,
    index: &str,
    documents: impl IntoIterator<Item = (String, &Value)>,
    found: Found,
) -> Result<Value> {
    let mut operations = BulkOperations::new();
    for (id, document) in documents {
        operations.push(BulkOperation::index(document).id(id))?;
    }
    let Some(client) = official(connection).await? else {
        let mut request = Request::new(Method::Post, format!("/{index}/_bulk"), "load a test index")
            .with_param("refresh", (found == Found::AtOnce).to_string());
        request.body = operations.bytes();
        return Ok(connection.send(&request).await?.json("load")?);
    };
    let refresh = if found == Found::AtOnce { Refresh::True } else { Refresh::False };
    let bulk = client.bulk(BulkParts::Index(index)).body(vec![operations]).refresh(refresh);
    let response = bulk.send().await?;
    let status = response.status_code();
    let body = response.text().await?;
    ensure!(status.is_success(), "the official client's bulk: {status}: {body}");
    Ok(serde_json::from_str(&body)?)
}

/// Indexes these documents by their ids.
///
/// # Errors
/// If one of them was refused.
pub async fn load(
    connection: &Connection,
    index: &str,
    documents: impl IntoIterator<Item = (String, &Value)>,
    found: Found,
) -> Result<()> {
    let response = bulk(connection, index, documents, found).await?;
    let refused = response["items"].as_array().context("no items")?.iter();
    let refused = refused.map(|item| &item["index"]).find(|item| item["error"].is_object());
    ensure!(refused.is_none(), "index {index:?}: a document was refused: {refused:?}");
    Ok(())
}

/// The official client for a connection's first node; none if that needs TLS or credentials.
async fn official(connection: &Connection) -> Result<Option<Elasticsearch>> {
    let node = connection.nodes().next().context("no node")?;
    if node.scheme() != "http" {
        return Ok(None);
    }
    let transport =
        TransportBuilder::new(SingleNodeConnectionPool::new(node.clone())).disable_proxy().build()?;
    let client = Elasticsearch::new(transport);
    let status = client.info().send().await?.status_code().as_u16();
    // A distribution without the module for `GET /` refuses the method. It has no credentials.
    ensure!([200, 401, 405].contains(&status), "the official client's info: {status} from {node}");
    Ok((status != 401).then_some(client))
}
