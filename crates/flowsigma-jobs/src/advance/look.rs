//! A look at a window in the store.
//!
//! Owns: what a window needs, with as few requests as possible. Must not know: in which order it is done.

use crate::error::Result;
use crate::manifest::WindowTimes;
use crate::run::{Recounts, Runner};
use crate::store::Revision;
use crate::window::Calendar;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

/// Windows that are looked at at the same time.
pub(super) const LOOK_AT_ONCE: usize = 16;

/// How long after its recheck time a window that grew, and was not run again since its run was killed, is found. After
/// that, only a backfill finds it.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(31 * 24);

/// Documents are counted again once this share of the age of a window has passed since the last count. Most late
/// documents are only a little late, and each count is an object of the store.
const COUNT_SPACING: i32 = 16;

/// Whether the documents of a window are counted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recheck {
    No,
    Later,
    Now,
}

/// What the store has of a window.
pub(super) enum Looked {
    /// No manifest.
    Missing,
    /// A manifest.
    Published {
        /// The sinks of the job that lack findings.
        owed: BTreeSet<String>,
        recheck: Recheck,
    },
}

/// Returns whether a window is one of the calendar.
pub(super) fn is_of(calendar: &Calendar, window: WindowTimes) -> bool {
    calendar.window_at(window.start).is_ok_and(|own| own == window)
}

impl Runner<'_> {
    /// Looks at a window. Its manifests are read only if a sink may be owed.
    pub(super) async fn look(
        &self,
        calendar: &Calendar,
        window: WindowTimes,
        now: Timestamp,
        recounts: Recounts,
    ) -> Result<Looked> {
        let job = self.job.name.as_str();
        let objects = self.store.objects_of(job, window).await?;
        let Some(revision) = objects.published().next_back() else { return Ok(Looked::Missing) };
        let last_count = objects.last_recount(revision);
        let recheck = if !is_of(calendar, window) {
            Recheck::No
        } else if objects.failed && calendar.recheck().is_some() {
            // It has grown, and its second run failed.
            Recheck::Now
        } else {
            recheck(calendar, window, last_count, now, recounts)
        };
        let mut owed = BTreeSet::new();
        // Revisions are delivered in order, so who has the newest one has all.
        if self.sinks.iter().any(|sink| !objects.is_delivered(revision, sink.name())) {
            let history = self.store.history(job, window, &objects).await?;
            owed = self.lacking(&history);
        }
        Ok(Looked::Published { owed, recheck })
    }

    /// Returns the sinks of the job that a revision was not delivered to.
    fn lacking(&self, history: &[Revision]) -> BTreeSet<String> {
        let lacks = |name: &str| {
            history.iter().any(|Revision { manifest, deliveries }| {
                !deliveries.contains(name) && manifest.sinks.iter().any(|sink| sink == name)
            })
        };
        self.sinks.iter().map(|sink| sink.name()).filter(|name| lacks(name)).map(str::to_owned).collect()
    }
}

fn recheck(
    calendar: &Calendar,
    window: WindowTimes,
    last_count: Option<Timestamp>,
    now: Timestamp,
    recounts: Recounts,
) -> Recheck {
    let Some(until) = calendar.recheck_until(window) else { return Recheck::No };
    if now < until {
        let spacing = |last: Timestamp| last.duration_since(window.end) / COUNT_SPACING;
        let is_soon = last_count.is_some_and(|last| now.duration_since(last) < spacing(last));
        return if is_soon && recounts == Recounts::SpacedByAge { Recheck::Later } else { Recheck::Now };
    }
    // The last count is after the recheck time. A window that was run later than that needs none, which its manifest
    // says.
    let is_due = last_count.is_some_and(|last| last < until);
    if is_due || now.duration_since(until) < LOOK_BACK { Recheck::Now } else { Recheck::No }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::test_data::{hour, job};

    #[test]
    fn counts_are_spaced_by_age_until_the_last_one() {
        let calendar = Calendar::try_new(&job().window).unwrap();
        let end = hour(0).end;
        let at = |minutes: i64| end + SignedDuration::from_mins(minutes);
        let spaced = Recounts::SpacedByAge;
        let recheck = |last: Option<i64>, now| recheck(&calendar, hour(0), last.map(at), at(now), spaced);
        assert_eq!(recheck(None, 5), Recheck::Now);
        assert_eq!(recheck(Some(160), 169), Recheck::Later);
        assert_eq!(recheck(Some(160), 170), Recheck::Now);
        let each_time = super::recheck(&calendar, hour(0), Some(at(160)), at(169), Recounts::EachTime);
        assert_eq!(each_time, Recheck::Now);
        let (day, month) = (24 * 60, 31 * 24 * 60);
        assert_eq!(recheck(Some(day - 1), day + 2 * month), Recheck::Now);
        // It may have grown.
        assert_eq!(recheck(Some(day), day + 1), Recheck::Now);
        assert_eq!(recheck(Some(day), day + month), Recheck::No);
        assert_eq!(recheck(None, day + month), Recheck::No);
    }
}
