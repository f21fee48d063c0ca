//! The time, as a server of jobs sees it.
//!
//! Owns: the interface, and the system's clock. Must not know: what is waited for.

use async_trait::async_trait;
use jiff::Timestamp;
use std::time::Duration;

/// Tells the time and waits. A test or a simulation has its own.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Returns the time.
    fn now(&self) -> Timestamp;

    /// Waits for a duration of this clock.
    async fn sleep(&self, duration: Duration);
}

/// The clock of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
