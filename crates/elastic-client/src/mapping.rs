//! Facts about the indices of an index expression: mappings, settings and numbers of documents.
//!
//! Owns: fetching them. Must not know: what a mapping means.

use crate::connection::Connection;
use crate::error::Error;
use crate::paths;
use crate::request::{Method, Request};
use crate::server::fetch_json;
use serde_json::{Value, json};

/// The name of each concrete index, with the value of `mappings` in the response of
/// [`GET index/_mapping`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/indices-get-mapping.html).
pub type IndexMappings = Vec<(String, Value)>;

/// Returns the indices that a version before `version` (major, minor) created. An index without this setting counts as
/// created by the current version of the server.
///
/// # Errors
///
/// If the server refuses or does not respond, or if a setting is not a number.
pub async fn fetch_older_than(
    connection: &Connection,
    index: &str,
    version: (u32, u32),
) -> Result<Vec<String>, Error> {
    let operation = format!("read the settings of index \"{index}\"");
    let path = paths::setting(index, "index.version.created")?;
    let request = Request::new(Method::Get, path, &operation).with_param("flat_settings", "true");
    let Value::Object(indices) = fetch_json(connection, request).await? else {
        return Err(Error::Protocol { operation, detail: "not an object".into() });
    };
    let mut older = Vec::new();
    for (name, value) in indices {
        let created = &value["settings"]["index.version.created"];
        let created = created.as_str().map(str::parse::<u32>).transpose();
        let created =
            created.map_err(|e| Error::Protocol { operation: operation.clone(), detail: e.to_string() })?;
        if created.is_some_and(|id| id < version_id(version)) {
            older.push(name);
        }
    }
    Ok(older)
}

/// Returns the first version id of a release line, as settings contain it: the id of 7.17.28 is 7172899.
fn version_id((major, minor): (u32, u32)) -> u32 {
    major * 1_000_000 + minor * 10_000
}

/// Returns [how many documents match](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/search-count.html)
/// now. Do not verify a read by it, because a search context may see another state.
///
/// # Errors
///
/// If the server refuses or does not respond, or if a shard failed.
pub async fn fetch_count(connection: &Connection, index: &str, query: &Value) -> Result<u64, Error> {
    let operation = format!("count the documents of index \"{index}\"");
    count(connection, index, query, operation, None).await
}

/// Checks on every shard that it can run a base query. Each shard stops at its first document.
///
/// # Errors
///
/// If the server or a shard refuses the query, or if the server does not respond.
pub async fn check_query(connection: &Connection, index: &str, query: &Value) -> Result<(), Error> {
    let operation = format!("try the base query on index \"{index}\"");
    count(connection, index, query, operation, Some(1)).await.map(drop)
}

async fn count(
    connection: &Connection,
    index: &str,
    query: &Value,
    operation: String,
    max_per_shard: Option<u32>,
) -> Result<u64, Error> {
    let path = paths::count(index)?;
    let mut request = Request::new(Method::Post, path, &operation).with_body(&json!({ "query": query }));
    if let Some(max) = max_per_shard {
        request = request.with_param("terminate_after", max.to_string());
    }
    let response = fetch_json(connection, request).await?;
    let failed = response["_shards"]["failed"].as_u64();
    match (response["count"].as_u64(), failed) {
        (Some(count), Some(0)) => Ok(count),
        _ => Err(Error::Protocol { operation, detail: format!("no count of all shards: {response}") }),
    }
}

/// Returns the mappings of every concrete index of an index expression, sorted by name.
///
/// # Errors
///
/// If the server refuses or does not respond, or if the expression matches no index. An empty table would look like "no
/// traffic".
pub async fn fetch_mappings(connection: &Connection, index: &str) -> Result<IndexMappings, Error> {
    let operation = format!("read the mapping of index \"{index}\"");
    let path = paths::mapping(index)?;
    let body = fetch_json(connection, Request::new(Method::Get, path, &operation)).await?;
    let mut mappings =
        read_mappings(body).map_err(|detail| Error::Protocol { operation: operation.clone(), detail })?;
    if mappings.is_empty() {
        return Err(Error::Refused(format!(
            "{operation}: connection \"{}\" has no index of that name that this user may see",
            connection.name()
        )));
    }
    mappings.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(mappings)
}

fn read_mappings(body: Value) -> Result<IndexMappings, String> {
    let Value::Object(indices) = body else { return Err("not an object".into()) };
    let mut mappings = Vec::with_capacity(indices.len());
    for (index, mut value) in indices {
        let mapping = value.get_mut("mappings").map(Value::take).filter(Value::is_object);
        let Some(mapping) = mapping else { return Err(format!("no \"mappings\" of index {index:?}")) };
        mappings.push((index, mapping));
    }
    Ok(mappings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_mapping_is_an_error() {
        let mapping = json!({ "flows": { "mappings": { "properties": {} } } });
        assert_eq!(read_mappings(mapping).unwrap(), [("flows".to_owned(), json!({ "properties": {} }))]);
        assert_eq!(read_mappings(json!({})).unwrap(), []);
        let broken = [
            json!({ "message": "ok" }),
            json!({ "flows": {} }),
            json!({ "flows": { "mappings": null } }),
            json!({ "flows": [{ "mappings": {} }] }),
            json!("ok"),
            json!([]),
            json!(null),
        ];
        for body in broken {
            assert!(read_mappings(body.clone()).is_err(), "{body}");
        }
    }
}
