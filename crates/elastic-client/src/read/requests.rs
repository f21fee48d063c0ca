//! The common parts of every search of a slice.
//!
//! Owns: the body of a search, with its fields and the order of rows, and the largest response. Must not know: the ids
//! of points in time and scrolls, or how responses are used.

use super::{FieldsRequest, PageOptions};
use crate::paging::MAX_BYTES;
use crate::request::{Method, Request};
use crate::slices::Slice;
use crate::sort_key::SortKey;
use serde_json::{Value, json};

/// Builds the searches of one slice for pages of `rows`.
#[derive(Clone, Copy)]
pub(super) struct SearchRequests<'a> {
    pub(super) slice: &'a Slice,
    pub(super) options: &'a PageOptions,
    pub(super) rows: u32,
}

impl SearchRequests<'_> {
    /// Returns the operation, as errors name it.
    pub(super) fn operation(&self) -> String {
        format!("search: {}", self.slice.describe())
    }

    /// Returns the number of requests for each page.
    pub(super) fn parts(&self) -> usize {
        self.options.fields.len()
    }

    /// Limits the size of the response, except for a page of one row, which cannot be made smaller.
    pub(super) fn bounded(&self, page: Request) -> Request {
        let parts = self.parts().max(1);
        if self.rows > 1 { page.with_max_bytes(MAX_BYTES / parts) } else { page }
    }

    /// Returns the sort keys that return values, beside those that order the rows. The keys before them are unique,
    /// so they are compared only for the row of the cursor.
    pub(super) fn value_keys(&self, part: usize) -> Vec<Value> {
        let keys = self.options.fields.get(part).into_iter().flat_map(|fields| &fields.sort_values);
        keys.map(|(field, kind)| json!({ field.as_str(): { "order": "asc", "missing": "_last", "unmapped_type": kind } }))
            .collect()
    }

    /// Returns the requested order of rows.
    pub(super) fn order(&self) -> Vec<Value> {
        self.options.order.iter().flat_map(SortKey::to_json).collect()
    }

    pub(super) fn search(&self, path: String, part: usize, body: &Value) -> Request {
        Request::new(Method::Post, path, self.operation())
            .with_param("allow_partial_search_results", "false")
            .with_param("filter_path", self.filter_path(part))
            .with_body(body)
    }

    fn fields(&self, part: usize) -> FieldsRequest {
        self.options.fields.get(part).cloned().unwrap_or_default()
    }

    /// Returns the filter for the parts of a response that the server sends.
    pub(super) fn filter_path(&self, part: usize) -> String {
        let fields = self.fields(part);
        let mut path =
            "_shards,_clusters,timed_out,terminated_early,pit_id,_scroll_id,hits.total,hits.hits.sort,\
             hits.hits.fields"
                .to_owned();
        if fields.metadata {
            path.push_str(",hits.hits._id,hits.hits._index");
        }
        if fields.reads_source() {
            path.push_str(",hits.hits._source");
        }
        path
    }

    /// Returns the body of a search, without the search context and the order of rows.
    pub(super) fn body(&self, part: usize) -> Value {
        let fields = self.fields(part);
        let mut query = self.options.query.clone();
        if let Some(filter) = &self.slice.filter {
            query = json!({ "bool": { "filter": [query, filter] } });
        }
        let mut body = json!({ "size": self.rows, "query": query, "track_total_hits": true });
        if let Some(cut) = &self.slice.cut {
            body["slice"] = json!({ "id": cut.id, "max": cut.max });
        }
        body["_source"] = if fields.whole_source {
            json!(true)
        } else if fields.source.is_empty() {
            json!(false)
        } else {
            json!(fields.source)
        };
        if !fields.doc_values.is_empty() {
            let list = fields.doc_values.iter().map(|(field, format)| match format {
                Some(format) => json!({ "field": field, "format": format }),
                None => json!({ "field": field }),
            });
            body["docvalue_fields"] = list.collect();
        }
        if !fields.metadata && !fields.reads_source() {
            body["stored_fields"] = json!("_none_");
        }
        body
    }
}
