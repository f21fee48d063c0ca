//! The mappings of every index behind a name, as the server gives them.
//!
//! Owns: asking. Must not know: what a mapping means.

use crate::connection::Connection;
use crate::error::Error;
use crate::request::{Method, Request, encode_index};
use crate::server::fetch_json;
use serde_json::Value;

/// Concrete index and the value of its `mappings`.
pub type IndexMappings = Vec<(String, Value)>;

/// Every concrete index behind a name, pattern or alias, sorted by name. None is an error: an
/// empty table would read as "no traffic".
pub async fn fetch_mappings(connection: &Connection, index: &str) -> Result<IndexMappings, Error> {
    let what = format!("read the mapping of index \"{index}\"");
    let path = format!("/{}/_mapping", encode_index(index));
    let body = fetch_json(connection, Request::new(Method::Get, path, &what)).await?;
    let Value::Object(indices) = body else {
        return Err(Error::Protocol { what, detail: "not an object".into() });
    };
    let mut mappings: IndexMappings =
        indices.into_iter().map(|(name, mut value)| (name, value["mappings"].take())).collect();
    if mappings.is_empty() {
        return Err(Error::Refused(format!(
            "{what}: no index of connection \"{}\" that this user may see has that name",
            connection.name()
        )));
    }
    mappings.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(mappings)
}
