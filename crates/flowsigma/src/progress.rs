//! What a person at a terminal sees while a job runs.
//!
//! Owns: the bar on stderr. Must not know: jobs. It shows the counters of this process, so slices
//! that executors elsewhere read are not in it.

use elastic_client::{ConnectionRegistry, ReadProgress};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

const INTERVAL: Duration = Duration::from_millis(100);

/// A bar that moves by itself until it is dropped. Nothing at all where stderr is no terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    task: Option<JoinHandle<()>>,
}

impl Progress {
    /// Over `slices` slices to read; a spinner where that is unknown or read elsewhere.
    pub(crate) fn start(registry: &Arc<ConnectionRegistry>, slices: Option<u64>) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden(), task: None };
        }
        let (bar, template) = match slices {
            Some(slices) => {
                (ProgressBar::new(slices), "{spinner} {elapsed} [{bar:30}] {pos} of {len} slices, {msg}")
            }
            None => (ProgressBar::new_spinner(), "{spinner} {elapsed} running"),
        };
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(INTERVAL);
        let (shown, registry) = (bar.clone(), Arc::clone(registry));
        let start = Counts::of(registry.progress());
        let task = tokio::spawn(async move {
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
        });
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
