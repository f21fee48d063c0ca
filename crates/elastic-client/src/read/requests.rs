//! What a slice's reader asks.
//!
//! Owns: search bodies, their order and cursor, and samples before a scroll. Must not know: what
//! becomes of answers.

use super::{DecodePage, FieldsRequest, SliceReader};
use crate::error::Error;
use crate::index_name::index_path;
use crate::paging::MOST_BYTES;
use crate::request::{Method, Repeat, Request};
use crate::slices::{SliceSource, Sort};
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
            let mut body = self.body(0);
            body["sort"] = json!(["_doc"]);
            body["track_total_hits"] = json!(false);
            // Only what holds a state can be sliced.
            body.as_object_mut().map(|body| body.remove("slice"));
            let request = self.search(path, 0, &body).with_most_bytes(MOST_BYTES);
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

    pub(super) fn first_requests(&mut self) -> Result<Vec<Request>, Error> {
        match &self.slice.source {
            SliceSource::Pit { .. } => Ok(self.pit_requests()),
            SliceSource::Scroll => Ok(vec![self.opening_request()?]),
        }
    }

    fn opening_request(&mut self) -> Result<Request, Error> {
        if self.options.fields.len() > 1 {
            let fields: usize = self.options.fields.iter().map(|fields| fields.doc_values.len()).sum();
            return Err(Error::Refused(format!(
                "index \"{}\": {fields} columns are read from doc values, for which a page is asked for several \
                 times, and a page of a scroll is given once; name fewer columns, exclude some by the table option \
                 exclude, or read = \"pit\"",
                self.slice.index
            )));
        }
        self.asked = self.page_size.rows();
        let mut body = self.body(0);
        body["sort"] = self.sort(None);
        let path = index_path(&self.slice.index, "_search")?;
        let keep_alive = self.options.read.keep_alive.to_string();
        Ok(self.bounded(self.search(path, 0, &body).with_param("scroll", keep_alive)))
    }

    /// One for each of the page's parts. Of a slice that is no point in time there is none.
    pub(super) fn pit_requests(&mut self) -> Vec<Request> {
        self.asked = self.page_size.rows();
        let SliceSource::Pit { sort, .. } = self.slice.source else { return Vec::new() };
        let requests = (0..self.options.fields.len()).map(|part| {
            let mut body = self.body(part);
            self.name_snapshot(&mut body);
            body["sort"] = self.sort(Some(sort));
            if let Some(cursor) = &self.cursor {
                body["search_after"] = json!(cursor);
            }
            if self.cursor.is_some() || part > 0 {
                body["track_total_hits"] = json!(false);
            }
            self.bounded(self.search("/_search".into(), part, &body))
        });
        requests.collect()
    }

    /// One row has to be taken whatever it is.
    fn bounded(&self, page: Request) -> Request {
        let parts = self.options.fields.len().max(1);
        if self.asked > 1 { page.with_most_bytes(MOST_BYTES / parts) } else { page }
    }

    /// Asks for the number of rows. A scroll has to ask for one of them as well.
    pub(super) fn count_request(&mut self) -> Result<Request, Error> {
        match &self.slice.source {
            SliceSource::Pit { .. } => {
                self.asked = 0;
                let mut body = self.body(0);
                self.name_snapshot(&mut body);
                body["size"] = json!(0);
                Ok(self.search("/_search".into(), 0, &body))
            }
            SliceSource::Scroll => {
                self.page_size = self.page_size.at_most(1);
                self.opening_request()
            }
        }
    }

    fn name_snapshot(&self, body: &mut Value) {
        if let (SliceSource::Pit { id, .. }, Some(body)) = (&self.slice.source, body.as_object_mut()) {
            let id = self.pit_id.as_deref().unwrap_or(id);
            let keep_alive = self.options.read.keep_alive.to_string();
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

    fn search(&self, path: String, part: usize, body: &Value) -> Request {
        Request::new(Method::Post, path, self.what())
            .with_param("allow_partial_search_results", "false")
            .with_param("filter_path", self.filter_path(part))
            .with_body(body)
    }

    pub(super) fn scroll_request(&self) -> Result<Request, Error> {
        let Some(id) = &self.scroll_id else {
            return Err(Error::Protocol { what: self.what(), detail: "no _scroll_id".into() });
        };
        let body = json!({ "scroll_id": id, "scroll": self.options.read.keep_alive.to_string() });
        let page = Request::new(Method::Post, "/_search/scroll", self.what())
            .with_param("filter_path", self.filter_path(0))
            .with_body(&body)
            .with_repeat(Repeat::Never);
        Ok(self.bounded(page))
    }

    fn fields(&self, part: usize) -> FieldsRequest {
        self.options.fields.get(part).cloned().unwrap_or_default()
    }

    fn filter_path(&self, part: usize) -> String {
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

    fn body(&self, part: usize) -> Value {
        let fields = self.fields(part);
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
