//! What a slice's reader asks.
//!
//! Owns: search bodies, their order and cursor, and samples before a scroll. Must not know: what
//! becomes of answers.

use super::{DecodePage, SliceReader};
use crate::error::Error;
use crate::index_name::index_path;
use crate::paging::MOST_BYTES;
use crate::request::{Method, Repeat, Request};
use crate::slices::{SliceSource, Sort};
use crate::snapshot::keep_alive_text;
use crate::sort_key::SortKey;
use serde::Deserialize;
use serde_json::{Value, json};

impl<D: DecodePage> SliceReader<D> {
    /// All pages of a scroll have as many rows as its first, so what fits is found out before, by
    /// searches that open nothing: of documents by 1 and 25, of doc values by one of a thousand.
    pub(super) async fn sample(&mut self) -> Result<(), Error> {
        for _ in 0..2 {
            if self.page_size.is_most() {
                break;
            }
            let path = index_path(&self.slice.index, "_search")?;
            let mut body = self.body();
            body["sort"] = json!(["_doc"]);
            body["track_total_hits"] = json!(false);
            // Only what holds a state can be sliced.
            body.as_object_mut().map(|body| body.remove("slice"));
            let request = self.search(path, &body).with_most_bytes(MOST_BYTES);
            match self.connection.send(&request).await {
                Ok(answer) => {
                    let sampled: Sampled = serde_json::from_slice(&answer.body).map_err(|e| {
                        Error::Protocol { what: self.what(), detail: format!("no hits in the sample: {e}") }
                    })?;
                    self.page_size = self.page_size.after(sampled.hits.hits.len(), answer.body.len());
                }
                Err(Error::TooLarge { bytes, .. }) => {
                    self.page_size = self.page_size.after_too_large(bytes);
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    pub(super) fn first_request(&mut self) -> Result<Request, Error> {
        match &self.slice.source {
            SliceSource::Pit { .. } => Ok(self.pit_request()),
            SliceSource::Scroll => {
                self.asked = self.page_size.rows();
                let mut body = self.body();
                body["sort"] = self.sort(None);
                let path = index_path(&self.slice.index, "_search")?;
                let keep_alive = keep_alive_text(self.options.keep_alive);
                Ok(self.bounded(self.search(path, &body).with_param("scroll", keep_alive)))
            }
        }
    }

    pub(super) fn pit_request(&mut self) -> Request {
        self.asked = self.page_size.rows();
        let mut body = self.body();
        let SliceSource::Pit { sort, .. } = &self.slice.source else {
            unreachable!("asked for slices of a point in time only")
        };
        self.name_snapshot(&mut body);
        body["sort"] = self.sort(Some(*sort));
        if let Some(cursor) = &self.cursor {
            body["search_after"] = json!(cursor);
            body["track_total_hits"] = json!(false);
        }
        self.bounded(self.search("/_search".into(), &body))
    }

    /// One row has to be taken whatever it is.
    fn bounded(&self, page: Request) -> Request {
        if self.asked > 1 { page.with_most_bytes(MOST_BYTES) } else { page }
    }

    /// Asks for the number of rows. A scroll has to ask for one of them as well.
    pub(super) fn count_request(&mut self) -> Result<Request, Error> {
        match &self.slice.source {
            SliceSource::Pit { .. } => {
                self.asked = 0;
                let mut body = self.body();
                self.name_snapshot(&mut body);
                body["size"] = json!(0);
                Ok(self.search("/_search".into(), &body))
            }
            SliceSource::Scroll => {
                self.page_size = self.page_size.at_most(1);
                self.first_request()
            }
        }
    }

    fn name_snapshot(&self, body: &mut Value) {
        if let (SliceSource::Pit { id, .. }, Some(body)) = (&self.slice.source, body.as_object_mut()) {
            let id = self.pit_id.as_ref().unwrap_or(id);
            let keep_alive = keep_alive_text(self.options.keep_alive);
            body.insert("pit".into(), json!({ "id": id, "keep_alive": keep_alive }));
        }
    }

    /// The order that was asked for, then one that is unique within the slice, by which pages of a
    /// point in time are found again; a scroll needs none.
    fn sort(&self, unique: Option<Sort>) -> Value {
        let mut sort: Vec<Value> = self.options.order.iter().flat_map(SortKey::to_json).collect();
        match unique {
            Some(Sort::ShardDoc) => sort.push(json!("_shard_doc")),
            Some(Sort::Doc) => sort.push(json!("_doc")),
            None if sort.is_empty() => sort.push(json!("_doc")),
            None => {}
        }
        Value::Array(sort)
    }

    pub(super) fn search(&self, path: String, body: &Value) -> Request {
        Request::new(Method::Post, path, self.what())
            .with_param("allow_partial_search_results", "false")
            .with_param("filter_path", self.filter_path())
            .with_body(body)
    }

    pub(super) fn scroll_request(&self) -> Result<Request, Error> {
        let Some(id) = &self.scroll_id else {
            return Err(Error::Protocol { what: self.what(), detail: "no _scroll_id".into() });
        };
        let body = json!({ "scroll_id": id, "scroll": keep_alive_text(self.options.keep_alive) });
        let page = Request::new(Method::Post, "/_search/scroll", self.what())
            .with_param("filter_path", self.filter_path())
            .with_body(&body)
            .with_repeat(Repeat::Never);
        Ok(self.bounded(page))
    }

    fn filter_path(&self) -> String {
        let mut path =
            "_shards,_clusters,timed_out,terminated_early,pit_id,_scroll_id,hits.total,hits.hits.sort,\
             hits.hits.fields"
                .to_owned();
        if self.options.fields.metadata {
            path.push_str(",hits.hits._id,hits.hits._index");
        }
        if self.options.fields.reads_source() {
            path.push_str(",hits.hits._source");
        }
        path
    }

    fn body(&self) -> Value {
        let fields = &self.options.fields;
        let mut query = self.options.query.clone();
        if let Some(filter) = &self.slice.filter {
            query = json!({ "bool": { "filter": [query, filter] } });
        }
        let mut body = json!({ "size": self.page_size.rows(), "query": query, "track_total_hits": true });
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

#[derive(Deserialize)]
struct Sampled {
    #[serde(default)]
    hits: SampledHits,
}

#[derive(Default, Deserialize)]
struct SampledHits {
    #[serde(default)]
    hits: Vec<serde::de::IgnoredAny>,
}
