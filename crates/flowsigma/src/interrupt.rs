//! Ctrl-C, and SIGTERM as service managers send it.
//!
//! Owns: turning the signal into a future that a run can wait for. Must not know: what a run cleans up.
//!
//! The first signal asks the run to clean up. A second one during the clean-up, or one while nothing runs, ends the
//! process.

use ballista_elasticsearch::delete_embedded_files;
use flowsigma_node::shutdown_signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Handles Ctrl-C and SIGTERM for as long as the process lives.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    running: Arc<AtomicBool>,
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
                if !running || listener.asked.swap(true, Ordering::SeqCst) {
                    delete_embedded_files();
                    std::process::exit(130);
                }
                listener.notify.notify_waiters();
            }
        });
        this
    }

    /// Begins a run.
    pub(crate) fn begin(&self) -> Running<'_> {
        self.asked.store(false, Ordering::SeqCst);
        self.running.store(true, Ordering::SeqCst);
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
        self.0.running.store(false, Ordering::SeqCst);
    }
}
