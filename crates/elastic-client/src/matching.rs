//! The indices in which a query finds a document.
//!
//! Owns: the search that reveals them, and what its response proves. Must not know: search contexts.
//!
//! A pattern such as `flows-*` reaches years of indices, and the filter of a query often only one day. The names of
//! indices prove nothing, so the server is asked. Each shard stops at its first document, and a shard whose smallest
//! and greatest values are outside of a range does not run the query at all
//! ([`pre_filter_shard_size`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/search-search.html)).

use crate::connection::Connection;
use crate::error::Error;
use crate::paths;
use crate::request::{Method, Request};
use crate::shards::Reached;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Returns what an index expression reaches without the indices in which `query` finds no document. Returns `None` if
/// that is not proved, or if no index can be skipped.
///
/// # Errors
///
/// If the server does not respond. A refusal is no error: it proves nothing.
pub(crate) async fn fetch_matching(
    connection: &Connection,
    index: &str,
    reached: &Reached,
    query: &Value,
) -> Result<Option<Reached>, Error> {
    // Other clusters name their indices in another way.
    if reached.indices.len() < 2 || reached.indices.iter().any(|index| index.index.contains(':')) {
        return Ok(None);
    }
    let operation = format!("find the indices of \"{index}\" with matching documents");
    let body = json!({
        "size": 0,
        "terminate_after": 1,
        "query": query,
        "aggs": { "indices": { "terms": { "field": "_index", "size": reached.indices.len() } } },
    });
    let request = Request::new(Method::Post, paths::search_index(index)?, &operation)
        .with_param("allow_partial_search_results", "false")
        .with_param("pre_filter_shard_size", "1")
        .with_param("filter_path", "_shards,_clusters,timed_out,aggregations")
        .with_body(&body);
    let response = match connection.send(&request).await {
        Ok(response) => response.json(&operation)?,
        Err(Error::Status { status, reason, .. }) => {
            tracing::info!(index, status, reason, "all indices are read");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let Some(names) = read_names(&response, reached.shards()) else { return Ok(None) };
    let mut indices: Vec<_> =
        reached.indices.iter().filter(|index| names.contains(index.index.as_str())).cloned().collect();
    if indices.is_empty() {
        // A read needs an index: of this one it returns no document.
        indices.extend(reached.indices.first().cloned());
    }
    Ok((indices.len() < reached.indices.len()).then_some(Reached { indices, nodes: reached.nodes }))
}

/// Returns the names of the indices with a document, unless one may be missing. Pure.
fn read_names(response: &Value, shards: u64) -> Option<BTreeSet<&str>> {
    let searched = &response["_shards"];
    let whole = searched["failed"].as_u64() == Some(0)
        && searched["total"].as_u64() == Some(shards)
        && response["timed_out"] == false
        && response["_clusters"].is_null();
    let found = &response["aggregations"]["indices"];
    if !whole || found["sum_other_doc_count"].as_u64() != Some(0) {
        return None;
    }
    found["buckets"].as_array()?.iter().map(|bucket| bucket["key"].as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_may_lack_an_index_are_not_used() {
        let whole = json!({
            "timed_out": false,
            "_shards": { "total": 4, "successful": 4, "skipped": 2, "failed": 0 },
            "aggregations": { "indices": {
                "sum_other_doc_count": 0,
                "buckets": [{ "key": "b", "doc_count": 1 }, { "key": "a", "doc_count": 2 }],
            } },
        });
        assert_eq!(read_names(&whole, 4), Some(BTreeSet::from(["a", "b"])));
        let mut none = whole.clone();
        none["aggregations"]["indices"]["buckets"] = json!([]);
        assert_eq!(read_names(&none, 4), Some(BTreeSet::new()));
        for (pointer, value) in [
            ("/timed_out", json!(true)),
            ("/timed_out", Value::Null),
            ("/_shards/failed", json!(1)),
            ("/_shards/failed", Value::Null),
            ("/_shards/total", json!(3)),
            ("/_shards/total", json!(5)),
            ("/aggregations/indices/sum_other_doc_count", json!(1)),
            ("/aggregations/indices/sum_other_doc_count", Value::Null),
            ("/aggregations/indices/buckets", Value::Null),
            ("/aggregations/indices/buckets/0/key", json!(7)),
            ("/aggregations", Value::Null),
        ] {
            let mut broken = whole.clone();
            *broken.pointer_mut(pointer).unwrap() = value;
            assert_eq!(read_names(&broken, 4), None, "{pointer}");
        }
        let mut remote = whole;
        remote["_clusters"] = json!({ "total": 2 });
        assert_eq!(read_names(&remote, 4), None);
    }
}
