//! What an advance knows from the one before.
//!
//! Owns: which windows still need something, and for how long that is believed. Must not know: what they need.
//!
//! It is an object of the store, which an advance reads first and writes last, both under the lease. One that is older than
//! the last advance does no harm: windows from `next` on are tried again, which a manifest makes cheap, and windows in
//! `open` are looked at. Whatever else changes windows under the lease deletes it first: a backfill, the run of a single
//! window, and the removal of a window.

use crate::manifest::WindowTimes;
use crate::store::Store;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How long the store is not looked through. What another process has left owed or removed is noticed after that.
const BELIEVED: SignedDuration = SignedDuration::from_hours(24);

/// What an advance has learned of a job's windows. The next one looks only at windows that need something, and at new
/// ones. Once a day, and if the job file has changed, it looks through the whole store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Settled {
    /// The format, 1.
    version: u32,
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
    /// Reads what the last advance has learned. What cannot be read is not known.
    pub(super) async fn read(store: &Store, job: &str) -> Self {
        match store.settled(job).await {
            Ok(settled) => settled.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(job, %error, "all windows of the store are looked at");
                Self::default()
            }
        }
    }

    /// Writes it for the next advance. The caller holds the lease.
    pub(super) async fn write(&self, store: &Store, job: &str) {
        if let Err(error) = store.write_settled(job, self).await {
            tracing::warn!(job, %error, "the next run looks at all windows of the store");
        }
    }

    /// Begins an advance. Returns whether it looks through the whole store.
    pub(super) fn begin(&mut self, digest: &str, now: Timestamp) -> bool {
        let is_believed = self.digest == digest
            && self.looked.is_some_and(|looked| looked <= now && now.duration_since(looked) < BELIEVED);
        if !is_believed {
            *self = Self { version: 1, digest: digest.into(), ..Self::default() };
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
