//! Values that a document has and its doc values lack.
//!
//! Owns: finding them before a slice is read, since they would be read as null. A server leaves out
//! what is longer than `ignore_above` or malformed where the mapping lets it pass, and notes the
//! field in `_ignored`. Must not know: pages.

use crate::connection::Connection;
use crate::error::Error;
use crate::paths;
use crate::read_options::KeepAlive;
use crate::request::{Method, Request};
use crate::slices::{Slice, SliceSource};
use serde_json::{Value, json};

/// Which ignored values matter.
#[derive(Clone, Debug)]
pub struct IgnoredValues {
    /// The fields that are read from doc values.
    pub fields: Vec<String>,
    /// The documents that are looked at: a filter on such a field would hide them.
    pub query: Value,
}

/// An error if there is one. Each slice asks for itself, before its first row: a LIMIT may be reached
/// before another one has begun.
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
        // Only what holds a state can be sliced: here each asks for all of the index.
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
        (None, _) | (_, None) => return incomplete("no _shards or no timed_out in the answer"),
        (Some(0), Some(false)) => {}
        (Some(0), Some(true)) => return incomplete("the server timed out and left rows out"),
        (Some(failed), _) => return incomplete(&format!("{failed} shards failed")),
    }
    let clusters = &response["_clusters"];
    let left_out = ["skipped", "partial", "failed"].map(|how| clusters[how].as_u64().unwrap_or_default());
    if left_out != [0; 3] || response["terminated_early"] == true {
        return incomplete("remote clusters left rows out, or the server ended the search early");
    }
    // Elasticsearch 6 gives the total as a number.
    let total = &response["hits"]["total"];
    match total["value"].as_u64().or(total.as_u64()) {
        Some(0) => Ok(()),
        Some(documents) => Err(Error::Refused(format!(
            "index \"{}\": {documents} documents hold values that the server left out of {}, since they are \
             longer than ignore_above or malformed; the table option ignored = \"null\" reads them as null",
            slice.index,
            ignored.fields.iter().map(|f| format!("\"{f}\"")).collect::<Vec<_>>().join(" or ")
        ))),
        None => incomplete("no exact hits.total"),
    }
}
