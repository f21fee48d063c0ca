//! When an executor that pulls its tasks asks for them.
//!
//! Owns: the signals that end its pause between two requests. Must not know: what it asks for.
//!
//! An idle executor's request waits at the scheduler, and is sent again as soon as it was answered with nothing. A busy
//! one asks when one of its tasks has ended, and now and then, since another executor's task may have made work for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

/// The longest pause between an answer without tasks and the next request.
const PAUSE: Duration = Duration::from_millis(50);
/// A task's vcore is free just after its report is ready to be sent.
const REPORT_READY: Duration = Duration::from_millis(20);
const LOOK_INTERVAL: Duration = Duration::from_micros(500);

/// The signals of one executor.
#[derive(Clone, Debug)]
pub(crate) struct Wake {
    ask: Arc<Notify>,
    free: Arc<Semaphore>,
    last_end: Arc<Mutex<Option<Instant>>>,
}

impl Wake {
    /// For an executor of so many vcores, all of them free.
    pub(crate) fn new(vcores: usize) -> Self {
        Self { ask: Arc::default(), free: Arc::new(Semaphore::new(vcores)), last_end: Arc::default() }
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
        *self.last_end.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let (wake, before) = (self.clone(), self.free.available_permits());
        tokio::spawn(async move {
            let freed = async {
                while wake.free.available_permits() <= before {
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
            };
            tokio::time::timeout(REPORT_READY, freed).await.ok();
            wake.ask.notify_one();
        });
    }

    /// Returns `after` the end of the last task; at once if that is past, or there was none.
    pub(crate) async fn settled(&self, after: Duration) {
        let last_end = *self.last_end.lock().unwrap_or_else(PoisonError::into_inner);
        let left = last_end.map(|end| after.saturating_sub(end.elapsed()));
        tokio::time::sleep(left.unwrap_or_default()).await;
    }

    /// Ends each pause within [`PAUSE`]. Returns only with the process.
    ///
    /// Ballista's own pause after an answer without tasks is one second, in which new work would wait.
    pub(crate) async fn now_and_then(self) {
        let mut every = tokio::time::interval(PAUSE);
        loop {
            every.tick().await;
            self.ask.notify_one();
        }
    }
}
