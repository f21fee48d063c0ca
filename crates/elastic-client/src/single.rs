//! Fields with at most one value in each document.
//!
//! Owns: the request, and what its response proves. Must not know: what the proof is used for.

use crate::connection::Connection;
use crate::error::Error;
use crate::read_options::KeepAlive;
use crate::slices::Slice;
use crate::totals::fetch_totals;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

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

fn is_single(counts: &Value, place: usize, documents: u64) -> bool {
    let values = counts[format!("v{place}")]["value"].as_u64();
    let missing = counts[format!("n{place}")]["doc_count"].as_u64();
    values.zip(missing).is_some_and(|(values, missing)| values.checked_add(missing) == Some(documents))
}

#[cfg(test)]
mod tests {
    use super::*;

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
