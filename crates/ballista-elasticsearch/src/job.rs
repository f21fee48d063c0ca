//! One job on a cluster: its rows, what it read, and its end.
//!
//! Owns: the job's identity on the scheduler. Must not know: what its rows mean.

use crate::cluster::Cluster;
use crate::progress::{JobProgress, Stages};
use ballista_core::execution_plans::DistributedQueryExec;
use ballista_core::serde::protobuf::{
    CancelJobParams, GetJobMetricsParams, GetJobStatusParams, OperatorMetricsSet, OperatorWithMetrics,
    job_status::Status,
};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion_proto::protobuf::LogicalPlanNode;
use std::sync::Arc;
use std::time::Duration;

/// A submitted statement.
#[derive(Clone)]
pub struct Job {
    cluster: Cluster,
    plan: Arc<dyn ExecutionPlan>,
    rest: reqwest::Client,
}

/// The scheduler's REST endpoints are asked for numbers to show, which are worth no longer wait.
const REST_TIMEOUT: Duration = Duration::from_secs(5);

/// A scheduler cancels a job in its own time, which is that of planning it if nothing runs yet.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(20);
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What one scan of a finished job read, over all of its slices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// Rows that were read.
    pub documents: u64,
    /// Rows that the servers counted for what was asked; of files, what was read.
    pub matched: u64,
    /// Requests that were sent again.
    pub retries: u64,
}

impl Job {
    pub(crate) async fn submit(
        cluster: Cluster,
        plan: LogicalPlan,
    ) -> Result<(Self, SendableRecordBatchStream)> {
        let context = cluster.context().clone();
        let frame = context.execute_logical_plan(plan).await?;
        let task = Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await?;
        let stream = execute_stream(Arc::clone(&plan), task)?;
        // Neither a proxy nor a redirect: the scheduler is asked where it was submitted to.
        let rest = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let rest = rest.timeout(REST_TIMEOUT).build().map_err(|e| DataFusionError::External(Box::new(e)))?;
        Ok((Self { cluster, plan, rest }, stream))
    }

    /// Its id on the scheduler; none if it runs in this process, or was not accepted yet.
    pub fn id(&self) -> Option<String> {
        let distributed = find_distributed(&self.plan)?;
        distributed.job_id().map(|id| id.to_string())
    }

    /// Stops it on all executors, and returns once the scheduler says that it has ended. Dropping its
    /// rows alone would not stop it.
    ///
    /// # Errors
    ///
    /// If the scheduler does not answer, or the job goes on for 20 s.
    pub async fn cancel(&self) -> Result<()> {
        let Some(job_id) = self.id() else { return Ok(()) };
        tokio::time::timeout(CANCEL_TIMEOUT, self.cancel_until_ended(&job_id)).await.unwrap_or_else(|_| {
            let waited = CANCEL_TIMEOUT.as_secs();
            Err(DataFusionError::Execution(format!("job {job_id} goes on {waited} s after it was cancelled")))
        })
    }

    async fn cancel_until_ended(&self, job_id: &str) -> Result<()> {
        let mut scheduler = self.cluster.scheduler().await?;
        let mut asked = false;
        loop {
            let params = GetJobStatusParams { job_id: job_id.into() };
            let answer = scheduler.get_job_status(params).await.map_err(answered)?.into_inner();
            match answer.status.and_then(|status| status.status) {
                // A scheduler forgets that a job was to be cancelled which it is still planning.
                Some(Status::Queued(_)) => {}
                Some(Status::Running(_)) if asked => {}
                Some(Status::Running(_)) => {
                    let params = CancelJobParams { job_id: job_id.into() };
                    scheduler.cancel_job(params).await.map_err(answered)?;
                    asked = true;
                }
                Some(Status::Failed(_) | Status::Successful(_)) | None => return Ok(()),
            }
            tokio::time::sleep(ASKED_AGAIN_AFTER).await;
        }
    }

    /// How far it is; none where the scheduler does not tell.
    pub async fn progress(&self) -> Option<JobProgress> {
        let url =
            format!("{}/api/job/{}/stages?plan_format=metrics", self.cluster.scheduler_url(), self.id()?);
        let answer = self.rest.get(url).send().await.ok()?.error_for_status().ok()?;
        let stages: Stages = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
        Some(JobProgress::from(&stages))
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
                    Ok(answer) if accepted && answer.get_ref().status.is_none() => {
                        "it was started anew".into()
                    }
                    Ok(_) => return None,
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
        let answer = scheduler.get_job_metrics(GetJobMetricsParams { job_id }).await.map_err(answered)?;
        let operators = answer.into_inner().stages.into_iter().flat_map(|stage| stage.operators);
        operators.filter_map(|operator| scan_report(operator).transpose()).collect()
    }
}

fn answered(status: tonic::Status) -> DataFusionError {
    DataFusionError::Execution(format!("the scheduler answered {}: {}", status.code(), status.message()))
}

/// `EXPLAIN ANALYZE` wraps it; statements such as `SHOW TABLES` have none.
fn find_distributed(plan: &Arc<dyn ExecutionPlan>) -> Option<&DistributedQueryExec<LogicalPlanNode>> {
    plan.downcast_ref::<DistributedQueryExec<LogicalPlanNode>>()
        .or_else(|| plan.children().into_iter().find_map(find_distributed))
}

fn scan_report(operator: OperatorWithMetrics) -> Result<Option<ScanReport>> {
    let of_files =
        operator.operator_type == "DataSourceExec" && operator.operator_desc.contains("file_groups");
    if operator.operator_type != "EsScanExec" && !of_files {
        return Ok(None);
    }
    let metrics: MetricsSet = OperatorMetricsSet { metrics: operator.metrics }
        .try_into()
        .map_err(|e| DataFusionError::External(Box::new(e)))?;
    let sum = |name: &str| metrics.sum_by_name(name).map_or(0, |value| value.as_usize() as u64);
    Ok(Some(if of_files {
        let rows = metrics.output_rows().unwrap_or(0) as u64;
        ScanReport { documents: rows, matched: rows, retries: 0 }
    } else {
        ScanReport { documents: sum("documents"), matched: sum("matched"), retries: sum("retries") }
    }))
}
