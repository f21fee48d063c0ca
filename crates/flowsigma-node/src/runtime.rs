//! The Tokio runtime of a process, and its shutdown signal.
//!
//! Owns: both. Must not know: what runs, or what is cleaned up on shutdown.

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// The stack size of a worker thread, in bytes.
const STACK: usize = 32 << 20;

/// Starts a runtime with large stacks. Planning recurses deeply, and needs even more stack in debug builds.
///
/// # Errors
///
/// Returns an error if the system cannot create threads.
pub fn node_runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().thread_stack_size(STACK).build()
}

/// Returns on Ctrl-C (SIGINT), and on SIGTERM, which service managers send.
///
/// # Errors
///
/// Returns an error if the process cannot install signal handlers.
pub async fn shutdown_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        signal = tokio::signal::ctrl_c() => signal,
        _ = terminate.recv() => Ok(()),
    }
}
