//! Many windows of a job: those that are due, and those of a backfill.
//!
//! Owns: which windows are run, counted again and delivered, and in which order. Must not know: how a window is run, or
//! when this is called.
//!
//! An advance has four steps: it looks at the windows in the store, runs those without a manifest in order, counts the
//! documents of recent ones again, and delivers what sinks are owed. What it has learned is an object of the
//! store ([`Settled`]), so the next advance looks only at windows that still need something.

mod backfill;
mod look;
mod settled;
mod tally;

pub use backfill::{BackfillRedo, plan_backfill};

use crate::error::{Error, Result};
use crate::manifest::WindowTimes;
use crate::run::{Late, Recounts, Redo, Run, Runner};
use crate::window::Calendar;
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use look::Looked;
use settled::Settled;
use std::collections::BTreeSet;
use std::fmt;
use tally::Tally;
use tokio_util::sync::CancellationToken;

/// Windows whose documents are counted at the same time.
const COUNT_AT_ONCE: usize = 4;

/// What an advance or a backfill has done.
#[derive(Debug, Default)]
pub struct Advance {
    /// The windows that have a new revision.
    pub counted: u64,
    /// The findings that no earlier revision of their window had.
    pub findings: u64,
    /// The documents of the new revisions. Of a window that was run again, only those beyond the revision before.
    pub documents: u64,
    /// The documents among them that arrived after their window was run.
    pub late: u64,
    /// Why windows failed, in the order in which they did.
    pub failed: Vec<Error>,
    /// The sinks of the job that lack findings of a window, by name.
    pub owed: Vec<String>,
    /// Why deliveries failed.
    pub undelivered: Vec<Error>,
    /// The windows that are due and have no manifest. For a backfill, those that failed or were not begun.
    pub behind: u64,
}

/// How a caller stops and follows an advance or a backfill.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// Which windows are counted again. A backfill does not look at it.
    pub recounts: Recounts,
    /// Once it is cancelled, no window is begun.
    pub stop: &'a CancellationToken,
    /// Is called at the begin and after each window, with all that was done until then, and with the run of the window
    /// unless it failed.
    pub progress: &'a (dyn Fn(&Advance, Option<&Run>) + Send + Sync),
}

impl fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("stop", &self.stop.is_cancelled()).finish_non_exhaustive()
    }
}

impl Runner<'_> {
    /// Runs every due window that has no manifest, in order. Then it counts the documents of the windows whose recheck
    /// time has not passed, runs those that have grown again, and delivers what sinks are owed.
    ///
    /// The first window is that of `window.from`. Without it, it is the earliest of `calendar` that the store knows, or
    /// else the newest that is due.
    ///
    /// A window that fails does not keep later ones from being tried. It is in [`Advance::failed`], and the next
    /// advance tries it again. A lost lease ends the advance, and is the last error there.
    ///
    /// It looks only at windows that may need something, which the advance before has left in the store. Once a day, after a
    /// backfill, and if the job file has changed, it looks at each window of the store.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn advance(&self, calendar: &Calendar, control: Control<'_>) -> Result<Advance> {
        let read = Settled::read(self.store, &self.job.name).await;
        let mut settled = read.clone();
        let mut pass = Pass {
            runner: *self,
            calendar,
            control,
            settled: &mut settled,
            tally: Tally::new(&self.job.name, self.sinks),
            lost: false,
        };
        let ready = pass.look().await?;
        pass.run_missing(ready.missing, &ready.published).await;
        pass.count_again(ready.rechecks).await;
        pass.deliver_owed().await;
        let (advance, is_lost) = (pass.tally.finish(), pass.lost);
        // A process that has lost the lease must not replace what its successor has written.
        if !is_lost && settled != read && self.lease.check().await.is_ok() {
            settled.write(self.store, &self.job.name).await;
        }
        Ok(advance)
    }

    /// Runs a window outside of an advance, as [`Self::run_window`] does without counting it again. The next advance looks
    /// at each window of the store.
    ///
    /// # Errors
    ///
    /// As [`Self::run_window`] has them.
    pub async fn run_single(&self, window: WindowTimes) -> Result<Run> {
        self.forget_settled().await?;
        self.run_window(window, Redo::No).await
    }

    /// Makes the next advance look at each window of the store.
    async fn forget_settled(&self) -> Result<()> {
        self.lease.check().await?;
        self.store.remove_settled(&self.job.name).await
    }
}

/// What the windows of the store need.
#[derive(Default)]
struct Ready {
    /// Windows before [`Settled::next`] without a manifest.
    missing: BTreeSet<WindowTimes>,
    /// Windows from [`Settled::next`] on that have a manifest.
    published: BTreeSet<WindowTimes>,
    /// Windows whose documents are counted again.
    rechecks: Vec<WindowTimes>,
}

struct Pass<'a> {
    runner: Runner<'a>,
    calendar: &'a Calendar,
    control: Control<'a>,
    settled: &'a mut Settled,
    tally: Tally<'a>,
    /// Whether another process has the lease.
    lost: bool,
}

impl Pass<'_> {
    fn now(&self) -> Timestamp {
        (self.runner.clock)()
    }

    fn is_stopped(&self) -> bool {
        self.lost || self.control.stop.is_cancelled()
    }

    /// Looks at the windows that may need something: those that did at the end of the last advance, or all in the
    /// store.
    async fn look(&mut self) -> Result<Ready> {
        let (runner, calendar, now) = (self.runner, self.calendar, self.now());
        let recounts = self.control.recounts;
        let is_first = self.settled.begin(runner.digest, now);
        let windows = if is_first {
            let known = runner.store.windows(&runner.job.name).await?;
            let first = calendar
                .first()
                .or_else(|| known.iter().copied().find(|window| look::is_of(calendar, *window)));
            self.settled.next = first.or_else(|| calendar.newest_due(now)).map(|window| window.start);
            known
        } else {
            self.settled.open.clone()
        };
        let mut looks = stream::iter(windows)
            .map(|window| async move { (window, runner.look(calendar, window, now, recounts).await) })
            .buffered(look::LOOK_AT_ONCE);
        let mut ready = Ready::default();
        while let Some((window, looked)) = looks.next().await {
            let is_before = self.settled.next.is_none_or(|next| window.start < next);
            match looked {
                // What is wrong is not run over.
                Err(error @ Error::Corrupt { .. }) => {
                    ready.published.insert(window);
                    self.settled.open.insert(window);
                    self.tally.failed(error);
                }
                Err(error) => return Err(error),
                Ok(Looked::Missing) => {
                    if is_before && self.settled.open.contains(&window) {
                        ready.missing.insert(window);
                    }
                }
                Ok(Looked::Published { owed, recheck }) => {
                    if !is_before {
                        ready.published.insert(window);
                    }
                    if recheck == look::Recheck::Now {
                        ready.rechecks.push(window);
                    }
                    self.settled.keep(window, recheck != look::Recheck::No || !owed.is_empty());
                    self.tally.owes(window, owed);
                }
            }
        }
        if is_first {
            self.settled.looked_through(now);
        }
        Ok(ready)
    }

    /// Runs the windows without a manifest, in order, those included that become due meanwhile.
    async fn run_missing(&mut self, missing: BTreeSet<WindowTimes>, published: &BTreeSet<WindowTimes>) {
        let calendar = self.calendar;
        let is_missing = |window: &WindowTimes| !published.contains(window);
        let mut newest = None;
        self.tally.advance.behind = missing.len() as u64;
        self.count_due(&mut newest, is_missing);
        self.report(None);
        for window in missing {
            if self.is_stopped() {
                return;
            }
            self.run_one(window).await;
        }
        while let (Some(next), Some(until)) = (self.settled.next, newest) {
            for window in calendar.windows(next, after(until)) {
                if is_missing(&window) {
                    if self.is_stopped() {
                        return;
                    }
                    self.run_one(window).await;
                }
                self.settled.next = Some(after(window.start));
            }
            self.count_due(&mut newest, is_missing);
            if newest == Some(until) {
                return;
            }
        }
    }

    /// Adds the windows to [`Advance::behind`] that have become due since the start of the last one.
    fn count_due(&mut self, newest: &mut Option<Timestamp>, is_missing: impl Fn(&WindowTimes) -> bool) {
        let Some(due) = self.calendar.newest_due(self.now()) else { return };
        // A job without a window in the store begins with the newest one.
        let next = *self.settled.next.get_or_insert(due.start);
        let from = newest.map_or(next, after);
        let added = self.calendar.windows(from, after(due.start)).filter(is_missing).count();
        self.tally.advance.behind += added as u64;
        *newest = Some(due.start.max(newest.unwrap_or(due.start)));
    }

    /// Runs a window without a manifest.
    async fn run_one(&mut self, window: WindowTimes) {
        let result = self.runner.run_window(window, Redo::No).await;
        if result.is_ok() {
            self.tally.advance.behind = self.tally.advance.behind.saturating_sub(1);
        }
        self.note(window, result, None);
    }

    /// Counts the documents of windows, and runs those again that have grown.
    async fn count_again(&mut self, windows: Vec<WindowTimes>) {
        let (runner, stop, now) = (self.runner, self.control.stop, self.now());
        let recounts = self.control.recounts;
        if self.lost {
            return;
        }
        let mut counts = stream::iter(windows.into_iter().take_while(|_| !stop.is_cancelled()))
            .map(|window| async move { (window, runner.recheck(&[window], now, recounts).await) })
            .buffered(COUNT_AT_ONCE);
        let mut grown: Vec<Late> = Vec::new();
        while let Some((window, counted)) = counts.next().await {
            match counted {
                Ok(late) if late.is_empty() => {
                    let is_last = self.calendar.recheck_until(window).is_none_or(|until| until <= now);
                    self.settled.keep(window, !is_last || self.tally.is_owed(window));
                }
                Ok(late) => grown.extend(late),
                Err(error) => self.tally.failed(error),
            }
        }
        for late in grown {
            if self.is_stopped() {
                return;
            }
            tracing::info!(
                job = runner.job.name,
                window = %late.window.start,
                documents = late.documents,
                before = late.counted,
                "documents arrived late, the window is run again"
            );
            let result = runner.run_window(late.window, Redo::Late { revision: late.revision }).await;
            self.note(late.window, result, Some(late.counted));
        }
    }

    /// Delivers what windows owed before this advance.
    async fn deliver_owed(&mut self) {
        for window in self.tally.still_owed() {
            if self.is_stopped() {
                return;
            }
            // A sink that is down is not asked for each window.
            if self.tally.only_failing(window) {
                continue;
            }
            let result = self.runner.run_window(window, Redo::No).await;
            self.note(window, result, None);
        }
    }

    /// Remembers what became of a window. `before` is the number of documents of the revision that has grown.
    fn note(&mut self, window: WindowTimes, result: Result<Run>, before: Option<u64>) {
        match result {
            Ok(run) => {
                let until = self.calendar.recheck_until(window);
                let is_counted_later = until.is_some_and(|until| run.manifest.started < until);
                let is_owed = self.tally.ran(&run, before, before.is_some());
                self.settled.keep(window, is_counted_later || is_owed);
                self.report(Some(&run));
                self.tally.undelivered(run.failures);
            }
            Err(error) => {
                self.lost |= matches!(error, Error::LeaseLost { .. });
                self.settled.open.insert(window);
                self.tally.failed(error);
                self.report(None);
            }
        }
    }

    fn report(&mut self, run: Option<&Run>) {
        (self.control.progress)(self.tally.current(), run);
    }
}

/// Returns the next instant.
fn after(time: Timestamp) -> Timestamp {
    time.saturating_add(SignedDuration::from_nanos(1)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "advance/tests.rs"]
mod tests;
