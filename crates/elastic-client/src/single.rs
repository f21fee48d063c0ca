//! Fields with at most one value in each document, and with one type.
//!
//! Owns: the requests, and what their responses prove. Must not know: what the proofs are used for.

use crate::connection::Connection;
use crate::error::Error;
use crate::paths;
use crate::read_options::KeepAlive;
use crate::request::{Method, Request};
use crate::slices::Slice;
use crate::totals::fetch_totals;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What [`fetch_single`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SingleValued {
    /// The number of documents that the query finds.
    pub documents: u64,
    /// The fields with at most one value in each of them.
    pub fields: BTreeSet<String>,
}

/// Returns which of `fields`, which have doc values, have at most one value in each document of a slice that `query`
/// finds: the number of values is that of the documents with the field. A response that cannot be read proves nothing.
///
/// # Errors
///
/// If the request fails, or if the response does not prove that every shard was searched to its end.
pub async fn fetch_single(
    connection: &Connection,
    slice: &Slice,
    query: &Value,
    fields: &BTreeSet<String>,
    keep_alive: KeepAlive,
) -> Result<SingleValued, Error> {
    let mut asked = Map::new();
    for (place, field) in fields.iter().enumerate() {
        asked.insert(format!("v{place}"), json!({ "value_count": { "field": field } }));
        asked.insert(format!("n{place}"), json!({ "missing": { "field": field } }));
    }
    let purpose = "look for documents with several values";
    let asked = Value::Object(asked);
    let totals = fetch_totals(connection, slice, purpose, query, Some(&asked), keep_alive).await?;
    let counts: Value = serde_json::from_slice(&totals.aggregations).unwrap_or_default();
    let documents = totals.documents;
    let single = fields.iter().enumerate().filter(|(place, _)| is_single(&counts, *place, documents));
    Ok(SingleValued { documents, fields: single.map(|(_, field)| field.clone()).collect() })
}

/// Returns which of `fields` have in every index that has them the type that they are given here. An index may have come
/// since the mappings were read.
///
/// # Errors
///
/// If the request fails.
pub(crate) async fn fetch_of_type(
    connection: &Connection,
    index: &str,
    fields: &BTreeMap<String, String>,
) -> Result<BTreeSet<String>, Error> {
    // The server reads these characters as a list and as a pattern.
    let plain = fields.keys().filter(|field| !field.contains([',', '*'])).map(String::as_str);
    let operation = format!("read the types of fields of index \"{index}\"");
    let request = Request::new(Method::Get, paths::field_types(index)?, &operation)
        .with_param("fields", plain.collect::<Vec<_>>().join(","));
    let found: Value = connection.send(&request).await?.json(&operation)?;
    Ok(fields
        .iter()
        .filter(|(field, kind)| is_of_type(&found, field, kind))
        .map(|(field, _)| field.clone())
        .collect())
}

fn is_of_type(found: &Value, field: &str, kind: &str) -> bool {
    // What failed may have another type.
    let is_whole = found["failed_indices"].as_u64().unwrap_or(0) == 0 && found["failures"].is_null();
    is_whole
        && found["fields"][field]
            .as_object()
            .is_some_and(|types| types.len() == 1 && types.contains_key(kind))
}

fn is_single(counts: &Value, place: usize, documents: u64) -> bool {
    let values = counts[format!("v{place}")]["value"].as_u64();
    let missing = counts[format!("n{place}")]["doc_count"].as_u64();
    values.zip(missing).is_some_and(|(values, missing)| values.checked_add(missing) == Some(documents))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_two_types_is_not_of_one() {
        let found = json!({ "fields": {
            "a": { "keyword": { "type": "keyword" } },
            "b": { "keyword": { "type": "keyword" }, "ip": { "type": "ip" } },
        } });
        assert!(is_of_type(&found, "a", "keyword"));
        for (field, kind) in [("a", "ip"), ("b", "keyword"), ("b", "ip"), ("c", "keyword")] {
            assert!(!is_of_type(&found, field, kind), "{field} {kind}");
        }
        assert!(!is_of_type(&Value::Null, "a", "keyword"));
        for (key, value) in [("failed_indices", json!(1)), ("failures", json!([{ "indices": ["c"] }]))] {
            let mut part = found.clone();
            part[key] = value;
            assert!(!is_of_type(&part, "a", "keyword"), "{key}");
        }
    }

    #[test]
    fn only_numbers_that_add_up_prove_a_field() {
        let counts = |values: Value, missing: Value| json!({ "v0": { "value": values }, "n0": { "doc_count": missing }, "v1": { "value": 1 } });
        assert!(is_single(&counts(json!(3), json!(4)), 0, 7));
        assert!(is_single(&counts(json!(0), json!(0)), 0, 0));
        for (values, missing) in [
            (json!(4), json!(4)),
            (json!(2), json!(4)),
            (json!(7.0), json!(0)),
            (json!(null), json!(7)),
            (json!(u64::MAX), json!(8)),
        ] {
            assert!(!is_single(&counts(values.clone(), missing.clone()), 0, 7), "{values} {missing}");
        }
        assert!(!is_single(&counts(json!(3), json!(4)), 1, 7));
        assert!(!is_single(&Value::Null, 0, 0));
    }
}
