//! When an executor that pulls its tasks asks for them.
//!
//! Owns: the signals that end its pause between two requests. Must not know: what it asks for.
//!
//! An idle executor's request waits at the scheduler, and is sent again once the response has come without tasks. A busy
//! one asks when one of its tasks has ended, and now and then, since another executor's task may have made work for it.

use ballista_executor::health::ExecutorHealth;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// The longest pause between a response without tasks and the next request.
const PAUSE: Duration = Duration::from_millis(50);
/// A task's vcore is free just after its report is ready to be sent.
const REPORT_READY: Duration = Duration::from_millis(20);
const POLL_INTERVAL: Duration = Duration::from_micros(500);

/// The signals of one executor.
#[derive(Clone, Debug)]
pub(crate) struct Wake {
    ask: Arc<Notify>,
    free: Arc<Semaphore>,
}

impl Wake {
    /// For an executor of so many vcores, all of them free.
    pub(crate) fn new(vcores: usize) -> Self {
        Self { ask: Arc::default(), free: Arc::new(Semaphore::new(vcores)) }
    }

    /// What Ballista's loop waits for between two requests.
    pub(crate) fn ask(&self) -> Arc<Notify> {
        Arc::clone(&self.ask)
    }

    /// The vcores that run no task.
    pub(crate) fn free(&self) -> Arc<Semaphore> {
        Arc::clone(&self.free)
    }

    /// There is work.
    pub(crate) fn work_available(&self) {
        self.ask.notify_one();
    }

    /// A task has ended: asks as soon as its report can go with the request.
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

    /// Ends each pause within [`PAUSE`] while the scheduler answers. Returns only with the process.
    ///
    /// Ballista's own pause after a response without tasks is one second, in which new work would wait. Where the
    /// scheduler is away it is long enough, and each request that fails writes a line to the log.
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
