//! Freeing what a connection's servers hold open.
//!
//! Owns: who frees it, at once, in the background, or at the end of the process. Must not know: who reads it.
//!
//! Whatever opens one does so in a task that is counted, and that goes on when its caller is dropped: a request under
//! way would else leave behind what nobody knows of.

use crate::connection::Connection;
use crate::error::Error;
use crate::held::Held;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

impl Connection {
    /// Runs to its end even if nobody waits for it.
    pub(crate) fn spawn_counted<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.held().tasks().spawn(task)
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
        let known = self.held().all();
        let freed = futures::future::join_all(known.iter().map(|held| self.free(held))).await;
        for error in freed.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "it stays open until its keep_alive");
        }
    }

    /// Ends this connection: nothing more is asked for, all that is open is freed, and what is being
    /// opened is waited for and freed. What is left after `longest`, the server drops after `keep_alive`.
    pub async fn close(&self, longest: Duration) {
        self.held().begin_closing();
        let free_all = async {
            // What is known goes first: what is being opened may hang until the time is over.
            self.free_known().await;
            self.held().tasks().close();
            self.held().tasks().wait().await;
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
