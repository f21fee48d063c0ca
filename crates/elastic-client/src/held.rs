//! What the servers hold open for this process: points in time and scrolls.
//!
//! Owns: the record of them, and freeing what is left of it. Must not know: who reads them.
//!
//! Whatever opens one does so in a task that is counted here, and that goes on when its caller is
//! dropped: a request under way would else leave behind what nobody knows of.

use crate::connection::Connection;
use crate::error::Error;
use crate::request::{Method, Request};
use serde_json::json;
use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
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
    fn free_request(&self) -> Request {
        let what = match self {
            Self::SharedPit(_) | Self::IndexPit(_) => "close a point in time",
            Self::Scroll(_) => "free a scroll",
        };
        let (path, body) = match self {
            Self::SharedPit(id) => ("/_pit", json!({ "id": id })),
            Self::IndexPit(id) => ("/_search/point_in_time", json!({ "pit_id": [id] })),
            Self::Scroll(id) => ("/_search/scroll", json!({ "scroll_id": [id] })),
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

impl Connection {
    /// Runs to its end even if nobody waits for it.
    pub(crate) fn spawn_counted<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.held().tasks.spawn(task)
    }

    /// Frees one. One that is gone already is no error.
    pub(crate) async fn free(&self, held: &Held) -> Result<(), Error> {
        let answer = self.send(&held.free_request()).await;
        self.held().remove(held);
        match answer {
            Ok(_) => Ok(()),
            Err(e) if e.status() == Some(404) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Frees in the background; outside of a runtime the server has to, after `keep_alive`.
    pub(crate) fn free_soon(self: &Arc<Self>, held: Held) {
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let connection = Arc::clone(self);
        self.spawn_counted(async move {
            if let Err(e) = connection.free(&held).await {
                tracing::warn!(error = %e, "it stays open until its keep_alive");
            }
        });
    }

    async fn free_known(&self) {
        let known: Vec<Held> = self.held().open().iter().cloned().collect();
        let freed = futures::future::join_all(known.iter().map(|held| self.free(held))).await;
        for error in freed.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "it stays open until its keep_alive");
        }
    }

    /// Ends this connection: nothing more is asked for, all that is open is freed, and what is being
    /// opened is waited for and freed. What is left after `longest`, the server drops after `keep_alive`.
    pub async fn close(&self, longest: Duration) {
        self.held().closing.store(true, Ordering::Relaxed);
        let free_all = async {
            // What is known goes first: what is being opened may hang until the time is over.
            self.free_known().await;
            self.held().tasks.close();
            self.held().tasks.wait().await;
            self.free_known().await;
        };
        if tokio::time::timeout(longest, free_all).await.is_err() {
            tracing::warn!(
                connection = self.name(),
                "not all was freed, the rest stays until its keep_alive"
            );
        }
    }
}
