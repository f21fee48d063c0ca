//! What a run of a job needs: its store and lease, its sinks, and an engine.
//!
//! Owns: opening and releasing them, and the exit code of a run. Must not know: windows.

use super::engine::JobEngine;
use super::output::Summary;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::kept::LEASE;
use crate::run::Runner;
use anyhow::anyhow;
use elastic_client::{Access, Connection, ConnectionRegistry};
use flowsigma_jobs::{Error, Job, JobFile, Lease, Sink, Store, sinks, this_process};
use flowsigma_node::Config;
use jiff::Timestamp;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

/// A job that is about to be run by this process.
pub(super) struct Setup {
    file: JobFile,
    store: Store,
    lease: Lease,
    sinks: Vec<Box<dyn Sink>>,
    engine: JobEngine,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

/// Opens the store of a job.
pub(super) fn open_store(job: &Job) -> flowsigma_jobs::Result<Store> {
    Store::open(&job.store.url, &job.store.options)
}

/// Makes the sinks of a job.
pub(super) fn make_sinks(
    job: &Job,
    registry: &ConnectionRegistry,
) -> flowsigma_jobs::Result<Vec<Box<dyn Sink>>> {
    let connections = |name: &str| -> flowsigma_jobs::Result<Arc<Connection>> {
        let refused = |problem: String| Error::Sink { job: job.name.clone(), sink: "index".into(), problem };
        let connection = registry.get(name).map_err(|error| refused(error.to_string()))?;
        match connection.access() {
            Access::Write => Ok(connection),
            Access::Read => Err(refused(format!(
                "connection \"{name}\" may only read: set write = true in [connections.{name}]"
            ))),
        }
    };
    let stdout: sinks::SharedWriter = Arc::new(Mutex::new(std::io::stdout()));
    sinks::make(job, &connections, &stdout)
}

impl Setup {
    /// Takes the lease of a job. `now` is the time by which windows are due, if it is not the system's.
    pub(super) async fn start(
        file: JobFile,
        config: &Config,
        registry: Arc<ConnectionRegistry>,
        scheduler: Option<&str>,
        now: Option<Timestamp>,
        interrupt: Interrupt,
    ) -> Result<Self, Failure> {
        let store = open_store(&file.job)?;
        let sinks = make_sinks(&file.job, &registry)?;
        let runner = Runner::start(Arc::clone(&registry), config, scheduler, interrupt).await?;
        let lease = Lease::take(&store, &file.job.name, &this_process(), LEASE).await;
        let lease = lease.map_err(|error| match error {
            leased @ Error::Leased { .. } => Failure::Leased(leased.into()),
            error => Failure::Refused(error.into()),
        })?;
        let engine = JobEngine::new(registry, runner);
        Ok(Self {
            file,
            store,
            lease,
            sinks,
            engine,
            clock: Box::new(move || now.unwrap_or_else(Timestamp::now)),
        })
    }

    pub(super) fn runner(&self) -> flowsigma_jobs::Runner<'_> {
        flowsigma_jobs::Runner {
            engine: &self.engine,
            store: &self.store,
            lease: &self.lease,
            job: &self.file.job,
            digest: &self.file.digest,
            sinks: &self.sinks,
            clock: &self.clock,
        }
    }

    pub(super) fn stop(&self) -> &CancellationToken {
        self.engine.stop()
    }

    /// Releases the lease, and turns what was done into the result of the command.
    pub(super) async fn end(
        self,
        result: Result<Summary, Failure>,
        fail_on_findings: bool,
    ) -> Result<(), Failure> {
        if let Err(error) = self.lease.release().await {
            tracing::warn!(%error, "the lease was not released: the next run waits until it has ended");
        }
        if self.engine.stop().is_cancelled() {
            return Err(Failure::Interrupted { cleaned_up: true });
        }
        let summary = result?;
        for failure in &summary.failures {
            eprintln!("{failure}");
        }
        if summary.failed {
            return Err(Failure::Failed(anyhow!(
                "a window failed: flowsigma job windows lists it, and the next run tries it again"
            )));
        }
        if !summary.owed.is_empty() {
            return Err(Failure::Owed(anyhow!(
                "the windows are done, but these sinks do not have all findings: {}; the next run delivers them",
                summary.owed.join(", ")
            )));
        }
        if fail_on_findings && summary.findings > 0 {
            return Err(Failure::Findings);
        }
        Ok(())
    }
}
