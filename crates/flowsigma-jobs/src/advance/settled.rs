//! What an advance knows from the one before.
//!
//! Owns: which windows still need something, and for how long that is believed. Must not know: what they need.

use crate::manifest::WindowTimes;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

/// How long the store is not looked through. What another process has left owed or removed is noticed after that.
const BELIEVED: SignedDuration = SignedDuration::from_hours(24);

/// What an advance has learned of a job's windows. The next one looks only at windows that need something, and at new
/// ones. Once a day, and if the job file has changed, it looks through the whole store.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// The digest of the job file.
    digest: String,
    /// When the whole store was looked through.
    looked: Option<Timestamp>,
    /// Windows that start earlier need nothing, unless they are in `open`.
    pub(super) next: Option<Timestamp>,
    /// Windows that failed, that a sink is owed, or whose documents are counted again.
    pub(super) open: BTreeSet<WindowTimes>,
}

impl Settled {
    /// Begins an advance. Returns whether it looks through the whole store.
    pub(super) fn begin(&mut self, digest: &str, now: Timestamp) -> bool {
        let is_believed = self.digest == digest
            && self.looked.is_some_and(|looked| looked <= now && now.duration_since(looked) < BELIEVED);
        if !is_believed {
            *self = Self { digest: digest.into(), ..Self::default() };
        }
        !is_believed
    }

    /// Remembers that the whole store was looked through.
    pub(super) fn looked_through(&mut self, now: Timestamp) {
        self.looked = Some(now);
    }

    /// Remembers whether a window needs something.
    pub(super) fn keep(&mut self, window: WindowTimes, is_open: bool) {
        if is_open {
            self.open.insert(window);
        } else {
            self.open.remove(&window);
        }
    }
}
