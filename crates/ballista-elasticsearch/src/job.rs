//! A job on a cluster: its rows, its metrics, and its end.
//!
//! Owns: the identity of the job on the scheduler. Must not know: what its rows mean.

use crate::cluster::Cluster;
use crate::progress::{JobProgress, Stages};
use crate::scan_report::{ScanReport, scan_report};
use crate::scheduler::status_now;
use crate::submission::{ASKED_AGAIN_AFTER, Again, Submission};
use ballista_core::serde::protobuf::{CancelJobParams, GetJobMetricsParams, job_status::Status};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion_elasticsearch::planned_slices;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tonic::Code;

/// A submitted job.
#[derive(Clone)]
pub struct Job {
    cluster: Cluster,
    submission: Arc<Submission>,
    rest_url: String,
    rest: reqwest::Client,
    rows: Arc<JoinHandle<()>>,
    slices: u64,
}

/// Limits requests to the scheduler's REST endpoints. They only fetch numbers for display.
const REST_TIMEOUT: Duration = Duration::from_secs(5);

/// A scheduler cancels a job with a delay. If nothing runs yet, it finishes the planning first.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(20);
/// The time after which a cancellation is sent again.
const SENT_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// The time after which a job without a status is unknown to its scheduler.
const UNKNOWN_AFTER: Duration = Duration::from_secs(1);
/// The first poll interval for the end of a cancelled job. It doubles up to [`ASKED_AGAIN_AFTER`].
const FIRST_PAUSE: Duration = Duration::from_millis(1);

impl Job {
    /// Submits a plan, and returns the job with the stream of its rows.
    ///
    /// If an executor was lost with rows that a later stage needs, the plan is submitted again, at most twice.
    /// This happens only if the plan writes nothing and the stream has returned no row yet.
    ///
    /// # Errors
    ///
    /// Returns an error if the plan cannot be optimized or serialized, or the client for the scheduler cannot be
    /// built.
    pub async fn submit(cluster: &Cluster, plan: LogicalPlan) -> Result<(Self, SendableRecordBatchStream)> {
        let (cluster, again) = (cluster.clone(), Again::of(&plan)?);
        let frame = cluster.context().execute_logical_plan(plan).await?;
        let task = Arc::new(frame.task_ctx());
        let (state, plan) = frame.into_parts();
        let plan = state.optimize(&plan)?;
        let slices = planned_slices(&plan)? as u64;
        let plan = state.query_planner().create_physical_plan(&plan, &state).await?;
        let submission = Arc::new(Submission::new(cluster.clone(), plan, task, again));
        let (rows, stream) = Arc::clone(&submission).rows()?;
        let (rest_url, rest) = cluster.rest()?;
        let rest = rest.timeout(REST_TIMEOUT).build().map_err(|e| DataFusionError::External(Box::new(e)))?;
        Ok((Self { cluster, submission, rest_url, rest, rows: Arc::new(rows), slices }, stream))
    }

    /// Returns how many slices the scans of Elasticsearch tables have in the submitted plan. A table that is
    /// scanned twice counts each of its slices twice.
    pub fn slices(&self) -> u64 {
        self.slices
    }

    /// Returns the id of the job on the scheduler; `None` if the statement runs in this process, or the scheduler
    /// has not accepted the job yet.
    pub fn id(&self) -> Option<String> {
        self.submission.id()
    }

    /// Cancels the job on all executors, and returns when the scheduler reports its end. Dropping the stream of
    /// rows does not cancel the job.
    ///
    /// # Errors
    ///
    /// Returns an error if the scheduler does not respond, or the job still runs after 20 s.
    pub async fn cancel(&self) -> Result<()> {
        tokio::time::timeout(CANCEL_TIMEOUT, self.cancel_until_ended()).await.unwrap_or_else(|_| {
            let (job, waited) = (self.id().unwrap_or_else(|| "that was submitted".into()), CANCEL_TIMEOUT);
            Err(DataFusionError::Execution(format!("job {job} still runs {waited:?} after it was cancelled")))
        })
    }

    async fn cancel_until_ended(&self) -> Result<()> {
        self.submission.give_up();
        let job_id = loop {
            match self.id() {
                Some(id) => break id,
                None if !self.submission.is_distributed() || self.rows.is_finished() => return Ok(()),
                // The submission is on its way, and the scheduler may have it already.
                None => tokio::time::sleep(ASKED_AGAIN_AFTER).await,
            }
        };
        let mut scheduler = self.cluster.scheduler().await?;
        let (begin, mut sent, mut pause) = (Instant::now(), None::<Instant>, FIRST_PAUSE);
        loop {
            let response = scheduler.get_job_status(status_now(job_id.clone())).await;
            let response = response.map_err(answered)?.into_inner();
            match response.status.and_then(|status| status.status) {
                Some(Status::Failed(_) | Status::Successful(_)) => break,
                // The scheduler has accepted the job but not queued it yet, or the scheduler was restarted.
                None if begin.elapsed() >= UNKNOWN_AFTER => break,
                // A scheduler drops the cancellation of a job that it has not started to run, so this sends it
                // again.
                Some(Status::Running(_)) if sent.is_none_or(|at| at.elapsed() >= SENT_AGAIN_AFTER) => {
                    sent = Some(Instant::now());
                    let params = CancelJobParams { job_id: job_id.clone() };
                    scheduler.cancel_job(params).await.map_err(answered)?;
                }
                Some(Status::Running(_) | Status::Queued(_)) | None => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(ASKED_AGAIN_AFTER);
        }
        Ok(())
    }

    /// Returns the progress of the job; `None` if the scheduler does not report it.
    pub async fn progress(&self) -> Option<JobProgress> {
        let url = format!("{}/api/job/{}/stages?plan_format=metrics", self.rest_url, self.id()?);
        let response = self.rest.get(url).send().await.ok()?.error_for_status().ok()?;
        let stages: Stages = serde_json::from_slice(&response.bytes().await.ok()?).ok()?;
        Some(JobProgress::from(&stages))
    }

    /// Returns a message if the job waits because no executor is registered with its scheduler. Returns `None` if
    /// there is an executor, or the scheduler does not respond.
    pub async fn waits_for_executor(&self) -> Option<String> {
        let response = self.rest.get(format!("{}/api/executors", self.rest_url)).send().await.ok()?;
        let response = response.error_for_status().ok()?;
        let url = self.cluster.scheduler_url();
        let executors: Vec<serde::de::IgnoredAny> =
            serde_json::from_slice(&response.bytes().await.ok()?).ok()?;
        executors.is_empty().then(|| {
            format!(
                "no executor is registered with scheduler {url}: the job waits for one, for as long as the \
                 scheduler's --no-executors-grace-period-seconds"
            )
        })
    }

    /// Returns a message with the next step if the job failed because its scheduler was lost; `None` otherwise. A
    /// restarted scheduler does not know its earlier jobs.
    pub async fn lost(&self) -> Option<String> {
        let why = match self.cluster.scheduler().await {
            Err(e) => e.message().into_owned(),
            Ok(mut scheduler) => {
                // A process that is being killed accepts connections for a moment, but does not respond.
                let job_id = self.id().unwrap_or_default();
                let accepted = !job_id.is_empty();
                match scheduler.get_job_status(status_now(job_id)).await {
                    Ok(response) if accepted && response.get_ref().status.is_none() => {
                        "it was restarted".into()
                    }
                    Ok(_) => return None,
                    // The scheduler no longer knows a job that it had accepted.
                    Err(e) if accepted && e.code() == Code::PermissionDenied => "it was restarted".into(),
                    // The scheduler is there, and reports nothing of a job that it rejected.
                    Err(e) if matches!(e.code(), Code::PermissionDenied | Code::Unauthenticated) => {
                        return None;
                    }
                    Err(e) => answered(e).message().into_owned(),
                }
            }
        };
        let url = self.cluster.scheduler_url();
        Some(format!(
            "scheduler {url} was lost while the job ran, submit the job again once it is back: {why}"
        ))
    }

    /// Returns the metrics of each scan of Elasticsearch tables and of files. They are complete once the first row
    /// was fetched, because rows can be fetched after the end of the job.
    ///
    /// # Errors
    ///
    /// Returns an error if the scheduler does not respond, or reports metrics that this version cannot read.
    pub async fn scans(&self) -> Result<Vec<ScanReport>> {
        let Some(job_id) = self.id() else { return Ok(Vec::new()) };
        let mut scheduler = self.cluster.scheduler().await?;
        let response = scheduler.get_job_metrics(GetJobMetricsParams { job_id }).await.map_err(answered)?;
        let operators = response.into_inner().stages.into_iter().flat_map(|stage| stage.operators);
        operators.filter_map(|operator| scan_report(operator).transpose()).collect()
    }
}

fn answered(status: tonic::Status) -> DataFusionError {
    DataFusionError::Execution(format!("the scheduler returned {}: {}", status.code(), status.message()))
}
