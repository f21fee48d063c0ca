//! Ctrl-C, and SIGTERM as service managers send it.
//!
//! Owns: turning the signal into a future that a run can wait for. Must not know: what a run cleans up.
//!
//! The first signal asks the run to clean up. A second one during the clean-up, or one while nothing runs, ends the
//! process.

use ballista_elasticsearch::delete_embedded_files;
use flowsigma_node::shutdown_signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Handles Ctrl-C and SIGTERM for as long as the process lives.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    /// The number of runs: windows of a job are run at the same time.
    running: Arc<AtomicUsize>,
    asked: Arc<AtomicBool>,
    notify: Arc<Notify>,
}

/// A run. While it lives, the first signal is a request to clean up.
pub(crate) struct Running<'a>(&'a Interrupt);

impl Interrupt {
    /// Installs the handler. Call it once, inside a runtime.
    pub(crate) fn listen() -> Self {
        let this = Self { running: Arc::default(), asked: Arc::default(), notify: Arc::default() };
        let listener = this.clone();
        tokio::spawn(async move {
            while shutdown_signal().await.is_ok() {
                let running = listener.running.load(Ordering::SeqCst);
                if running == 0 || listener.asked.swap(true, Ordering::SeqCst) {
                    delete_embedded_files();
                    std::process::exit(130);
                }
                listener.notify.notify_waiters();
            }
        });
        this
    }

    /// Returns a handler that no signal reaches.
    pub(crate) fn never() -> Self {
        Self { running: Arc::default(), asked: Arc::default(), notify: Arc::default() }
    }

    /// Begins a run.
    pub(crate) fn begin(&self) -> Running<'_> {
        if self.running.fetch_add(1, Ordering::SeqCst) == 0 {
            self.asked.store(false, Ordering::SeqCst);
        }
        Running(self)
    }
}

impl Running<'_> {
    /// Returns once a signal has arrived since the run began.
    pub(crate) async fn interrupted(&self) {
        let notified = self.0.notify.notified();
        if !self.0.asked.load(Ordering::SeqCst) {
            notified.await;
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
