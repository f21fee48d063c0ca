//! Reading a slice of a point in time.
//!
//! Owns: the id, the order of rows, and the cursor. Must not know: how the point in time was opened, or how responses
//! are used.

use super::requests::SearchRequests;
use crate::paths;
use crate::request::Request;
use crate::slices::Tiebreaker;
use serde_json::{Value, json};
use std::sync::Arc;

/// The state of a read by point in time.
#[derive(Clone)]
pub(super) struct PitRead {
    /// The newest id of the point in time.
    id: Arc<str>,
    /// The order that is unique within the slice.
    tiebreaker: Tiebreaker,
    /// The sort values of the last row that order it.
    cursor: Option<Vec<Value>>,
}

impl PitRead {
    pub(super) fn new(id: Arc<str>, tiebreaker: Tiebreaker) -> Self {
        Self { id, tiebreaker, cursor: None }
    }

    /// Takes over the id of a response, if it has one.
    pub(super) fn renamed(&mut self, id: Option<String>) {
        if let Some(id) = id {
            self.id = id.into();
        }
    }

    /// Moves the cursor to this row. The next page begins after it.
    pub(super) fn advance(&mut self, last_sort: Vec<Value>) {
        self.cursor = Some(last_sort);
    }

    /// Returns one request for each part of the page. The requests are idempotent.
    pub(super) fn page_requests(&self, page: &SearchRequests<'_>) -> Vec<Request> {
        let requests = (0..page.parts()).map(|part| {
            let mut body = self.body(page, part);
            let values = page.value_keys(part);
            if let Some(cursor) = &self.cursor {
                // Missing values come last, so the row of the cursor is not after it.
                let missing = values.iter().map(|_| Value::Null);
                body["search_after"] = cursor.iter().cloned().chain(missing).collect();
            }
            let mut order = self.order(page);
            order.extend(values);
            body["sort"] = order.into();
            if self.cursor.is_some() || part > 0 {
                body["track_total_hits"] = json!(false);
            }
            page.bounded(page.search(paths::search(), part, &body))
        });
        requests.collect()
    }

    /// Returns a request for the number of rows, without rows.
    pub(super) fn count_request(&self, page: &SearchRequests<'_>) -> Request {
        let mut body = self.body(page, 0);
        body["size"] = json!(0);
        page.search(paths::search(), 0, &body)
    }

    fn body(&self, page: &SearchRequests<'_>, part: usize) -> Value {
        let mut body = page.body(part);
        let keep_alive = page.options.read.keep_alive.to_string();
        body["pit"] = json!({ "id": self.id.as_ref(), "keep_alive": keep_alive });
        body
    }

    /// Returns the requested order, then the tiebreaker, which makes the position of each row unique.
    fn order(&self, page: &SearchRequests<'_>) -> Vec<Value> {
        let unique = match self.tiebreaker {
            Tiebreaker::ShardDoc => "_shard_doc",
            Tiebreaker::Doc => "_doc",
        };
        let mut order = page.order();
        order.push(json!(unique));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FieldsRequest, PageOptions};
    use super::*;
    use crate::read_options::{KeepAlive, ReadOptions};
    use crate::slices::{Cut, Slice, SliceSource};

    #[test]
    fn pages_name_the_newest_id_and_begin_after_the_last_row() {
        let slice = Slice {
            ordinal: 0,
            of: 2,
            index: "flows".into(),
            source: SliceSource::Pit { id: "p1".into(), tiebreaker: Tiebreaker::ShardDoc },
            cut: Some(Cut { id: 0, max: 2 }),
            filter: None,
        };
        let options = PageOptions {
            query: json!({ "match_all": {} }),
            fields: vec![
                FieldsRequest::default(),
                FieldsRequest {
                    sort_values: vec![("a.b".into(), "ip".into()), ("c".into(), "keyword".into())],
                    ..FieldsRequest::default()
                },
            ],
            read: ReadOptions {
                keep_alive: KeepAlive::from_millis(60_000).unwrap(),
                ..ReadOptions::default()
            },
            limit: None,
            ignored: None,
            order: Vec::new(),
        };
        let page = SearchRequests { slice: &slice, options: &options, rows: 10 };
        let bodies = |pit: &PitRead| -> Vec<Value> {
            let requests = pit.page_requests(&page);
            requests.iter().map(|r| serde_json::from_slice(r.body.as_ref().unwrap()).unwrap()).collect()
        };
        let mut pit = PitRead::new("p1".into(), Tiebreaker::ShardDoc);
        let first = bodies(&pit);
        assert_eq!(first.len(), 2);
        assert_eq!(first[0]["pit"], json!({ "id": "p1", "keep_alive": "60000ms" }));
        assert_eq!(first[0]["sort"], json!(["_shard_doc"]));
        assert_eq!(first[0]["slice"], json!({ "id": 0, "max": 2 }));
        assert_eq!(first.iter().map(|b| b["track_total_hits"] == true).collect::<Vec<_>>(), [true, false]);
        assert!(first[0].get("search_after").is_none());
        pit.renamed(Some("p2".into()));
        pit.renamed(None);
        pit.advance(vec![json!(7)]);
        let later = bodies(&pit);
        for body in &later {
            assert_eq!(body["pit"]["id"], "p2");
            assert_eq!(body["track_total_hits"], false);
        }
        assert_eq!(
            (&later[0]["search_after"], &later[1]["search_after"]),
            (&json!([7]), &json!([7, null, null]))
        );
        let value = |field: &str, kind: &str| json!({ field: { "order": "asc", "missing": "_last", "unmapped_type": kind } });
        assert_eq!(later[1]["sort"], json!(["_shard_doc", value("a.b", "ip"), value("c", "keyword")]));
        let count = pit.count_request(&SearchRequests { rows: 0, ..page });
        let count: Value = serde_json::from_slice(count.body.as_ref().unwrap()).unwrap();
        assert_eq!((&count["size"], &count["track_total_hits"]), (&json!(0), &json!(true)));
        assert!(count.get("search_after").is_none());
    }
}
