//! What a server of jobs tells others about itself.
//!
//! Owns: the metrics, and whether the server lives and is ready. Must not know: HTTP.

use crate::advance::Advance;
use crate::run::Run;
use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long the loop may take for one round, which only reads job files.
const PATIENCE: Duration = Duration::from_secs(60);

/// The state of a server, for probes and metrics.
#[derive(Debug)]
pub struct Status {
    registry: Registry,
    last_success: GaugeVec,
    window: GaugeVec,
    duration: GaugeVec,
    behind: IntGaugeVec,
    documents: IntCounterVec,
    findings: IntCounterVec,
    late_documents: IntCounterVec,
    failures: IntCounterVec,
    owed: IntGaugeVec,
    file_errors: IntGaugeVec,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the loop began its last round.
    ticked: Instant,
    is_ready: bool,
    /// The names that `file_errors` has.
    files: BTreeSet<String>,
    wrong_files: BTreeSet<String>,
    failing: BTreeSet<String>,
}

/// The metrics of one job. After the job was removed they are not shown.
#[derive(Clone, Debug)]
pub(super) struct JobMetrics {
    pub(super) last_success: Gauge,
    pub(super) window: Gauge,
    pub(super) duration: Gauge,
    pub(super) behind: IntGauge,
    documents: IntCounter,
    findings: IntCounter,
    late_documents: IntCounter,
    pub(super) failures: IntCounter,
    pub(super) owed: IntGauge,
}

/// How much of an advance is in the metrics.
#[derive(Debug, Default)]
pub(super) struct Shown {
    documents: u64,
    findings: u64,
    late: u64,
    failed: u64,
}

impl Status {
    /// Returns the state of a server that has not started.
    pub fn new() -> Self {
        let registry = Registry::new();
        let opts = |name: &str, help: &str| Opts::new(format!("flowsigma_job_{name}"), help);
        let label = &["name"];
        let valid = "the names of metrics and labels are valid and unique";
        let gauge = |name, help| register(&registry, GaugeVec::new(opts(name, help), label).expect(valid));
        let whole = |name, help| register(&registry, IntGaugeVec::new(opts(name, help), label).expect(valid));
        let counter =
            |name, help| register(&registry, IntCounterVec::new(opts(name, help), label).expect(valid));
        Self {
            last_success: gauge(
                "last_success_timestamp_seconds",
                "End of the last run that succeeded, by any process. Without one, the start of this process.",
            ),
            window: gauge("window_seconds", "Distance between the starts of two windows."),
            duration: gauge("duration_seconds", "Duration of the last run that succeeded."),
            behind: whole("windows_behind", "Windows that are due and not done."),
            documents: counter("documents_total", "Documents counted, each once."),
            findings: counter("findings_total", "Findings, each once."),
            late_documents: counter(
                "late_documents_total",
                "Documents that arrived after their window was run.",
            ),
            failures: counter("failures_total", "Runs that failed."),
            owed: whole("sinks_owed", "Sinks that lack findings of a window."),
            file_errors: whole("file_errors", "1 if the newest version of the job file is wrong."),
            registry,
            state: Mutex::new(State {
                ticked: Instant::now(),
                is_ready: false,
                files: BTreeSet::new(),
                wrong_files: BTreeSet::new(),
                failing: BTreeSet::new(),
            }),
        }
    }

    /// Returns the metrics in the text format of Prometheus.
    ///
    /// # Errors
    ///
    /// If a metric cannot be encoded.
    pub fn metrics(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Returns whether the loop that reads job files lives. A job that fails does not count: a restart would not help.
    pub fn is_alive(&self) -> bool {
        self.state().ticked.elapsed() <= PATIENCE
    }

    /// Returns whether the job files were read.
    pub fn is_ready(&self) -> bool {
        self.state().is_ready
    }

    /// Returns a line for each job file that is wrong, and for each job whose last run or delivery failed. The log has
    /// the errors.
    pub fn problems(&self) -> Vec<String> {
        let state = self.state();
        let files = state.wrong_files.iter().map(|name| format!("job \"{name}\": the job file is wrong"));
        let jobs =
            state.failing.iter().map(|name| format!("job \"{name}\": the last run failed, or a sink did"));
        files.chain(jobs).collect()
    }

    pub(super) fn tick(&self) {
        self.state().ticked = Instant::now();
    }

    pub(super) fn ready(&self) {
        self.state().is_ready = true;
    }

    /// Sets which job files are wrong, among those of these jobs and others.
    pub(super) fn wrong_files(&self, jobs: impl Iterator<Item = String>, wrong: BTreeSet<String>) {
        let names: BTreeSet<String> = jobs.chain(wrong.iter().cloned()).collect();
        let mut state = self.state();
        for name in state.files.difference(&names) {
            _ = self.file_errors.remove_label_values(&[name]);
        }
        for name in &names {
            self.file_errors.with_label_values(&[name]).set(i64::from(wrong.contains(name)));
        }
        (state.files, state.wrong_files) = (names, wrong);
    }

    /// Sets whether the last run of a job failed.
    pub(super) fn failing(&self, job: &str, is_failing: bool) {
        if is_failing {
            self.state().failing.insert(job.into());
        } else {
            self.state().failing.remove(job);
        }
    }

    /// Adds a job. All of its metrics exist from now on.
    pub(super) fn add(&self, job: &str, now: Timestamp) -> JobMetrics {
        let label = &[job];
        let metrics = JobMetrics {
            last_success: self.last_success.with_label_values(label),
            window: self.window.with_label_values(label),
            duration: self.duration.with_label_values(label),
            behind: self.behind.with_label_values(label),
            documents: self.documents.with_label_values(label),
            findings: self.findings.with_label_values(label),
            late_documents: self.late_documents.with_label_values(label),
            failures: self.failures.with_label_values(label),
            owed: self.owed.with_label_values(label),
        };
        metrics.succeeded(now);
        metrics
    }

    pub(super) fn remove(&self, job: &str) {
        let label = &[job];
        for gauge in [&self.last_success, &self.window, &self.duration] {
            _ = gauge.remove_label_values(label);
        }
        for gauge in [&self.behind, &self.owed] {
            _ = gauge.remove_label_values(label);
        }
        for counter in [&self.documents, &self.findings, &self.late_documents, &self.failures] {
            _ = counter.remove_label_values(label);
        }
        self.failing(job, false);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Status {
    fn default() -> Self {
        Self::new()
    }
}

impl JobMetrics {
    /// Sets the time of the last success.
    pub(super) fn succeeded(&self, at: Timestamp) {
        self.last_success.set(at.as_millisecond() as f64 / 1000.0);
    }

    /// Shows what an advance has done until now.
    pub(super) fn advanced(&self, shown: &mut Shown, advance: &Advance, run: Option<&Run>) {
        let now = Shown {
            documents: advance.documents,
            findings: advance.findings,
            late: advance.late,
            failed: advance.failed.len() as u64,
        };
        self.documents.inc_by(now.documents - shown.documents);
        self.findings.inc_by(now.findings - shown.findings);
        self.late_documents.inc_by(now.late - shown.late);
        self.failures.inc_by(now.failed - shown.failed);
        *shown = now;
        self.behind.set(advance.behind as i64);
        self.owed.set(advance.owed.len() as i64);
        if let Some(Run { manifest, counted: true, .. }) = run {
            self.succeeded(manifest.ended);
            self.duration.set(manifest.ended.duration_since(manifest.started).as_secs_f64());
        }
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> C {
    registry.register(Box::new(metric.clone())).expect("the names of metrics are unique");
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_is_not_alive() {
        let status = Status::new();
        assert!(status.is_alive());
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(!status.is_alive());
        status.tick();
        assert!(status.is_alive());
    }
}
