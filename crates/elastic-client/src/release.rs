//! Freeing what a connection's servers hold open.
//!
//! Owns: who frees it, at once, in the background, or at the end of the process. Must not know: who reads it.
//!
//! Whatever opens one does so in a task that is counted, and that goes on when its caller is dropped: a request under
//! way would else leave behind what nobody knows of.

use crate::connection::Connection;
use crate::error::Error;
use crate::open_contexts::{OpenContext, free_requests};
use crate::request::Request;
use futures::StreamExt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Requests that free, beside each other.
const CONCURRENT_REQUESTS: usize = 16;

impl Connection {
    /// Runs to its end even if nobody waits for it.
    pub(crate) fn spawn_counted<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.open_contexts().tasks().spawn(task)
    }

    /// What is gone already is no error.
    async fn free_by(&self, request: Request, contexts: &[OpenContext]) -> Result<(), Error> {
        let response = self.send(&request).await;
        contexts.iter().for_each(|context| self.open_contexts().remove(context));
        match response {
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
    pub(crate) async fn free_all(&self, contexts: Vec<OpenContext>) -> Result<(), Error> {
        let requests = futures::stream::iter(free_requests(contexts));
        let freed = requests.map(|(request, contexts)| async move { self.free_by(request, &contexts).await });
        let freed: Vec<Result<(), Error>> = freed.buffer_unordered(CONCURRENT_REQUESTS).collect().await;
        freed.into_iter().collect()
    }

    /// The same in the background; outside of a runtime the server has to, after `keep_alive`.
    pub(crate) fn free_all_soon(self: &Arc<Self>, contexts: Vec<OpenContext>) {
        if contexts.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let connection = Arc::clone(self);
        self.spawn_counted(async move {
            if let Err(error) = connection.free_all(contexts).await {
                tracing::warn!(%error, "some stay open until their keep_alive");
            }
        });
    }

    /// Frees one in the background.
    pub(crate) fn free_soon(self: &Arc<Self>, context: OpenContext) {
        self.free_all_soon(vec![context]);
    }

    async fn free_known(&self) {
        if let Err(error) = self.free_all(self.open_contexts().all()).await {
            tracing::warn!(%error, "some stay open until their keep_alive");
        }
    }

    /// Ends this connection: nothing more is asked for, all that is open is freed, and what is being
    /// opened is waited for and freed. What is left after `longest`, the server drops after `keep_alive`.
    pub async fn close(&self, longest: Duration) {
        self.open_contexts().begin_closing();
        let free_all = async {
            // What is known goes first: what is being opened may hang until the time is over.
            self.free_known().await;
            self.open_contexts().tasks().close();
            self.open_contexts().tasks().wait().await;
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
