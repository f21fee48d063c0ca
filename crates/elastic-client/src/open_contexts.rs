//! The open search contexts of this process: points in time and scrolls.
//!
//! Owns: the record of them, and the request that closes each. Must not know: when the request is sent (`release`), or
//! what reads the contexts.

use crate::paths;
use crate::request::{Method, Request};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio_util::task::TaskTracker;

/// An open search context, by its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OpenContext {
    /// A point in time of Elasticsearch.
    SharedPit(String),
    /// A point in time of OpenSearch.
    IndexPit(String),
    /// A scroll.
    Scroll(String),
}

/// The most ids in one request, if the server accepts a list.
const IDS_A_REQUEST: usize = 100;

impl OpenContext {
    fn free_request(&self) -> Request {
        match self {
            Self::SharedPit(id) => free(paths::close_pit(), "close a point in time", &json!({ "id": id })),
            Self::IndexPit(id) => Self::free_index_pits(&[id]),
            Self::Scroll(id) => free(paths::clear_scroll(), "free a scroll", &json!({ "scroll_id": [id] })),
        }
    }

    fn free_index_pits(ids: &[&str]) -> Request {
        free(paths::close_opensearch_pits(), "close a point in time", &json!({ "pit_id": ids }))
    }
}

fn free(path: String, operation: &str, body: &Value) -> Request {
    Request::new(Method::Delete, path, operation).with_body(body)
}

/// Returns the requests that close all of these contexts, each with the contexts that it closes.
pub(crate) fn free_requests(open: Vec<OpenContext>) -> Vec<(Request, Vec<OpenContext>)> {
    let (pits, others): (Vec<OpenContext>, Vec<OpenContext>) =
        open.into_iter().partition(|open| matches!(open, OpenContext::IndexPit(_)));
    let mut requests: Vec<(Request, Vec<OpenContext>)> =
        others.into_iter().map(|open| (open.free_request(), vec![open])).collect();
    for pits in pits.chunks(IDS_A_REQUEST) {
        let ids: Vec<&str> = pits
            .iter()
            .filter_map(|open| match open {
                OpenContext::IndexPit(id) => Some(id.as_str()),
                OpenContext::SharedPit(_) | OpenContext::Scroll(_) => None,
            })
            .collect();
        requests.push((OpenContext::free_index_pits(&ids), pits.to_vec()));
    }
    requests
}

/// The open search contexts of one connection.
#[derive(Debug, Default)]
pub(crate) struct OpenContexts {
    open: Mutex<HashSet<OpenContext>>,
    tasks: TaskTracker,
    closing: AtomicBool,
}

impl OpenContexts {
    /// Returns whether the connection is closing. Then only requests that close contexts are sent.
    pub(crate) fn closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Marks the connection as closing.
    pub(crate) fn begin_closing(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Returns the tasks that open or close contexts.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Returns all contexts that are open now.
    pub(crate) fn all(&self) -> Vec<OpenContext> {
        self.open().iter().cloned().collect()
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashSet<OpenContext>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, open: OpenContext) {
        self.open().insert(open);
    }

    pub(crate) fn remove(&self, open: &OpenContext) {
        self.open().remove(open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_takes_in_a_list_is_freed_by_few_requests() {
        let mut open: Vec<OpenContext> = (0..250).map(|i| OpenContext::IndexPit(i.to_string())).collect();
        open.push(OpenContext::Scroll("s".into()));
        open.push(OpenContext::SharedPit("p".into()));
        let requests = free_requests(open.clone());
        assert_eq!(requests.len(), 5);
        let freed: HashSet<OpenContext> = requests.into_iter().flat_map(|(_, freed)| freed).collect();
        assert_eq!(freed, open.into_iter().collect());
    }
}
