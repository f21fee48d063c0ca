//! Searches that return no rows: the number of documents, and aggregations over them.
//!
//! Owns: their requests, and the checks that every shard responded. Must not know: the meaning of an aggregation, or
//! pages.
//!
//! A server that counts from its index may say `terminated_early`, because the counter ended early
//! ([`Counting`]). That is no proof that each document was aggregated, so the search
//! gets a filter that each document passes. The server then counts document by document, and says `terminated_early`
//! only if documents are left out. A server that is not known to need that gets the request again.

use crate::connection::Connection;
use crate::error::Error;
use crate::paths;
use crate::product::Counting;
use crate::read_options::KeepAlive;
use crate::request::{Method, Request};
use crate::slices::{Slice, SliceSource};
use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The complete response to a search without rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Totals {
    /// The number of documents that match, exactly.
    pub documents: u64,
    /// The part `aggregations` of the response, as JSON: `null` if none was requested. It is not parsed, because the
    /// parsed buckets of a large response take many times its bytes.
    pub aggregations: Bytes,
}

/// Returns the number of documents of a slice that match `query`, with
/// [aggregations](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/search-aggregations.html) over them.
/// `purpose` names the operation in errors, such as `count`.
///
/// A slice of a point in time is searched in that state, and alone. The server slices only search contexts, so for a
/// slice of a scroll the whole index is searched as it is now.
///
/// # Errors
///
/// If the request fails, or if the response does not prove that every shard was searched to its end.
pub async fn fetch_totals(
    connection: &Connection,
    slice: &Slice,
    purpose: &str,
    query: &Value,
    aggregations: Option<&Value>,
    keep_alive: KeepAlive,
) -> Result<Totals, Error> {
    let operation = format!("{purpose}: {}", slice.describe());
    loop {
        let counting = connection.known_server().counting();
        let request = request(slice, &operation, query, aggregations, keep_alive, counting)?;
        let body = connection.send(&request).await?.body;
        let (aggregations, rest) = split(&body).map_err(|e| Error::Protocol {
            operation: operation.clone(),
            detail: format!("not JSON: {e}"),
        })?;
        if counting == Counting::FromIndex && rest["terminated_early"] == true {
            connection.known_server().ended_counter_early();
            continue;
        }
        let documents = complete(&operation, &rest)?;
        return Ok(Totals { documents, aggregations });
    }
}

/// Returns the part `aggregations` of a response, and the other parts.
fn split(body: &Bytes) -> serde_json::Result<(Bytes, Value)> {
    let mut parts: BTreeMap<String, &RawValue> = serde_json::from_slice(body)?;
    let aggregations = match parts.remove("aggregations") {
        Some(aggregations) => body.slice_ref(aggregations.get().as_bytes()),
        None => Bytes::from_static(b"null"),
    };
    let mut rest = Map::new();
    for (name, part) in parts {
        rest.insert(name, serde_json::from_str(part.get())?);
    }
    Ok((aggregations, Value::Object(rest)))
}

fn request(
    slice: &Slice,
    operation: &str,
    query: &Value,
    aggregations: Option<&Value>,
    keep_alive: KeepAlive,
    counting: Counting,
) -> Result<Request, Error> {
    let query = match &slice.filter {
        Some(filter) => json!({ "bool": { "filter": [query, filter] } }),
        None => query.clone(),
    };
    let mut body = json!({ "size": 0, "track_total_hits": true, "query": query });
    if let Some(aggregations) = aggregations {
        body["aggs"] = aggregations.clone();
        if counting == Counting::EachDocument {
            body["post_filter"] = json!({ "match_all": {} });
        }
    }
    let path = match &slice.source {
        SliceSource::Pit { id, .. } => {
            body["pit"] = json!({ "id": id.as_ref(), "keep_alive": keep_alive.to_string() });
            if let Some(cut) = slice.cut {
                body["slice"] = json!({ "id": cut.id, "max": cut.max });
            }
            paths::search()
        }
        SliceSource::Scroll => paths::search_index(&slice.index)?,
    };
    Ok(Request::new(Method::Post, path, operation)
        .with_param("allow_partial_search_results", "false")
        .with_param("filter_path", "_shards,_clusters,timed_out,terminated_early,hits.total,aggregations")
        .with_body(&body))
}

/// Returns the number of documents that match, unless the response may be incomplete.
fn complete(operation: &str, response: &Value) -> Result<u64, Error> {
    let incomplete =
        |detail: &str| Err(Error::Incomplete { operation: operation.to_owned(), detail: detail.into() });
    let shards = &response["_shards"];
    match (shards["failed"].as_u64(), response["timed_out"].as_bool()) {
        (None, _) | (_, None) => return incomplete("_shards or timed_out is missing"),
        (Some(0), Some(false)) => {}
        (Some(0), Some(true)) => return incomplete("the server timed out and returned partial results"),
        (Some(failed), _) => return incomplete(&format!("{failed} shards failed")),
    }
    if shards["total"].as_u64() == Some(0) {
        return incomplete("the server searched no shard, as for a frozen index; unfreeze the index");
    }
    let clusters = &response["_clusters"];
    let left_out = ["skipped", "partial", "failed"].map(|how| clusters[how].as_u64().unwrap_or_default());
    if left_out != [0; 3] || response["terminated_early"] == true {
        return incomplete(
            "remote clusters returned partial or no results, or the server ended the search early",
        );
    }
    // Elasticsearch 6 returns the total as a number.
    let total = &response["hits"]["total"];
    let exact = total["relation"].as_str().is_none_or(|relation| relation == "eq");
    match total["value"].as_u64().or(total.as_u64()).filter(|_| exact) {
        Some(documents) => Ok(documents),
        None => incomplete("hits.total is missing or not exact"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slices::{Cut, Tiebreaker};

    #[test]
    fn a_slice_is_searched_in_its_point_in_time_with_the_filter_of_its_alias() {
        let slice = Slice {
            ordinal: 1,
            of: 2,
            index: "flows".into(),
            source: SliceSource::Pit { id: "p".into(), tiebreaker: Tiebreaker::Doc },
            cut: Some(Cut { id: 1, max: 2 }),
            filter: Some(json!({ "term": { "site": "a" } })),
        };
        let query = json!({ "match_all": {} });
        let aggregations = json!({ "n": { "value_count": { "field": "bytes" } } });
        let build = |slice: &Slice| {
            let counting = Counting::FromIndex;
            let request =
                request(slice, "count", &query, Some(&aggregations), KeepAlive::default(), counting);
            let request = request.unwrap();
            let body: Value = serde_json::from_slice(request.body.as_ref().unwrap()).unwrap();
            (request.path, body)
        };
        let (path, body) = build(&slice);
        assert_eq!(path, "/_search");
        assert_eq!(body["pit"]["id"], "p");
        assert_eq!(body["slice"], json!({ "id": 1, "max": 2 }));
        assert_eq!(body["query"]["bool"]["filter"], json!([query, { "term": { "site": "a" } }]));
        assert_eq!((&body["size"], &body["aggs"]), (&json!(0), &aggregations));
        let (path, body) = build(&Slice { source: SliceSource::Scroll, filter: None, ..slice });
        assert_eq!(path, "/flows/_search");
        assert!(body.get("slice").is_none() && body.get("pit").is_none());
        assert_eq!(body["query"], query);
    }

    #[test]
    fn the_aggregations_of_a_response_stay_text() {
        let body = Bytes::from_static(
            br#"{ "hits": { "total": 7 }, "aggregations": {"a" :1.0}, "timed_out": false }"#,
        );
        let (aggregations, rest) = split(&body).unwrap();
        assert_eq!(aggregations, br#"{"a" :1.0}"#.as_slice());
        assert!(body.as_ptr_range().contains(&aggregations.as_ptr()), "the text is copied");
        assert_eq!(rest, json!({ "hits": { "total": 7 }, "timed_out": false }));
        assert_eq!(split(&Bytes::from_static(b"{}")).unwrap(), (Bytes::from_static(b"null"), json!({})));
        for broken in ["", "[]", r#"{ "aggregations": {"a": } }"#, r#"{ "aggregations": {} "#] {
            split(&Bytes::copy_from_slice(broken.as_bytes())).unwrap_err();
        }
    }

    #[test]
    fn a_response_that_may_lack_documents_is_an_error() {
        let whole = json!({
            "timed_out": false, "_shards": { "total": 2, "failed": 0 },
            "hits": { "total": { "value": 7, "relation": "eq" } },
        });
        assert_eq!(complete("count", &whole).unwrap(), 7);
        let mut old = whole.clone();
        old["hits"]["total"] = json!(7);
        assert_eq!(complete("count", &old).unwrap(), 7);
        for (pointer, value) in [
            ("/timed_out", json!(true)),
            ("/timed_out", Value::Null),
            ("/_shards/failed", json!(1)),
            ("/_shards/failed", Value::Null),
            ("/_shards/total", json!(0)),
            ("/hits/total/relation", json!("gte")),
            ("/hits/total", Value::Null),
        ] {
            let mut broken = whole.clone();
            *broken.pointer_mut(pointer).unwrap() = value;
            let error = complete("count: index \"flows\" slice 1/2", &broken).unwrap_err().to_string();
            assert!(error.starts_with("count: index \"flows\" slice 1/2: incomplete response"), "{error}");
        }
        for part in [json!({ "_clusters": { "skipped": 1 } }), json!({ "terminated_early": true })] {
            let mut broken = whole.clone();
            broken.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
            complete("count", &broken).unwrap_err();
        }
    }
}
