//! What the servers hold open for this process: points in time and scrolls.
//!
//! Owns: the record of them, and the request that frees each. Must not know: who sends it (`release`), or who reads
//! them.

use crate::paths;
use crate::request::{Method, Request};
use serde_json::json;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio_util::task::TaskTracker;

/// One thing that a server holds, by its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Held {
    /// Elasticsearch's point in time.
    SharedPit(String),
    /// OpenSearch's point in time.
    IndexPit(String),
    /// A scroll.
    Scroll(String),
}

impl Held {
    /// The request by which a server frees it.
    pub(crate) fn free_request(&self) -> Request {
        let what = match self {
            Self::SharedPit(_) | Self::IndexPit(_) => "close a point in time",
            Self::Scroll(_) => "free a scroll",
        };
        let (path, body) = match self {
            Self::SharedPit(id) => (paths::close_pit(), json!({ "id": id })),
            Self::IndexPit(id) => (paths::close_opensearch_pits(), json!({ "pit_id": [id] })),
            Self::Scroll(id) => (paths::clear_scroll(), json!({ "scroll_id": [id] })),
        };
        Request::new(Method::Delete, path, what).with_body(&body)
    }
}

/// The record of one connection.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    open: Mutex<HashSet<Held>>,
    tasks: TaskTracker,
    closing: AtomicBool,
}

impl Holdings {
    /// Whether nothing may be asked for any more.
    pub(crate) fn closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Asks for nothing more from now on.
    pub(crate) fn begin_closing(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// The tasks that open or free something.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// All that is open now.
    pub(crate) fn all(&self) -> Vec<Held> {
        self.open().iter().cloned().collect()
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashSet<Held>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, held: Held) {
        self.open().insert(held);
    }

    pub(crate) fn remove(&self, held: &Held) {
        self.open().remove(held);
    }
}
