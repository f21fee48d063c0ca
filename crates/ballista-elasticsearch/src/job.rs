//! One job on a cluster: its rows, what it read, and its end.
//!
//! Owns: the job's identity on the scheduler. Must not know: what its rows mean.

use crate::cluster::Cluster;
use crate::progress::{JobProgress, Stages};
use crate::submission::{ASKED_AGAIN_AFTER, Again, Submission};
use ballista_core::serde::protobuf::{
    CancelJobParams, GetJobMetricsParams, GetJobStatusParams, OperatorMetric, OperatorMetricsSet,
    OperatorWithMetrics, job_status::Status,
};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion_elasticsearch::{EsScanExec, planned_slices};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::Code;

/// A submitted statement.
#[derive(Clone)]
pub struct Job {
    cluster: Cluster,
    submission: Arc<Submission>,
    rest_url: String,
    rest: reqwest::Client,
    rows: Arc<JoinHandle<()>>,
    slices: u64,
}

/// The scheduler's REST endpoints are asked for numbers to show, which are worth no longer wait.
const REST_TIMEOUT: Duration = Duration::from_secs(5);

/// A scheduler cancels a job in its own time, which is that of planning it if nothing runs yet.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(20);
const ROUNDS_BETWEEN: u32 = 10;
const ROUNDS_UNTIL_UNKNOWN: u32 = 20;

/// What one scan of a finished job read, over all of its slices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// Rows that were read.
    pub documents: u64,
    /// Rows that the servers counted for what was asked; of files, what was read.
    pub matched: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Slices that the scan has in the scheduler's plan; of files, none.
    pub slices: u64,
    /// Slices that were read to their end.
    pub slices_read: u64,
}

impl Job {
    /// Submits a plan, and gives its rows. It is submitted again, up to twice, if it writes nothing and no row was
    /// given yet, where rows were lost with an executor on their way from one stage to the next.
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

    /// How many slices its scans of Elasticsearch tables have together, by the plan that was submitted: with
    /// two scans of a table, each of its slices twice.
    pub fn slices(&self) -> u64 {
        self.slices
    }

    /// Its id on the scheduler; none if it runs in this process, or was not accepted yet.
    pub fn id(&self) -> Option<String> {
        self.submission.id()
    }

    /// Stops it on all executors, and returns once the scheduler says that it has ended. Dropping its
    /// rows alone would not stop it.
    ///
    /// # Errors
    ///
    /// If the scheduler does not answer, or the job goes on for 20 s.
    pub async fn cancel(&self) -> Result<()> {
        tokio::time::timeout(CANCEL_TIMEOUT, self.cancel_until_ended()).await.unwrap_or_else(|_| {
            let (job, waited) = (self.id().unwrap_or_else(|| "that was submitted".into()), CANCEL_TIMEOUT);
            Err(DataFusionError::Execution(format!("job {job} goes on {waited:?} after it was cancelled")))
        })
    }

    async fn cancel_until_ended(&self) -> Result<()> {
        self.submission.give_up();
        let job_id = loop {
            match self.id() {
                Some(id) => break id,
                None if !self.submission.is_distributed() || self.rows.is_finished() => return Ok(()),
                // It is on its way to the scheduler, who may have it already.
                None => tokio::time::sleep(ASKED_AGAIN_AFTER).await,
            }
        };
        let mut scheduler = self.cluster.scheduler().await?;
        for round in 0.. {
            let params = GetJobStatusParams { job_id: job_id.clone() };
            let response = scheduler.get_job_status(params).await.map_err(answered)?.into_inner();
            match response.status.and_then(|status| status.status) {
                Some(Status::Failed(_) | Status::Successful(_)) => break,
                // Accepted and not yet queued, or of a scheduler that was started anew.
                None if round == ROUNDS_UNTIL_UNKNOWN => break,
                // It forgets that a job was to be cancelled which it has not begun to run.
                Some(Status::Running(_)) if round % ROUNDS_BETWEEN == 0 => {
                    let params = CancelJobParams { job_id: job_id.clone() };
                    scheduler.cancel_job(params).await.map_err(answered)?;
                }
                Some(Status::Running(_) | Status::Queued(_)) | None => {}
            }
            tokio::time::sleep(ASKED_AGAIN_AFTER).await;
        }
        Ok(())
    }

    /// How far it is; none where the scheduler does not tell.
    pub async fn progress(&self) -> Option<JobProgress> {
        let url = format!("{}/api/job/{}/stages?plan_format=metrics", self.rest_url, self.id()?);
        let response = self.rest.get(url).send().await.ok()?.error_for_status().ok()?;
        let stages: Stages = serde_json::from_slice(&response.bytes().await.ok()?).ok()?;
        Some(JobProgress::from(&stages))
    }

    /// What to tell of a job that nobody can begin, because no executor is registered with its scheduler;
    /// none if there is one, or where the scheduler does not tell.
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

    /// Whether a job that failed did so because its scheduler is gone, which forgets its jobs; says
    /// what to do then.
    pub async fn lost(&self) -> Option<String> {
        let why = match self.cluster.scheduler().await {
            Err(e) => e.message().into_owned(),
            Ok(mut scheduler) => {
                // A process that is being killed takes connections for a moment, but answers none.
                let job_id = self.id().unwrap_or_default();
                let accepted = !job_id.is_empty();
                match scheduler.get_job_status(GetJobStatusParams { job_id }).await {
                    Ok(response) if accepted && response.get_ref().status.is_none() => {
                        "it was started anew".into()
                    }
                    Ok(_) => return None,
                    // Of a job that it took, it knows nothing any more.
                    Err(e) if accepted && e.code() == Code::PermissionDenied => "it was started anew".into(),
                    // It is there, and tells nothing of a job that it refused.
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

    /// What each scan of Elasticsearch tables and of files read, once all rows were taken.
    pub async fn scans(&self) -> Result<Vec<ScanReport>> {
        let Some(job_id) = self.id() else { return Ok(Vec::new()) };
        let mut scheduler = self.cluster.scheduler().await?;
        let response = scheduler.get_job_metrics(GetJobMetricsParams { job_id }).await.map_err(answered)?;
        let operators = response.into_inner().stages.into_iter().flat_map(|stage| stage.operators);
        operators.filter_map(|operator| scan_report(operator).transpose()).collect()
    }
}

fn answered(status: tonic::Status) -> DataFusionError {
    DataFusionError::Execution(format!("the scheduler answered {}: {}", status.code(), status.message()))
}

/// The metrics of one operator, as its job's scheduler tells them.
pub(crate) fn metrics_of(metrics: Vec<OperatorMetric>) -> Result<MetricsSet> {
    OperatorMetricsSet { metrics }.try_into().map_err(|e| DataFusionError::External(Box::new(e)))
}

fn scan_report(operator: OperatorWithMetrics) -> Result<Option<ScanReport>> {
    let of_files =
        operator.operator_type == "DataSourceExec" && operator.operator_desc.contains("file_groups");
    if operator.operator_type != "EsScanExec" && !of_files {
        return Ok(None);
    }
    let metrics = metrics_of(operator.metrics)?;
    let sum = |name: &str| metrics.sum_by_name(name).map_or(0, |value| value.as_usize() as u64);
    if of_files {
        let rows = metrics.output_rows().unwrap_or(0) as u64;
        return Ok(Some(ScanReport { documents: rows, matched: rows, ..ScanReport::default() }));
    }
    let Some(slices) = EsScanExec::slices_of(&operator.operator_desc) else {
        return Err(DataFusionError::Execution(format!(
            "the scheduler does not tell how many slices a scan has, run one version on all nodes of the \
             cluster: {}",
            operator.operator_desc
        )));
    };
    Ok(Some(ScanReport {
        documents: sum("documents"),
        matched: sum("matched"),
        retries: sum("retries"),
        slices,
        slices_read: sum("slices"),
    }))
}
