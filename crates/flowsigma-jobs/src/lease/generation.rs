//! One generation of a lease.
//!
//! Owns: its JSON, and when it has ended. Must not know: the store.

use crate::error::Error;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// The most that the end of another's lease is extended, however long it lasts.
const MAX_MARGIN: SignedDuration = SignedDuration::from_secs(30);

/// The longest duration. A killed process would block its job for as long.
const MAX_DURATION: Duration = Duration::from_secs(86_400);

/// A generation as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Generation {
    version: u32,
    /// Host and process id.
    pub(super) holder: String,
    /// Random, the same in all generations of one lease.
    pub(super) nonce: String,
    taken: Timestamp,
    expires: Timestamp,
    #[serde(default)]
    released: bool,
}

impl Generation {
    pub(super) fn new(holder: &str, nonce: &str, deadline: Deadline) -> Self {
        Self {
            version: 1,
            holder: holder.into(),
            nonce: nonce.into(),
            taken: deadline.begin,
            expires: deadline.wall,
            released: false,
        }
    }

    pub(super) fn released(holder: &str, nonce: &str) -> Self {
        let now = Timestamp::now();
        let (holder, nonce) = (holder.into(), nonce.into());
        Self { version: 1, holder, nonce, taken: now, expires: now, released: true }
    }

    /// Returns whether anyone may take the lease: it was released, or its end has passed by a quarter of its duration.
    pub(super) fn has_ended(&self, now: Timestamp) -> bool {
        self.released || now > self.end_for_others()
    }

    fn end_for_others(&self) -> Timestamp {
        let margin = (self.expires.duration_since(self.taken) / 4).min(MAX_MARGIN);
        self.expires.checked_add(margin).unwrap_or(Timestamp::MAX)
    }

    /// Returns the error for those who cannot have the lease.
    pub(super) fn leased(&self, job: &str) -> Error {
        Error::Leased {
            job: job.into(),
            until: self.end_for_others().to_string(),
            holder: self.holder.clone(),
        }
    }
}

/// When a lease ends for its holder: by the wall clock, which others see, or by the monotonic one. A computer that
/// sleeps stops the latter, and one whose clock is set back the former.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    begin: Timestamp,
    wall: Timestamp,
    monotonic: Instant,
}

impl Deadline {
    pub(super) fn after(duration: Duration) -> Self {
        let duration = duration.min(MAX_DURATION);
        let begin = Timestamp::now();
        let wall = begin.checked_add(duration).unwrap_or(Timestamp::MAX);
        Self { begin, wall, monotonic: Instant::now() + duration }
    }

    pub(super) fn wall(&self) -> Timestamp {
        self.wall
    }

    pub(super) fn has_passed(&self) -> bool {
        self.remaining().is_zero()
    }

    pub(super) fn remaining(&self) -> Duration {
        let wall = Duration::try_from(self.wall.duration_since(Timestamp::now())).unwrap_or_default();
        wall.min(self.monotonic.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_ends_later_for_others_than_for_its_holder() {
        let deadline = Deadline::after(Duration::from_secs(60));
        let generation = Generation::new("a 1", "x", deadline);
        let end = deadline.wall();
        assert!(!generation.has_ended(end));
        assert!(!generation.has_ended(end + SignedDuration::from_secs(15)));
        assert!(generation.has_ended(end + SignedDuration::from_millis(15_001)));
        let long = Generation::new("a 1", "x", Deadline::after(Duration::from_secs(86_400)));
        assert!(long.has_ended(long.expires + SignedDuration::from_secs(31)));
        assert!(Generation::released("a 1", "x").has_ended(Timestamp::now()));
        assert!(!deadline.has_passed());
        assert!(Deadline::after(Duration::ZERO).has_passed());
    }
}
