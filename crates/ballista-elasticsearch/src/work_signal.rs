//! The signal that there may be work.
//!
//! Owns: raising it, and waiting for it. Must not know: who works.

use ballista_scheduler::config::OnWorkAvailableFn;
use std::sync::Arc;
use tokio::sync::watch;

/// A signal to executors that wait for work that there may be some.
#[derive(Clone, Debug)]
pub struct WorkSignal(Arc<watch::Sender<u64>>);

impl Default for WorkSignal {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl WorkSignal {
    /// Returns the hook that Ballista's scheduler calls when a job was submitted, or reached its next stage.
    pub fn callback(&self) -> OnWorkAvailableFn {
        let signal = self.clone();
        Arc::new(move |_| signal.raise())
    }

    pub(crate) fn raise(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Returns a receiver that changes with each signal from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}
