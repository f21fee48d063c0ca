//! The sums of an advance.
//!
//! Owns: what is counted, and which sinks are owed. Must not know: the order of windows.

use super::Advance;
use crate::alert::AlertState;
use crate::error::Error;
use crate::manifest::WindowTimes;
use crate::run::Run;
use crate::sink::Sink;
use std::collections::{BTreeMap, BTreeSet};

/// The sinks that lack findings of a window, and whether a delivery was tried.
#[derive(Default)]
struct Owed {
    sinks: BTreeSet<String>,
    is_tried: bool,
}

pub(super) struct Tally<'a> {
    pub(super) advance: Advance,
    job: &'a str,
    sinks: BTreeSet<&'a str>,
    owed: BTreeMap<WindowTimes, Owed>,
    /// The sinks that a delivery has failed at.
    failing: BTreeSet<String>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(job: &'a str, sinks: &'a [Box<dyn Sink>]) -> Self {
        let sinks = sinks.iter().map(|sink| sink.name()).collect();
        Self { advance: Advance::default(), job, sinks, owed: BTreeMap::new(), failing: BTreeSet::new() }
    }

    /// Adds a run. `before` is the number of documents of the revision before. Returns whether a sink is owed.
    pub(super) fn ran(&mut self, run: &Run, before: Option<u64>, is_late: bool) -> bool {
        let advance = &mut self.advance;
        if run.counted {
            let documents = run.manifest.documents.saturating_sub(before.unwrap_or(0));
            advance.counted += 1;
            advance.documents += documents;
            advance.late += if is_late { documents } else { 0 };
            advance.findings +=
                run.alerts.iter().filter(|alert| alert.state == AlertState::New).count() as u64;
        }
        for failure in &run.failures {
            if let Error::Sink { sink, .. } | Error::OutputClosed { sink, .. } = failure {
                self.failing.insert(sink.clone());
            }
        }
        let (sinks, removed): (BTreeSet<_>, BTreeSet<_>) =
            run.owed.iter().cloned().partition(|sink| self.sinks.contains(sink.as_str()));
        let window = run.manifest.window;
        if !removed.is_empty() {
            let (job, window) = (&run.manifest.job, window.start);
            tracing::warn!(job, %window, sinks = ?removed, "findings are owed to sinks that the job no longer has");
        }
        let is_owed = !sinks.is_empty();
        if is_owed {
            self.owed.insert(window, Owed { sinks, is_tried: true });
        } else {
            self.owed.remove(&window);
        }
        is_owed
    }

    /// Adds the errors of deliveries.
    pub(super) fn undelivered(&mut self, failures: Vec<Error>) {
        self.advance.undelivered.extend(failures);
    }

    /// Adds a failure.
    pub(super) fn failed(&mut self, error: Error) {
        tracing::warn!(job = self.job, %error, "a window failed");
        self.advance.failed.push(error);
    }

    /// Adds what the store says about a window.
    pub(super) fn owes(&mut self, window: WindowTimes, sinks: BTreeSet<String>) {
        if !sinks.is_empty() {
            self.owed.insert(window, Owed { sinks, is_tried: false });
        }
    }

    pub(super) fn is_owed(&self, window: WindowTimes) -> bool {
        self.owed.contains_key(&window)
    }

    /// Returns the windows that are owed and were not run.
    pub(super) fn still_owed(&self) -> Vec<WindowTimes> {
        self.owed.iter().filter(|(_, owed)| !owed.is_tried).map(|(window, _)| *window).collect()
    }

    /// Whether a window owes only to sinks that a delivery has failed at.
    pub(super) fn only_failing(&self, window: WindowTimes) -> bool {
        self.owed.get(&window).is_none_or(|owed| owed.sinks.is_subset(&self.failing))
    }

    /// Returns the sums until now.
    pub(super) fn current(&mut self) -> &Advance {
        let sinks: BTreeSet<&String> = self.owed.values().flat_map(|owed| &owed.sinks).collect();
        self.advance.owed = sinks.into_iter().cloned().collect();
        &self.advance
    }

    pub(super) fn finish(mut self) -> Advance {
        self.current();
        self.advance
    }
}
