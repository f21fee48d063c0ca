//! The run of a window.
//!
//! Owns: the order of what a run writes, and what makes it idempotent. Must not know: how flows are counted, how a sink
//! delivers, or which windows are due.
//!
//! A run writes the counts and the pairs, then the manifest, then the deliveries. If it is killed between two of them,
//! the next run goes on from what it finds: without a manifest it counts again, and with one it delivers what is owed.

mod bounded;
mod delivery;
mod recheck;
mod state;

pub use recheck::{Late, Recounts};
pub use state::{State, WindowState, states};

use crate::alert::Alert;
use crate::engine::{Engine, Outcome};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::lease::Lease;
use crate::manifest::{Manifest, WindowTimes};
use crate::sink::Sink;
use crate::store::{Published, Store};
use jiff::Timestamp;
use std::fmt;

/// Whether a window that has a manifest is counted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redo {
    /// It is not. Only what sinks are owed is delivered.
    No,
    /// It is, unless it has a newer revision than the one whose documents have grown.
    Late {
        /// The revision whose documents have grown.
        revision: u32,
    },
    /// It is, each time.
    Always,
}

/// What a run of a window has done.
#[derive(Debug)]
pub struct Run {
    /// The newest manifest of the window.
    pub manifest: Manifest,
    /// Whether this run published it.
    pub counted: bool,
    /// What this revision says beyond the one before, whether it was delivered now or earlier.
    pub alerts: Vec<Alert>,
    /// The sinks that do not have all findings of the window, those included that the job no longer has.
    pub owed: Vec<String>,
    /// Why: an error for each sink that failed now.
    pub failures: Vec<Error>,
}

/// Runs windows of one job. It holds the job's lease; several windows may be run at the same time.
#[derive(Clone, Copy)]
pub struct Runner<'a> {
    /// Counts and decides.
    pub engine: &'a dyn Engine,
    /// Where the results are kept.
    pub store: &'a Store,
    /// The lease of the job in this store.
    pub lease: &'a Lease,
    /// The job.
    pub job: &'a Job,
    /// The SHA-256 of the job file's text, in hex.
    pub digest: &'a str,
    /// The job's sinks.
    pub sinks: &'a [Box<dyn Sink>],
    /// The time.
    pub clock: &'a (dyn Fn() -> Timestamp + Send + Sync),
}

impl fmt::Debug for Runner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("job", &self.job.name)
            .field("store", self.store)
            .finish_non_exhaustive()
    }
}

impl Runner<'_> {
    /// Runs a window. It is idempotent: a window that has a manifest is not counted again unless `redo` says so, and a
    /// sink that has the findings does not get them again.
    ///
    /// A sink that fails does not fail the run: see [`Run::owed`]. If a run is killed after a sink has got the findings
    /// and before this is recorded, the sink gets them again, with the same ids.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] if the window could not be counted, and [`Error::TimedOut`] if that took longer than
    /// `limits.timeout`. Both are also recorded as the window's failure.
    /// [`Error::LeaseLost`] if another process has taken the lease before the manifest was published. Other errors if
    /// the store fails.
    pub async fn run_window(&self, window: WindowTimes, redo: Redo) -> Result<Run> {
        let job = self.job.name.as_str();
        if self.lease.job() != job {
            let holder = format!("nobody; this run holds the lease of job \"{}\"", self.lease.job());
            return Err(Error::LeaseLost { job: job.into(), holder });
        }
        let objects = self.store.objects_of(job, window).await?;
        let mut history = self.store.history(job, window, &objects).await?;
        let newest = history.last().map_or(0, |revision| revision.manifest.revision);
        let counted = match redo {
            _ if newest == 0 => true,
            Redo::No => false,
            Redo::Late { revision } => newest <= revision,
            Redo::Always => true,
        };
        if counted {
            let manifest = self.count(window, newest + 1).await?;
            if objects.failed {
                // Otherwise its revision says that it is of the past.
                if let Err(error) = self.store.remove_failure(job, window).await {
                    tracing::warn!(job, %error, "the record of a failure was not removed");
                }
            }
            history.push(crate::store::Revision { manifest, deliveries: Default::default() });
        }
        self.deliver(history, counted).await
    }

    /// Counts a window and publishes the manifest.
    async fn count(&self, window: WindowTimes, revision: u32) -> Result<Manifest> {
        let job = self.job.name.as_str();
        self.lease.check().await?;
        let started = (self.clock)();
        let Outcome { documents, findings, report, counts, pairs } = match self.outcome(window).await {
            Ok(outcome) => outcome,
            Err(error) => {
                self.record_failure(window, revision, &error).await;
                return Err(error);
            }
        };
        if self.store.write_counts(job, window, revision, counts.clone()).await? == Published::Exists {
            // They are of a killed run, or of a process that has taken the lease.
            self.lease.check().await?;
            self.store.replace_counts(job, window, revision, counts).await?;
        }
        let keeps_pairs = pairs.is_some();
        if let Some(pairs) = pairs
            && self.store.write_pairs(job, window, revision, pairs.clone()).await? == Published::Exists
        {
            self.lease.check().await?;
            self.store.replace_pairs(job, window, revision, pairs).await?;
        }
        let manifest = Manifest {
            version: 1,
            job: job.into(),
            job_digest: self.digest.into(),
            window,
            revision,
            documents,
            findings,
            report,
            pairs: keeps_pairs,
            sinks: self.sinks.iter().map(|sink| sink.name().to_owned()).collect(),
            started,
            ended: (self.clock)(),
            holder: self.lease.holder().into(),
        };
        self.lease.check().await?;
        match self.store.publish(&manifest).await? {
            Published::Written => Ok(manifest),
            Published::Exists => {
                let other = self.store.manifest(job, window, revision).await?;
                let holder = other.map_or_else(|| "another process".into(), |manifest| manifest.holder);
                Err(Error::LeaseLost { job: job.into(), holder })
            }
        }
    }

    /// Records why a window was not counted. That the lease is lost says nothing about the window.
    async fn record_failure(&self, window: WindowTimes, revision: u32, error: &Error) {
        let text = match error {
            Error::LeaseLost { .. } => return,
            Error::Engine { source, .. } => causes(source.as_ref()),
            other => causes(other),
        };
        let job = self.job.name.as_str();
        let recorded = self.store.record_failure(job, window, revision, (self.clock)(), &text).await;
        if let Err(error) = recorded {
            tracing::warn!(job, window = %window.start, %error, "the failure of a run was not recorded");
        }
    }
}

/// Returns an error with its causes that it does not name itself.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
#[path = "run/fault_tests.rs"]
mod fault_tests;
#[cfg(test)]
#[path = "run/test_data.rs"]
pub(crate) mod test_data;
#[cfg(test)]
#[path = "run/tests.rs"]
mod tests;
