//! `job serve`: runs all jobs of a folder until it is stopped.
//!
//! Owns: which jobs have a task, and how the server ends. Must not know: which windows a job runs, what counts flows,
//! or command-line options.
//!
//! Each job has a task. A task waits until its job is due, takes the job's lease and advances. The folder is read at
//! each poll. A changed file stops the task's advance after its current window, and the rest is done with the new
//! version.

mod clock;
mod folder;
mod http;
mod status;
mod task;

pub use clock::{Clock, RehearsalClock, SystemClock};
pub use http::{router, serve_http};
pub use status::Status;

use crate::engine::Engine;
use crate::error::Result;
use crate::job::{Job, StoreSpec};
use crate::job_file::JobFile;
use crate::sink::Sink;
use crate::store::Store;
use folder::{Folder, Scan};
use jiff::{SignedDuration, Timestamp};
use status::JobMetrics;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use task::Task;
use tokio::sync::{Semaphore, watch};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

/// How long tasks may take to release their leases after they were cut off.
const CUT_OFF: Duration = Duration::from_secs(10);

/// Makes the sinks of a job.
pub type MakeSinks = Arc<dyn Fn(&Job) -> Result<Vec<Box<dyn Sink>>> + Send + Sync>;

/// Opens the store of a job.
pub type OpenStore = Arc<dyn Fn(&StoreSpec) -> Result<Store> + Send + Sync>;

/// The options of a server.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// Jobs that run at the same time.
    pub concurrency: NonZeroUsize,
    /// How often the folder is read, and how often a job is tried whose lease another process holds.
    pub poll: Duration,
    /// The duration of a lease. A job whose process was killed waits as long.
    pub lease: Duration,
    /// How long running windows may take once the server is stopped.
    pub drain: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            concurrency: NonZeroUsize::new(4).unwrap_or(NonZeroUsize::MIN),
            poll: Duration::from_secs(5),
            lease: Duration::from_secs(60),
            // Service managers kill a process after 60 s.
            drain: Duration::from_secs(45),
        }
    }
}

/// Runs the jobs of a folder. Several servers may run the same jobs: a lease keeps a window from being run twice.
pub struct Server {
    /// The folder with the job files.
    pub folder: PathBuf,
    /// Counts and decides.
    pub engine: Arc<dyn Engine>,
    /// Makes the sinks of a job, once for each version of its file.
    pub make_sinks: MakeSinks,
    /// Opens the store of a job, once for each version of its file.
    pub open_store: OpenStore,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The options.
    pub options: ServeOptions,
    /// What probes and metrics show.
    pub status: Arc<Status>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("folder", &self.folder)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// What tasks share.
struct Shared {
    engine: Arc<dyn Engine>,
    make_sinks: MakeSinks,
    open_store: OpenStore,
    clock: Arc<dyn Clock>,
    options: ServeOptions,
    status: Arc<Status>,
    permits: Semaphore,
    /// Once it is cancelled, running windows are cut off.
    abort: CancellationToken,
}

impl Shared {
    fn now_and(&self, duration: Duration) -> Timestamp {
        let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        self.clock.now().saturating_add(duration).unwrap_or(Timestamp::MAX)
    }
}

/// A job with a task.
struct Served {
    file: watch::Sender<Arc<JobFile>>,
    stop: CancellationToken,
    metrics: JobMetrics,
    task: Id,
    panics: u32,
}

/// The jobs with a task, and the tasks, those included whose job was removed.
struct Jobs {
    shared: Arc<Shared>,
    stop: CancellationToken,
    served: BTreeMap<String, Served>,
    tasks: JoinSet<()>,
}

impl Server {
    /// Runs the jobs until `stop` resolves. Then no window is begun, and those that run may finish within
    /// [`ServeOptions::drain`].
    ///
    /// A job that fails, or whose file is wrong, does not end the server.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read at the start.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<()> {
        let Self { folder, engine, make_sinks, open_store, clock, options, status } = self;
        let folder = Arc::new(Mutex::new(Folder::new(folder)));
        let permits = Semaphore::new(options.concurrency.get().min(Semaphore::MAX_PERMITS));
        let abort = CancellationToken::new();
        let shared = Shared { engine, make_sinks, open_store, clock, options, status, permits, abort };
        let mut jobs = Jobs {
            shared: Arc::new(shared),
            stop: CancellationToken::new(),
            served: BTreeMap::new(),
            tasks: JoinSet::new(),
        };
        let shared = Arc::clone(&jobs.shared);
        jobs.update(scan(&folder).await?);
        shared.status.ready();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = shared.clock.sleep(options.poll) => {}
            }
            shared.status.tick();
            jobs.restart_panicked();
            match scan(&folder).await {
                Ok(scan) => jobs.update(scan),
                Err(error) => tracing::error!(%error, "the folder was not read, its jobs go on"),
            }
        }
        jobs.end().await;
        Ok(())
    }
}

/// Reads the folder without blocking other tasks.
async fn scan(folder: &Arc<Mutex<Folder>>) -> Result<Scan> {
    let folder = Arc::clone(folder);
    let scanned = tokio::task::spawn_blocking(move || {
        folder.lock().unwrap_or_else(std::sync::PoisonError::into_inner).scan()
    });
    scanned.await.expect("reading the folder does not panic")
}

impl Jobs {
    /// Begins, changes and ends tasks.
    fn update(&mut self, scan: Scan) {
        let status = Arc::clone(&self.shared.status);
        self.served.retain(|name, served| {
            let is_there = scan.jobs.contains_key(name);
            if !is_there {
                tracing::info!(job = name, "the job was removed, it ends after its current window");
                served.stop.cancel();
                status.remove(name);
            }
            is_there
        });
        status.wrong_files(scan.jobs.keys().cloned(), scan.wrong.into_keys().collect());
        for (name, file) in scan.jobs {
            match self.served.get(&name) {
                Some(served) => {
                    let has_changed = served.file.borrow().digest != file.digest;
                    if has_changed {
                        tracing::info!(job = name, digest = file.digest, "the job file has changed");
                        served.file.send_replace(file);
                    }
                }
                None => {
                    tracing::info!(job = name, digest = file.digest, "the job is served");
                    let now = self.shared.clock.now();
                    let (metrics, stop) = (status.add(&name, now), self.stop.child_token());
                    let file = watch::Sender::new(file);
                    let task = self.begin(&file, &stop, &metrics, 0);
                    self.served.insert(name, Served { file, stop, metrics, task, panics: 0 });
                }
            }
        }
    }

    fn begin(
        &mut self,
        file: &watch::Sender<Arc<JobFile>>,
        stop: &CancellationToken,
        metrics: &JobMetrics,
        failures: u32,
    ) -> Id {
        let task = Task {
            file: file.subscribe(),
            stop: stop.clone(),
            metrics: metrics.clone(),
            failures,
            behind: Mutex::new((0, self.shared.clock.now())),
            shared: Arc::clone(&self.shared),
        };
        self.tasks.spawn(task.run()).id()
    }

    /// Begins the tasks again that have panicked.
    fn restart_panicked(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            let Err(error) = ended else { continue };
            let Some(name) =
                self.served.iter().find(|(_, s)| s.task == error.id()).map(|(name, _)| name.clone())
            else {
                continue;
            };
            tracing::error!(job = name, %error, "the task of the job has panicked and is begun again");
            let Some(mut served) = self.served.remove(&name) else { continue };
            served.panics = served.panics.saturating_add(1);
            served.metrics.failures.inc();
            self.shared.status.failing(&name, true);
            served.task = self.begin(&served.file, &served.stop, &served.metrics, served.panics);
            self.served.insert(name, served);
        }
    }

    /// Lets running windows finish, and cuts off those that take too long.
    async fn end(mut self) {
        let Shared { clock, options, status, abort, .. } = self.shared.as_ref();
        self.stop.cancel();
        let end = self.shared.now_and(options.drain);
        while !self.tasks.is_empty() {
            let left = Duration::try_from(end.duration_since(clock.now())).unwrap_or_default();
            if left.is_zero() {
                tracing::warn!(
                    jobs = self.tasks.len(),
                    "running windows are cut off; the next start runs them again"
                );
                abort.cancel();
                break;
            }
            tokio::select! {
                _ = self.tasks.join_next() => {}
                () = clock.sleep(left.min(options.poll)) => status.tick(),
            }
        }
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(CUT_OFF, ended).await.is_err() {
            self.tasks.abort_all();
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
#[path = "serve/tests.rs"]
mod tests;
