//! The task of one job: it waits, takes the lease, advances, and waits again.
//!
//! Owns: when a job is tried. Must not know: which windows are run, or which other jobs there are.

use super::status::{JobMetrics, Shown};
use super::{Clock, Shared};
use crate::advance::{Advance, Control};
use crate::error::{Error, Result};
use crate::job_file::JobFile;
use crate::lease::{Lease, this_process};
use crate::run::{Recounts, Run, Runner};
use crate::sink::Sink;
use crate::store::Store;
use crate::window::Calendar;
use jiff::{SignedDuration, Timestamp};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Pauses after failures grow from the first to the second.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// How long a release may take. A lease that is not released ends by itself.
const RELEASE: Duration = Duration::from_secs(5);

/// Windows that the last success is looked for in.
const LOOK_BACK: usize = 100;

/// Runs one job until it is stopped.
pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    /// The newest good version of the job file.
    pub(super) file: watch::Receiver<Arc<JobFile>>,
    /// Once it is cancelled, no window is begun.
    pub(super) stop: CancellationToken,
    pub(super) metrics: JobMetrics,
    /// Attempts in a row that failed.
    pub(super) failures: u32,
    /// The number of windows that were behind, and when.
    pub(super) behind: Mutex<(u64, Timestamp)>,
}

/// What a version of a job file needs to be run.
struct Opened {
    file: Arc<JobFile>,
    calendar: Calendar,
    store: Store,
    sinks: Vec<Box<dyn Sink>>,
    /// Whether the lease was another's at the last attempt.
    was_leased: bool,
}

/// When a job is tried next.
enum Next {
    At(Timestamp),
    /// After a pause that grows with each failure in a row.
    Retry,
    /// At the next poll.
    Poll,
    /// The server ends.
    Never,
}

enum Waited {
    Due,
    Changed,
    Stopped,
}

impl Task {
    pub(super) async fn run(mut self) {
        let mut opened: Option<Opened> = None;
        let mut due = self.pause();
        loop {
            let file = Arc::clone(&self.file.borrow_and_update());
            if opened.as_ref().is_some_and(|opened| opened.file.digest != file.digest) {
                opened = None;
                self.failures = 0;
                due = self.shared.clock.now();
            }
            match self.wait(due, opened.as_ref()).await {
                Waited::Due => {}
                Waited::Changed => {
                    self.failures = 0;
                    due = self.shared.clock.now();
                    continue;
                }
                Waited::Stopped => return,
            }
            let shared = Arc::clone(&self.shared);
            let permit = tokio::select! {
                () = self.stop.cancelled() => return,
                permit = shared.permits.acquire() => permit,
            };
            let next = self.attempt(&file, &mut opened).await;
            drop(permit);
            due = match next {
                Next::At(time) => time,
                Next::Poll => shared.now_and(shared.options.poll),
                Next::Never => return,
                Next::Retry => {
                    self.failures = self.failures.saturating_add(1);
                    let next_run = file.next_run(shared.clock.now()).unwrap_or(Timestamp::MAX);
                    self.pause().min(next_run)
                }
            };
            if !self.stop.is_cancelled() {
                shared.status.failing(&file.job.name, self.failures > 0);
            }
        }
    }

    /// Returns the time of the next attempt after failures.
    fn pause(&self) -> Timestamp {
        let now = self.shared.clock.now();
        match self.failures.checked_sub(1) {
            None => now,
            Some(before) => self.shared.now_and((FIRST_PAUSE * (1 << before.min(5))).min(LONGEST_PAUSE)),
        }
    }

    async fn wait(&mut self, due: Timestamp, opened: Option<&Opened>) -> Waited {
        let shared = Arc::clone(&self.shared);
        loop {
            if self.stop.is_cancelled() {
                return Waited::Stopped;
            }
            if let Some(opened) = opened {
                self.show_behind(&opened.calendar);
            }
            // A clock may be set, so no wait is longer than a poll.
            let left = Duration::try_from(due.duration_since(shared.clock.now())).unwrap_or_default();
            if left.is_zero() {
                return Waited::Due;
            }
            tokio::select! {
                () = self.stop.cancelled() => return Waited::Stopped,
                changed = self.file.changed() => {
                    return if changed.is_ok() { Waited::Changed } else { Waited::Stopped };
                }
                () = shared.clock.sleep(left.min(shared.options.poll)) => {}
            }
        }
    }

    /// Opens the store and the sinks if needed, and advances if the job is due.
    async fn attempt(&mut self, file: &Arc<JobFile>, opened: &mut Option<Opened>) -> Next {
        let (shared, abort) = (Arc::clone(&self.shared), self.shared.abort.clone());
        let is_new = opened.is_none();
        if is_new {
            let result = tokio::select! {
                () = abort.cancelled() => return Next::Never,
                result = self.open(file) => result,
            };
            match result {
                Ok((new, last_success)) => {
                    *opened = Some(new);
                    let now = shared.clock.now();
                    // A run that a schedule had while no process served the job is caught up.
                    match file.job.schedule.as_ref().map(|_| file.next_run(last_success.unwrap_or(now))) {
                        Some(Ok(time)) if time > now => {
                            self.failures = 0;
                            return Next::At(time);
                        }
                        Some(Err(error)) => return self.failed(file, &error),
                        Some(Ok(_)) | None => {}
                    }
                }
                Err(error) => return self.failed(file, &error),
            }
        }
        let Some(opened) = opened.as_mut() else { return Next::Retry };
        let holder = this_process();
        let taken = tokio::select! {
            () = abort.cancelled() => return Next::Never,
            taken = Lease::take(&opened.store, &file.job.name, &holder, shared.options.lease) => taken,
        };
        let lease = match taken {
            Ok(lease) => lease,
            Err(error @ Error::Leased { .. }) => {
                if !std::mem::replace(&mut opened.was_leased, true) {
                    tracing::info!(%error, "the job is tried again at each poll");
                }
                return Next::Poll;
            }
            Err(error) => return self.failed(file, &error),
        };
        opened.was_leased = false;
        let result = self.advance(opened, &lease).await;
        match tokio::time::timeout(RELEASE, lease.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(job = file.job.name, %error, "the lease was not released"),
            Err(_) => tracing::warn!(job = file.job.name, "the lease was not released in time"),
        }
        match result {
            None => Next::Never,
            Some(Err(error)) => self.failed(file, &error),
            Some(Ok(advance)) => self.advanced(opened, &advance).await,
        }
    }

    async fn open(&self, file: &Arc<JobFile>) -> Result<(Opened, Option<Timestamp>)> {
        let calendar = file.calendar()?;
        self.metrics.window.set(calendar.every().seconds() as f64);
        let store = (self.shared.open_store)(&file.job.store)?;
        let last = last_success(&store, &file.job.name).await?;
        if let Some(last) = last {
            self.metrics.succeeded(last);
        }
        let sinks = (self.shared.make_sinks)(&file.job)?;
        let file = Arc::clone(file);
        Ok((Opened { file, calendar, store, sinks, was_leased: false }, last))
    }

    /// Advances until all is done, the job is stopped or its file changes. `None` means that the server ends.
    async fn advance(&mut self, opened: &Opened, lease: &Lease) -> Option<Result<Advance>> {
        let Opened { file, calendar, store, sinks, .. } = opened;
        let shared = Arc::clone(&self.shared);
        let stop = self.stop.child_token();
        let shown = Mutex::new(Shown::default());
        let (metrics, behind, clock) = (&self.metrics, &self.behind, shared.clock.as_ref());
        let show = |advance: &Advance, run: Option<&Run>| {
            metrics.advanced(&mut shown.lock().unwrap_or_else(PoisonError::into_inner), advance, run);
            *behind.lock().unwrap_or_else(PoisonError::into_inner) = (advance.behind, clock.now());
        };
        let now = || clock.now();
        let runner = Runner {
            engine: shared.engine.as_ref(),
            store,
            lease,
            job: &file.job,
            digest: &file.digest,
            sinks,
            clock: &now,
        };
        let control = Control { recounts: Recounts::SpacedByAge, stop: &stop, progress: &show };
        let advancing = runner.advance(calendar, control);
        tokio::pin!(advancing);
        let result = loop {
            tokio::select! {
                () = shared.abort.cancelled() => return None,
                result = &mut advancing => break result,
                // The rest is done with the new file.
                _ = self.file.changed(), if !stop.is_cancelled() => stop.cancel(),
                () = clock.sleep(shared.options.poll) => show_behind(metrics, behind, calendar, clock),
            }
        };
        if let Ok(advance) = &result {
            show(advance, None);
        }
        Some(result)
    }

    async fn advanced(&mut self, opened: &Opened, advance: &Advance) -> Next {
        let (file, now) = (&opened.file, self.shared.clock.now());
        if advance.counted > 0 {
            let Advance { counted, findings, documents, late, .. } = advance;
            tracing::info!(job = file.job.name, counted, findings, documents, late, "windows were run");
        } else if advance.failed.is_empty()
            && let Some(newest) = opened.calendar.newest_due(now)
            // Another process may have run it.
            && let Ok(Some(manifest)) = opened.store.newest(&file.job.name, newest).await
        {
            self.metrics.succeeded(manifest.ended);
        }
        if !advance.failed.is_empty() || !advance.owed.is_empty() {
            return Next::Retry;
        }
        self.failures = 0;
        match file.next_run(now) {
            Ok(time) => Next::At(time),
            Err(error) => self.failed(file, &error),
        }
    }

    fn failed(&self, file: &JobFile, error: &Error) -> Next {
        tracing::error!(job = file.job.name, %error, "the job failed and is tried again");
        self.metrics.failures.inc();
        Next::Retry
    }

    fn show_behind(&self, calendar: &Calendar) {
        show_behind(&self.metrics, &self.behind, calendar, self.shared.clock.as_ref());
    }
}

/// Shows the windows that are behind, with those that have become due since they were counted.
fn show_behind(
    metrics: &JobMetrics,
    behind: &Mutex<(u64, Timestamp)>,
    calendar: &Calendar,
    clock: &dyn Clock,
) {
    let (counted, at) = *behind.lock().unwrap_or_else(PoisonError::into_inner);
    let after =
        |time: Timestamp| time.saturating_add(SignedDuration::from_nanos(1)).unwrap_or(Timestamp::MAX);
    let added = match (calendar.newest_due(at), calendar.newest_due(clock.now())) {
        (Some(before), Some(now)) => calendar.windows(after(before.start), after(now.start)).count(),
        (None, Some(now)) => {
            let first = calendar.first().unwrap_or(now);
            calendar.windows(first.start, after(now.start)).count()
        }
        (_, None) => 0,
    };
    metrics.behind.set((counted + added as u64) as i64);
}

/// Returns the end of the run of the newest window that has one.
async fn last_success(store: &Store, job: &str) -> Result<Option<Timestamp>> {
    for window in store.windows(job).await?.into_iter().rev().take(LOOK_BACK) {
        if let Some(manifest) = store.newest(job, window).await? {
            return Ok(Some(manifest.ended));
        }
    }
    Ok(None)
}
