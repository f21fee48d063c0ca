//! Values dropped by `ignore_above` or `ignore_malformed`.
//!
//! Owns: finding documents with such values before a slice is read. The values are in `_source` but not in doc values,
//! so they would be read as null. The server lists their fields in
//! [`_ignored`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/mapping-ignored-field.html). Must not know:
//! pages.

use crate::connection::Connection;
use crate::error::Error;
use crate::paths;
use crate::read_options::KeepAlive;
use crate::request::{Method, Request};
use crate::slices::{Slice, SliceSource};
use serde_json::{Value, json};

/// The dropped values that are an error.
#[derive(Clone, Debug)]
pub struct IgnoredValues {
    /// The names of the fields that are read from doc values.
    pub fields: Vec<String>,
    /// The query whose documents are checked. It has no filter on these fields, because such a filter would not find
    /// the dropped values.
    pub query: Value,
}

/// Fails if a document of the slice has a dropped value. Each slice checks its own documents before its first row,
/// because a LIMIT may be reached before another slice has begun.
pub(crate) async fn refuse_ignored(
    connection: &Connection,
    slice: &Slice,
    ignored: &IgnoredValues,
    keep_alive: KeepAlive,
) -> Result<(), Error> {
    if ignored.fields.is_empty() {
        return Ok(());
    }
    let mut filters = vec![ignored.query.clone(), json!({ "terms": { "_ignored": ignored.fields } })];
    filters.extend(slice.filter.clone());
    let mut body = json!({ "size": 0, "track_total_hits": true, "query": { "bool": { "filter": filters } } });
    let path = match &slice.source {
        SliceSource::Pit { id, .. } => {
            body["pit"] = json!({ "id": id.as_ref(), "keep_alive": keep_alive.to_string() });
            if let Some(cut) = slice.cut {
                body["slice"] = json!({ "id": cut.id, "max": cut.max });
            }
            paths::search()
        }
        // The server slices only a search context, so each slice of a scroll checks the whole index.
        SliceSource::Scroll => paths::search_index(&slice.index)?,
    };
    let operation = format!("look for ignored values: {}", slice.describe());
    let request = Request::new(Method::Post, path, &operation)
        .with_param("allow_partial_search_results", "false")
        .with_param("filter_path", "_shards.failed,_clusters,timed_out,terminated_early,hits.total")
        .with_body(&body);
    let response = connection.send(&request).await?.json(&operation)?;
    let incomplete =
        |detail: &str| Err(Error::Incomplete { operation: operation.clone(), detail: detail.into() });
    match (response["_shards"]["failed"].as_u64(), response["timed_out"].as_bool()) {
        (None, _) | (_, None) => return incomplete("_shards or timed_out is missing"),
        (Some(0), Some(false)) => {}
        (Some(0), Some(true)) => return incomplete("the server timed out and returned partial results"),
        (Some(failed), _) => return incomplete(&format!("{failed} shards failed")),
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
    match total["value"].as_u64().or(total.as_u64()) {
        Some(0) => Ok(()),
        Some(documents) => Err(Error::Refused(format!(
            "index \"{}\": {documents} documents have values of {} that ignore_above or ignore_malformed \
             dropped; set the table option ignored = \"null\" to read them as null",
            slice.index,
            ignored.fields.iter().map(|f| format!("\"{f}\"")).collect::<Vec<_>>().join(" or ")
        ))),
        None => incomplete("hits.total is missing or not exact"),
    }
}
