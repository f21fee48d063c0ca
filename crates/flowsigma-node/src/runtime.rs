//! The runtime of a process, and the signals that end it.
//!
//! Owns: both. Must not know: what runs, or what is cleaned up at the end.

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// The stack of a thread that plans, in bytes.
const STACK: usize = 32 << 20;

/// Starts a runtime for plans: they are deep recursions, in debug builds more so.
///
/// # Errors
///
/// If the system gives no threads.
pub fn node_runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().thread_stack_size(STACK).build()
}

/// Returns at Ctrl-C, and at SIGTERM as service managers send it.
///
/// # Errors
///
/// If the system lets this process handle no signals.
pub async fn shutdown_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        signal = tokio::signal::ctrl_c() => signal,
        _ = terminate.recv() => Ok(()),
    }
}
