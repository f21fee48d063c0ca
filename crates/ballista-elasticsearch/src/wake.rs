//! The signals by which an executor polls for tasks.
//!
//! Owns: the signals that end the pause between two requests. Must not know: what is requested.
//!
//! The request of an idle executor waits at the scheduler. After a response without tasks, it is sent again. A
//! busy executor polls when one of its tasks has ended, and at an interval, because a task on another executor may
//! have made work for it.

use ballista_executor::health::ExecutorHealth;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// The longest pause between a response without tasks and the next request.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest wait for a free vcore after a task's end. Its report is ready to be sent just before that.
const REPORT_READY: Duration = Duration::from_millis(20);
const POLL_INTERVAL: Duration = Duration::from_micros(500);

/// The signals of one executor.
#[derive(Clone, Debug)]
pub(crate) struct Wake {
    ask: Arc<Notify>,
    free: Arc<Semaphore>,
}

impl Wake {
    /// Creates signals for an executor with `vcores`, all of them free.
    pub(crate) fn new(vcores: usize) -> Self {
        Self { ask: Arc::default(), free: Arc::new(Semaphore::new(vcores)) }
    }

    /// Returns the signal that Ballista's loop waits for between two requests.
    pub(crate) fn ask(&self) -> Arc<Notify> {
        Arc::clone(&self.ask)
    }

    /// Returns the semaphore of the vcores that run no task.
    pub(crate) fn free(&self) -> Arc<Semaphore> {
        Arc::clone(&self.free)
    }

    /// Signals that there is work.
    pub(crate) fn work_available(&self) {
        self.ask.notify_one();
    }

    /// Signals that a task has ended, as soon as its report can be sent with the request.
    pub(crate) fn task_ended(&self) {
        let (wake, before) = (self.clone(), self.free.available_permits());
        tokio::spawn(async move {
            let freed = async {
                while wake.free.available_permits() <= before {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            };
            tokio::time::timeout(REPORT_READY, freed).await.ok();
            wake.ask.notify_one();
        });
    }

    /// Ends each pause within [`PAUSE`] as long as the scheduler responds. Never returns.
    ///
    /// Ballista's own pause after a response without tasks is one second, and new work would wait for it. If the
    /// scheduler does not respond, that pause is right: each failed request writes a line to the log.
    pub(crate) async fn while_answered(self, last_request: ExecutorHealth) {
        let mut every = tokio::time::interval(PAUSE);
        loop {
            every.tick().await;
            if last_request.is_ready() {
                self.ask.notify_one();
            }
        }
    }
}
