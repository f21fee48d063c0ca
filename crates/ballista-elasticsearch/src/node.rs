//! What all processes do alike.
//!
//! Owns: being told to end. Must not know: which of them it is.

use tokio::signal::unix::{SignalKind, signal};

/// Returns at Ctrl-C, and at SIGTERM as service managers send it.
pub async fn told_to_end() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        signal = tokio::signal::ctrl_c() => signal,
        _ = terminate.recv() => Ok(()),
    }
}
