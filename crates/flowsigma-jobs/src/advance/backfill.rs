//! Backfill: the windows of a time span, in parallel.
//!
//! Owns: which of them are run again. Must not know: which windows a job has.
//!
//! A backfill that was stopped or killed is begun again with the same windows. Those that are done are not counted
//! again, unless all are asked for.

use super::{Advance, Control, Tally};
use crate::error::{Error, Result};
use crate::manifest::WindowTimes;
use crate::run::{Redo, Run, Runner, State, states};
use crate::store::Store;
use crate::window::Calendar;
use futures::{StreamExt, stream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};

/// Which windows that have a manifest are counted again. Windows without one always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackfillRedo {
    /// None.
    None,
    /// Those whose last run failed.
    Failed,
    /// Those that have more documents now. They are counted, whether their recheck time has passed or not.
    Late,
    /// All of them.
    All,
}

/// Returns those of the windows that a backfill would run, in their order. It asks no server: a window is late if an
/// earlier count has found it so.
///
/// # Errors
///
/// If the store fails, or if an object in it is wrong.
pub async fn plan_backfill(
    store: &Store,
    job: &str,
    windows: impl IntoIterator<Item = WindowTimes>,
    redo: BackfillRedo,
) -> Result<Vec<WindowTimes>> {
    let is_run = |state: State, has_manifest: bool| match state {
        _ if !has_manifest || redo == BackfillRedo::All => true,
        // A failure hides that a window is late.
        State::Failed => redo != BackfillRedo::None,
        State::Late => redo == BackfillRedo::Late,
        State::Missing | State::Owed | State::Done => false,
    };
    let states = states(store, job, windows).await?.into_iter();
    let run = states.filter(|window| is_run(window.state, window.revision.is_some()));
    Ok(run.map(|window| WindowTimes { start: window.start, end: window.end }).collect())
}

/// A run with the documents of the revision before.
struct Ran {
    run: Run,
    before: Option<u64>,
    is_late: bool,
}

impl Runner<'_> {
    /// Runs windows that have no manifest and those that `redo` says, `concurrency` of them at the same time, and
    /// delivers what all of them owe.
    ///
    /// A window that fails or is not due yet does not keep others from being run. It is in [`Advance::failed`]. A lost
    /// lease ends the backfill.
    ///
    /// # Errors
    ///
    /// If `[window]` of the job is wrong, if the lease is lost before the first window, or if the store fails.
    pub async fn backfill(
        &self,
        mut windows: impl Iterator<Item = WindowTimes> + Send,
        redo: BackfillRedo,
        concurrency: NonZeroUsize,
        control: Control<'_>,
    ) -> Result<Advance> {
        let calendar = &Calendar::try_new(&self.job.window)?;
        self.forget_settled().await?;
        let mut tally = Tally::new(&self.job.name, self.sinks);
        let lost = AtomicBool::new(false);
        let is_stopped = || control.stop.is_cancelled() || lost.load(Ordering::Relaxed);
        let begun = std::iter::from_fn(|| if is_stopped() { None } else { windows.next() });
        let runner = *self;
        let mut runs = stream::iter(begun)
            .map(|window| runner.backfill_window(calendar, window, redo))
            .buffer_unordered(concurrency.get());
        while let Some(result) = runs.next().await {
            match result {
                Ok(Ran { run, before, is_late }) => {
                    tally.ran(&run, before, is_late);
                    (control.progress)(tally.current(), Some(&run));
                    tally.undelivered(run.failures);
                }
                Err(error) => {
                    if matches!(error, Error::LeaseLost { .. }) {
                        lost.store(true, Ordering::Relaxed);
                    }
                    tally.failed(error);
                    tally.advance.behind += 1;
                    (control.progress)(tally.current(), None);
                }
            }
        }
        drop(runs);
        tally.advance.behind += windows.count() as u64;
        Ok(tally.finish())
    }

    async fn backfill_window(
        &self,
        calendar: &Calendar,
        window: WindowTimes,
        redo: BackfillRedo,
    ) -> Result<Ran> {
        let job = self.job.name.as_str();
        if !calendar.due(window, (self.clock)()) {
            let (start, due) = (window.start, calendar.due_time(window));
            let problem = format!("job \"{job}\", window {start}: it is due at {due}; run it after that");
            return Err(Error::Window { problem });
        }
        let ran = |run, before, is_late| Ran { run, before, is_late };
        if redo == BackfillRedo::None {
            return Ok(ran(self.run_window(window, Redo::No).await?, None, false));
        }
        let Some(newest) = self.store.newest(job, window).await? else {
            return Ok(ran(self.run_window(window, Redo::No).await?, None, false));
        };
        let (revision, counted) = (newest.revision, newest.documents);
        let (redo, is_late) = match redo {
            BackfillRedo::None => (Redo::No, false),
            BackfillRedo::All => (Redo::Always, false),
            BackfillRedo::Failed => match self.store.failure(job, window).await? {
                Some(failure) if failure.revision > revision => (Redo::Late { revision }, false),
                Some(_) | None => (Redo::No, false),
            },
            BackfillRedo::Late => match self.count_now(window).await? {
                documents if documents > counted => {
                    self.store.record_recount(job, window, revision, documents, (self.clock)()).await?;
                    (Redo::Late { revision }, true)
                }
                _ => (Redo::No, false),
            },
        };
        Ok(ran(self.run_window(window, redo).await?, Some(counted), is_late))
    }

    async fn count_now(&self, window: WindowTimes) -> Result<u64> {
        let counted = self.engine.count(self.job, window).await;
        counted.map_err(|source| Error::Engine {
            job: self.job.name.clone(),
            window: window.start.to_string(),
            source,
        })
    }
}
