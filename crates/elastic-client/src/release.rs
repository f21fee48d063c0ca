//! Closing the open search contexts of a connection.
//!
//! Owns: when a context is closed: at once, in the background, or at the end of the process. Must not know: what reads
//! it.
//!
//! A context is opened in a counted task that continues when its caller is dropped. Otherwise a request in flight could
//! open a context that is never recorded.

use crate::connection::Connection;
use crate::error::Error;
use crate::open_contexts::{OpenContext, free_requests};
use crate::request::Request;
use futures::StreamExt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The most concurrent requests that close contexts.
const CONCURRENT_REQUESTS: usize = 16;

impl Connection {
    /// Spawns a counted task. It continues if the handle is dropped, and [`Connection::close`] waits for it.
    pub(crate) fn spawn_counted<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.open_contexts().tasks().spawn(task)
    }

    /// Closes contexts with one request. It is not an error if the server has already dropped them.
    async fn free_by(&self, request: Request, contexts: &[OpenContext]) -> Result<(), Error> {
        let response = self.send(&request).await;
        contexts.iter().for_each(|context| self.open_contexts().remove(context));
        match response {
            Ok(_) => Ok(()),
            Err(e) if e.status() == Some(404) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Closes all of these contexts with concurrent requests, many contexts in each request if the server accepts a
    /// list.
    ///
    /// # Errors
    ///
    /// The first error, after all requests were sent.
    pub(crate) async fn free_all(&self, contexts: Vec<OpenContext>) -> Result<(), Error> {
        let requests = futures::stream::iter(free_requests(contexts));
        let freed = requests.map(|(request, contexts)| async move { self.free_by(request, &contexts).await });
        let freed: Vec<Result<(), Error>> = freed.buffer_unordered(CONCURRENT_REQUESTS).collect().await;
        freed.into_iter().collect()
    }

    /// Closes all of these contexts in the background. Without a Tokio runtime, the server drops them after
    /// `keep_alive`.
    pub(crate) fn free_all_soon(self: &Arc<Self>, contexts: Vec<OpenContext>) {
        if contexts.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let connection = Arc::clone(self);
        self.spawn_counted(async move {
            if let Err(error) = connection.free_all(contexts).await {
                tracing::warn!(%error, "some search contexts stay open until keep_alive has passed");
            }
        });
    }

    /// Closes a context in the background.
    pub(crate) fn free_soon(self: &Arc<Self>, context: OpenContext) {
        self.free_all_soon(vec![context]);
    }

    async fn free_known(&self) {
        if let Err(error) = self.free_all(self.open_contexts().all()).await {
            tracing::warn!(%error, "some search contexts stay open until keep_alive has passed");
        }
    }

    /// Closes the connection and its open search contexts. No further read is sent.
    ///
    /// Contexts that are being opened are closed once they are open. If this takes longer than `longest`, the server
    /// drops the remaining contexts after `keep_alive`.
    pub async fn close(&self, longest: Duration) {
        self.open_contexts().begin_closing();
        let free_all = async {
            // The open contexts come first, because those that are being opened may take all of the time.
            self.free_known().await;
            self.open_contexts().tasks().close();
            self.open_contexts().tasks().wait().await;
            self.free_known().await;
        };
        if tokio::time::timeout(longest, free_all).await.is_err() {
            tracing::warn!(
                connection = self.name(),
                "not all search contexts were closed in time, some stay open until keep_alive has passed"
            );
        }
    }
}
