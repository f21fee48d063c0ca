//! Facts about the indices of an index expression: mappings, settings and numbers of documents.
//!
//! Owns: fetching them. Must not know: what a mapping means.

use crate::connection::Connection;
use crate::error::Error;
use crate::paths;
use crate::request::{Method, Request};
use crate::server::fetch_json;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The name of each concrete index, with the value of `mappings` in the response of
/// [`GET index/_mapping`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/indices-get-mapping.html).
/// Indices whose mappings have the same text share one value.
pub type IndexMappings = Vec<(String, Arc<Value>)>;

/// Returns each value of `mappings` once, however many indices share it.
pub fn distinct_mappings(mappings: &IndexMappings) -> impl Iterator<Item = &Value> {
    let mut seen = HashSet::new();
    mappings
        .iter()
        .filter(move |(_, mapping)| seen.insert(Arc::as_ptr(mapping)))
        .map(|(_, mapping)| &**mapping)
}

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
    let response = connection.send(&Request::new(Method::Get, path, &operation)).await?;
    let mappings = read_mappings(&response.body)
        .map_err(|detail| Error::Protocol { operation: operation.clone(), detail })?;
    if mappings.is_empty() {
        return Err(Error::Refused(format!(
            "{operation}: connection \"{}\" has no index of that name that this user may see",
            connection.name()
        )));
    }
    Ok(mappings)
}

/// Returns the mappings in a response, sorted by the name of the index. An index pattern may find thousands of indices
/// with the same mapping, so each distinct text is parsed once.
fn read_mappings(body: &[u8]) -> Result<IndexMappings, String> {
    let indices: BTreeMap<String, BTreeMap<String, &RawValue>> = serde_json::from_slice(body)
        // The parser's message may quote the body, which a proxy may have put secrets in.
        .map_err(|e| format!("not the mappings of indices, at line {} column {}", e.line(), e.column()))?;
    let mut parsed: HashMap<&str, Arc<Value>> = HashMap::new();
    let mut mappings = Vec::with_capacity(indices.len());
    for (index, parts) in indices {
        let Some(text) = parts.get("mappings").map(|raw| raw.get()) else { return Err(no_mappings(&index)) };
        if let Some(mapping) = parsed.get(text) {
            mappings.push((index, Arc::clone(mapping)));
            continue;
        }
        let mapping: Value =
            serde_json::from_str(text).map_err(|e| format!("\"mappings\" of index {index:?}: {e}"))?;
        if !mapping.is_object() {
            return Err(no_mappings(&index));
        }
        let mapping = Arc::new(mapping);
        parsed.insert(text, Arc::clone(&mapping));
        mappings.push((index, mapping));
    }
    Ok(mappings)
}

fn no_mappings(index: &str) -> String {
    format!("no \"mappings\" of index {index:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &Value) -> Result<IndexMappings, String> {
        read_mappings(body.to_string().as_bytes())
    }

    #[test]
    fn what_is_no_mapping_is_an_error() {
        let mapping = json!({ "flows": { "mappings": { "properties": {} } } });
        let flows = ("flows".to_owned(), Arc::new(json!({ "properties": {} })));
        assert_eq!(read(&mapping).unwrap(), [flows]);
        assert_eq!(read(&json!({})).unwrap(), []);
        let broken = [
            json!({ "message": "ok" }),
            json!({ "flows": {} }),
            json!({ "flows": { "mappings": null } }),
            json!({ "flows": { "mappings": [] } }),
            json!({ "flows": [{ "mappings": {} }] }),
            json!("ok"),
            json!([]),
            json!(null),
        ];
        for body in broken {
            assert!(read(&body).is_err(), "{body}");
        }
        let error = read(&json!({ "message": "secret" })).unwrap_err();
        assert_eq!(error, "not the mappings of indices, at line 1 column 19");
        for body in ["", "{", r#"{"flows":{"mappings":{"properties":{}}}"#, r#"{"flows":{"mappings":{}}} x"#]
        {
            assert!(read_mappings(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn an_error_names_the_index_without_mappings() {
        let body = json!({ "flows-1": { "mappings": {} }, "flows-2": { "aliases": {} } });
        assert_eq!(read(&body).unwrap_err(), "no \"mappings\" of index \"flows-2\"");
    }

    #[test]
    fn equal_mappings_are_kept_once() {
        let daily = json!({ "properties": { "src": { "type": "ip" } } });
        let other = json!({ "properties": { "src": { "type": "keyword" } } });
        let body = json!({
            "flows-3": { "mappings": daily },
            "flows-1": { "mappings": daily, "aliases": {} },
            "flows-2": { "mappings": other },
        });
        let mappings = read(&body).unwrap();
        let names: Vec<&str> = mappings.iter().map(|(index, _)| index.as_str()).collect();
        assert_eq!(names, ["flows-1", "flows-2", "flows-3"]);
        let [(_, first), (_, second), (_, third)] = &mappings[..] else { panic!("{mappings:?}") };
        assert!(Arc::ptr_eq(first, third));
        assert_eq!((&**first, &**second), (&daily, &other));
        assert_eq!(distinct_mappings(&mappings).collect::<Vec<_>>(), [&daily, &other]);
    }

    /// The order of fields is that of columns, so mappings in another order are not equal.
    #[test]
    fn the_order_of_fields_is_kept() {
        let body = br#"{"b":{"mappings":{"y":1,"x":2}},"a":{"mappings":{"x":2,"y":1}}}"#;
        let mappings = read_mappings(body).unwrap();
        let texts: Vec<String> = mappings.iter().map(|(_, mapping)| mapping.to_string()).collect();
        assert_eq!(texts, [r#"{"x":2,"y":1}"#, r#"{"y":1,"x":2}"#]);
    }
}
