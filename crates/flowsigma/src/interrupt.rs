//! Ctrl-C, and SIGTERM as service managers send it.
//!
//! Owns: turning it into something a run can wait for. The first asks the run to clean up; a second
//! while it does so, or one when nothing runs, ends the process.

use ballista_elasticsearch::delete_embedded_files;
use flowsigma_node::shutdown_signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Takes Ctrl-C over for as long as the process lives.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    running: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
    notify: Arc<Notify>,
}

/// While it lives, the first Ctrl-C is a request.
pub(crate) struct Running<'a>(&'a Interrupt);

impl Interrupt {
    /// To be called once, in a runtime.
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

    /// A run begins.
    pub(crate) fn begin(&self) -> Running<'_> {
        self.asked.store(false, Ordering::SeqCst);
        self.running.store(true, Ordering::SeqCst);
        Running(self)
    }
}

impl Running<'_> {
    /// Returns once Ctrl-C was pressed since the run began.
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
