//! The time, as a server of jobs sees it.
//!
//! Owns: the interface, the system's clock, and one for rehearsals. Must not know: what is waited for.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use std::time::{Duration, Instant};

/// The shortest wait of a rehearsal: its polls must not keep a processor busy.
const SHORTEST: Duration = Duration::from_millis(1);

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

/// A clock that starts at a time of its own and may run faster than the system's: jobs are rehearsed on past flows.
#[derive(Clone, Copy, Debug)]
pub struct RehearsalClock {
    start: Timestamp,
    speed: u32,
    begun: Instant,
}

impl RehearsalClock {
    /// Returns a clock that shows `start` now, and on which `speed` seconds pass in each second.
    pub fn new(start: Timestamp, speed: u32) -> Self {
        Self { start, speed: speed.max(1), begun: Instant::now() }
    }

    /// Returns how much faster than the system's clock it runs.
    pub fn speed(&self) -> u32 {
        self.speed
    }
}

#[async_trait]
impl Clock for RehearsalClock {
    fn now(&self) -> Timestamp {
        let passed = self.begun.elapsed().saturating_mul(self.speed);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        self.start.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep((duration / self.speed).max(SHORTEST)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rehearsal_starts_at_its_time_and_is_never_slower_than_asked() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = RehearsalClock::new(start, 3_600);
        let before = clock.now();
        assert!(before >= start);
        clock.sleep(Duration::from_secs(36)).await;
        assert!(clock.now().duration_since(before) >= SignedDuration::from_secs(36));
    }
}
