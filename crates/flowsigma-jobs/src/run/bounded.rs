//! Counting a window within the limits of its job.
//!
//! Owns: when counting is cancelled, and how long that may take. Must not know: what is counted, or what is recorded.

use crate::engine::Outcome;
use crate::error::{Error, Result};
use crate::manifest::WindowTimes;
use crate::run::Runner;
use crate::span::Span;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a cancelled engine may take to stop what it has begun. A cluster cancels a job within 20 s.
const CANCEL_WAIT: Duration = Duration::from_secs(30);

impl Runner<'_> {
    /// Counts a window and decides, until `limits.timeout` is over or the lease is lost.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] if the engine fails, [`Error::TimedOut`] if it takes too long, and [`Error::LeaseLost`].
    pub(super) async fn outcome(&self, window: WindowTimes) -> Result<Outcome> {
        let (job, cancel) = (self.job.name.as_str(), CancellationToken::new());
        let limit = self.limit()?;
        let running = self.engine.run(self.job, window, &cancel);
        tokio::pin!(running);
        let error = tokio::select! {
            outcome = &mut running => {
                return outcome.map_err(|source| Error::Engine {
                    job: job.into(),
                    window: window.start.to_string(),
                    source,
                });
            }
            error = self.lease.lost() => error,
            limit = expired(limit) => Error::TimedOut {
                job: job.into(),
                window: window.start.to_string(),
                limit,
            },
        };
        cancel.cancel();
        if tokio::time::timeout(CANCEL_WAIT, running).await.is_err() {
            tracing::warn!(job, window = %window.start, "a cancelled run has not stopped and is given up");
        }
        Err(error)
    }

    fn limit(&self) -> Result<Option<Span>> {
        self.job.limits.timeout.as_deref().map(str::parse).transpose()
    }
}

/// Waits until the limit is over, and returns it. Without one it never returns.
async fn expired(limit: Option<Span>) -> String {
    match limit {
        Some(limit) => {
            tokio::time::sleep(limit.duration()).await;
            limit.to_string()
        }
        None => std::future::pending().await,
    }
}
