//! What the servers hold open for this process: points in time and scrolls.
//!
//! Owns: the record of them, and freeing what is left of it. Must not know: who reads them.
//!
//! Whatever opens one does so in a task that is counted here, and that goes on when its caller is
//! dropped: a request under way would else leave behind what nobody knows of.

use crate::connection::Connection;
use crate::error::Error;
use crate::request::{Method, Request};
use futures::StreamExt;
use serde_json::{Value, json};
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

/// Ids that one request frees, where the server takes a list.
const IDS_A_REQUEST: usize = 100;
/// Requests that free, beside each other.
const CONCURRENT_REQUESTS: usize = 16;

impl Held {
    fn free_request(&self) -> Request {
        match self {
            Self::SharedPit(id) => free("/_pit", "close a point in time", &json!({ "id": id })),
            Self::IndexPit(id) => Self::free_index_pits(&[id]),
            Self::Scroll(id) => free("/_search/scroll", "free a scroll", &json!({ "scroll_id": [id] })),
        }
    }

    fn free_index_pits(ids: &[&str]) -> Request {
        free("/_search/point_in_time", "close a point in time", &json!({ "pit_id": ids }))
    }
}

fn free(path: &str, what: &str, body: &Value) -> Request {
    Request::new(Method::Delete, path, what).with_body(body)
}

/// The requests that free all of these, each with what it frees.
fn free_requests(held: Vec<Held>) -> Vec<(Request, Vec<Held>)> {
    let (pits, others): (Vec<Held>, Vec<Held>) =
        held.into_iter().partition(|held| matches!(held, Held::IndexPit(_)));
    let mut requests: Vec<(Request, Vec<Held>)> =
        others.into_iter().map(|held| (held.free_request(), vec![held])).collect();
    for pits in pits.chunks(IDS_A_REQUEST) {
        let ids: Vec<&str> = pits
            .iter()
            .filter_map(|held| match held {
                Held::IndexPit(id) => Some(id.as_str()),
                Held::SharedPit(_) | Held::Scroll(_) => None,
            })
            .collect();
        requests.push((Held::free_index_pits(&ids), pits.to_vec()));
    }
    requests
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

    /// What is gone already is no error.
    async fn free_by(&self, request: Request, held: &[Held]) -> Result<(), Error> {
        let answer = self.send(&request).await;
        held.iter().for_each(|held| self.held().remove(held));
        match answer {
            Ok(_) => Ok(()),
            Err(e) if e.status() == Some(404) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Frees all of them, many in a request or several requests beside each other.
    ///
    /// # Errors
    ///
    /// The first failure, after all were tried.
    pub(crate) async fn free_all(&self, held: Vec<Held>) -> Result<(), Error> {
        let requests = futures::stream::iter(free_requests(held));
        let freed = requests.map(|(request, held)| async move { self.free_by(request, &held).await });
        let freed: Vec<Result<(), Error>> = freed.buffer_unordered(CONCURRENT_REQUESTS).collect().await;
        freed.into_iter().collect()
    }

    /// The same in the background; outside of a runtime the server has to, after `keep_alive`.
    pub(crate) fn free_all_soon(self: &Arc<Self>, held: Vec<Held>) {
        if held.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let connection = Arc::clone(self);
        self.spawn_counted(async move {
            if let Err(e) = connection.free_all(held).await {
                tracing::warn!(error = %e, "some stay open until their keep_alive");
            }
        });
    }

    /// Frees one in the background.
    pub(crate) fn free_soon(self: &Arc<Self>, held: Held) {
        self.free_all_soon(vec![held]);
    }

    async fn free_known(&self) {
        let known: Vec<Held> = self.held().open().iter().cloned().collect();
        if let Err(error) = self.free_all(known).await {
            tracing::warn!(%error, "some stay open until their keep_alive");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_takes_in_a_list_is_freed_by_few_requests() {
        let mut held: Vec<Held> = (0..250).map(|i| Held::IndexPit(i.to_string())).collect();
        held.push(Held::Scroll("s".into()));
        held.push(Held::SharedPit("p".into()));
        let requests = free_requests(held.clone());
        assert_eq!(requests.len(), 5);
        let freed: HashSet<Held> = requests.into_iter().flat_map(|(_, freed)| freed).collect();
        assert_eq!(freed, held.into_iter().collect());
    }
}
