//! The progress bar of a running job.
//!
//! Owns: the bar on stderr. Must not know: how jobs run. Counters of this process count what it reads itself. The
//! scheduler reports what other executors read, task by task.

use ballista_elasticsearch::Job;
use elastic_client::{ConnectionRegistry, ReadProgress};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Between two updates of the bar.
const INTERVAL: Duration = Duration::from_millis(100);
/// The poll interval for the progress on the scheduler.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// A bar that updates itself until it is dropped. It is hidden if stderr is no terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    task: Option<JoinHandle<()>>,
}

impl Progress {
    /// Shows the progress over `slices` slices that this process reads, or only the elapsed time if there are none.
    pub(crate) fn here(registry: &Arc<ConnectionRegistry>, slices: u64) -> Self {
        if slices == 0 {
            return Self::show(ProgressBar::new_spinner(), "{spinner} {elapsed} running", |_| async {});
        }
        let bar = ProgressBar::new(slices);
        let registry = Arc::clone(registry);
        let start = Counts::of(registry.progress());
        Self::show(bar, "{spinner} {elapsed} [{bar:30}] {pos} of {len} slices, {msg}", |shown| async move {
            let mut ticks = tokio::time::interval(INTERVAL);
            loop {
                ticks.tick().await;
                let now = Counts::of(registry.progress());
                shown.set_position(now.slices - start.slices);
                shown.set_message(format!(
                    "{} of {} documents",
                    HumanCount(now.documents - start.documents),
                    HumanCount(now.matched - start.matched)
                ));
            }
        })
    }

    /// Shows the progress of a job on other executors, or only the elapsed time if its scheduler reports none.
    pub(crate) fn elsewhere(job: Job) -> Self {
        Self::show(ProgressBar::new_spinner(), "{spinner} {elapsed} running {msg}", |shown| async move {
            let mut ticks = tokio::time::interval(ASK_INTERVAL);
            loop {
                ticks.tick().await;
                let Some(now) = job.progress().await.filter(|now| now.partitions > 0) else { continue };
                shown.set_message(format!(
                    "{} of {} partitions read, about {} documents",
                    now.done,
                    now.partitions,
                    HumanCount(now.documents)
                ));
            }
        })
    }

    fn show<F>(bar: ProgressBar, template: &str, update: impl FnOnce(ProgressBar) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden(), task: None };
        }
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(INTERVAL);
        let task = tokio::spawn(update(bar.clone()));
        Self { bar, task: Some(task) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        self.bar.finish_and_clear();
    }
}

struct Counts {
    slices: u64,
    documents: u64,
    matched: u64,
}

impl Counts {
    fn of(progress: &ReadProgress) -> Self {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Self {
            slices: read(&progress.slices),
            documents: read(&progress.documents),
            matched: read(&progress.matched),
        }
    }
}
