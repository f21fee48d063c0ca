//! One statement, from its plan to its last row.
//!
//! Owns: its search contexts, its progress, its cancellation and the report of its scans. Must not know: the meaning of
//! the statement, or how its rows are printed.

use crate::failure::Failure;
use crate::interrupt::{Interrupt, Running};
use crate::progress::Progress;
use async_trait::async_trait;
use ballista_elasticsearch::{Cluster, Job, ScanReport};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion_elasticsearch::{QueryContexts, open_matching_contexts, prove_filters};
use elastic_client::{ConnectionRegistry, ContextKind};
use flowsigma_node::Config;
use futures::StreamExt;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The time for closing search contexts after Ctrl-C before the command ends.
const CLOSE_AFTER_INTERRUPT: Duration = Duration::from_millis(300);

/// Takes the rows of a statement, batch by batch.
#[async_trait]
pub(crate) trait RowSink: Send {
    /// Takes a batch. The next one is fetched after that.
    async fn take(&mut self, batch: RecordBatch) -> anyhow::Result<()>;
}

#[async_trait]
impl<F: FnMut(RecordBatch) -> anyhow::Result<()> + Send> RowSink for F {
    async fn take(&mut self, batch: RecordBatch) -> anyhow::Result<()> {
        self(batch)
    }
}

/// Runs statements on a cluster.
#[derive(Clone)]
pub(crate) struct Runner {
    registry: Arc<ConnectionRegistry>,
    cluster: Cluster,
    interrupt: Interrupt,
    cancel: CancellationToken,
    embedded: bool,
}

/// The result of a statement, besides its rows.
pub(crate) struct Done {
    /// The report of each of its scans.
    pub(crate) scans: Vec<ScanReport>,
    /// The number of slices that these scans have together, by the plan that was submitted.
    pub(crate) planned_slices: u64,
    /// The number of slices of its search contexts.
    pub(crate) slices: usize,
    /// The number of indices in which no document matches, so that no search context was opened on them.
    pub(crate) skipped_indices: usize,
    /// The kind of its first search context. None if it read no index.
    pub(crate) kind: Option<ContextKind>,
}

impl Runner {
    /// Returns a runner that submits to `scheduler`, or to a cluster inside this process if that is none.
    pub(crate) async fn start(
        registry: Arc<ConnectionRegistry>,
        config: &Config,
        scheduler: Option<&str>,
        interrupt: Interrupt,
    ) -> Result<Self, Failure> {
        let cluster = match scheduler {
            Some(url) => Cluster::remote(Arc::clone(&registry), config, url).await?,
            None => Cluster::embedded(Arc::clone(&registry)).await?,
        };
        let (cancel, embedded) = (CancellationToken::new(), scheduler.is_none());
        Ok(Self { registry, cluster, interrupt, cancel, embedded })
    }

    /// Returns a runner on the same cluster. Once `cancel` is cancelled, its statements fail: their jobs are cancelled
    /// and their search contexts are closed, as after every failure.
    pub(crate) fn cancelled_by(&self, cancel: &CancellationToken) -> Self {
        Self { cancel: cancel.clone(), ..self.clone() }
    }

    pub(crate) fn registry(&self) -> &ConnectionRegistry {
        &self.registry
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Runs a plan and passes its rows to `sink`, batch by batch. When it returns, the job has ended and its search
    /// contexts are closed; a failure or a warning says so if that did not succeed.
    pub(crate) async fn run(&self, plan: LogicalPlan, sink: &mut dyn RowSink) -> Result<Done, Failure> {
        let plan = self.cluster.prepare(plan)?;
        let (running, state) = (self.interrupt.begin(), self.cluster.context().state());
        let (plan, open) = tokio::select! {
            opened = open_unless_interrupted(plan, &state, &running) => opened?,
            failure = self.cancelled() => return Err(failure),
        };
        let (slices, skipped_indices, kind) = (open.slices(), open.skipped_indices(), open.kind());
        let response = self.rows(plan, open.reads(), sink, &running).await;
        if let Err(failure @ Failure::Interrupted { .. }) = response {
            // After the timeout, closing goes on in the background for as long as the process lives.
            return match tokio::time::timeout(CLOSE_AFTER_INTERRUPT, open.close()).await {
                Ok(Ok(())) => Err(failure),
                Ok(Err(_)) | Err(_) => Err(failure.not_cleaned_up()),
            };
        }
        // The search contexts are closed in every case. The statement's own failure takes precedence over a failure to
        // close them.
        match (response, open.close().await) {
            (Ok((scans, planned_slices)), Ok(())) => {
                Ok(Done { scans, planned_slices, slices, skipped_indices, kind })
            }
            (Ok(_), Err(error)) => Err(Failure::running(error)),
            (Err(failure), Ok(())) => Err(failure),
            (Err(failure), Err(error)) => {
                tracing::warn!(%error, "a search context stays open until its keep_alive");
                Err(failure.not_cleaned_up())
            }
        }
    }

    async fn rows(
        &self,
        plan: LogicalPlan,
        slices: usize,
        sink: &mut dyn RowSink,
        running: &Running<'_>,
    ) -> Result<(Vec<ScanReport>, u64), Failure> {
        let (job, rows) = tokio::select! {
            job = Job::submit(&self.cluster, plan) => job?,
            () = running.interrupted() => return Err(Failure::Interrupted { cleaned_up: true }),
            failure = self.cancelled() => return Err(failure),
        };
        let guard = CancelOnDrop::new(&job);
        let progress = if self.embedded {
            Progress::here(&self.registry, slices as u64)
        } else {
            Progress::elsewhere(job.clone())
        };
        let response = tokio::select! {
            response = drain(rows, &job, sink) => response,
            () = running.interrupted() => Err(Failure::Interrupted { cleaned_up: true }),
            failure = self.cancelled() => Err(failure),
            never = self.tell_of_waiting(&job) => match never {},
        };
        drop(progress);
        let response = self.ended(&job, response).await;
        guard.disarm();
        response
    }

    /// Returns the report of a job that has ended, and cancels one that has failed.
    async fn ended(
        &self,
        job: &Job,
        response: Result<Vec<ScanReport>, Failure>,
    ) -> Result<(Vec<ScanReport>, u64), Failure> {
        match response {
            Ok(scans) => Ok((scans, job.slices())),
            Err(failure) => {
                let failure = match failure {
                    Failure::Failed(error) => match job.lost().await {
                        // No scheduler is left to cancel the job, and the error of the broken connection says
                        // less.
                        Some(lost) => {
                            tracing::debug!(%error, "the scheduler was lost");
                            return Err(Failure::Failed(anyhow::anyhow!(lost)));
                        }
                        None => Failure::Failed(error),
                    },
                    other => other,
                };
                match job.cancel().await {
                    Ok(()) => Err(failure),
                    Err(error) => {
                        tracing::warn!(%error, "the job may still be running");
                        Err(failure.not_cleaned_up())
                    }
                }
            }
        }
    }

    /// Waits until the runner is cancelled, and returns the failure that says so.
    async fn cancelled(&self) -> Failure {
        self.cancel.cancelled().await;
        Failure::Failed(anyhow::anyhow!("the statement was cancelled"))
    }

    async fn tell_of_waiting(&self, job: &Job) -> Infallible {
        if !self.embedded
            && let Some(waits) = job.waits_for_executor().await
        {
            tracing::warn!("{waits}");
        }
        std::future::pending().await
    }
}

/// Cancels a job in the background if its future is dropped before the job has ended: nothing else ends it then.
struct CancelOnDrop(Option<Job>);

impl CancelOnDrop {
    fn new(job: &Job) -> Self {
        Self(Some(job.clone()))
    }

    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let Some(job) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = job.cancel().await {
                    tracing::warn!(%error, "the job may still be running");
                }
            });
        }
    }
}

/// Opens the search contexts of the plan without the indices in which no document matches, and proves which of its
/// filters are exact. On an interrupt, those that are open are closed in the background, and one that is being opened is
/// closed as soon as the server has responded.
pub(crate) async fn open_unless_interrupted(
    plan: LogicalPlan,
    state: &SessionState,
    running: &Running<'_>,
) -> Result<(LogicalPlan, QueryContexts), Failure> {
    let opened = async {
        let (plan, open) = open_matching_contexts(plan, state).await?;
        match prove_filters(plan, state).await {
            Ok(plan) => Ok((plan, open)),
            Err(error) => {
                open.close().await.ok();
                Err(error)
            }
        }
    };
    tokio::select! {
        opened = opened => Ok(opened?),
        () = running.interrupted() => Err(Failure::Interrupted { cleaned_up: false }),
    }
}

/// Passes on the rows, and returns the reports of the scans.
async fn drain(
    mut rows: SendableRecordBatchStream,
    job: &Job,
    sink: &mut dyn RowSink,
) -> Result<Vec<ScanReport>, Failure> {
    let mut scans = None;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(Failure::running)?;
        // The first row comes once the job has ended. A scheduler forgets a job some time after that, and rows may be
        // read slowly.
        if scans.is_none() {
            scans = Some(job.scans().await.map_err(Failure::running)?);
        }
        sink.take(batch).await.map_err(Failure::running)?;
    }
    match scans {
        Some(scans) => Ok(scans),
        None => job.scans().await.map_err(Failure::running),
    }
}
