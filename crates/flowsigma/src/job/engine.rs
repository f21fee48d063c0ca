//! Counting and deciding one window of a job, on a cluster.
//!
//! Owns: the statements of a window. Must not know: stores, leases, sinks or schedules.

use crate::counts::{Counts, Decided};
use crate::failure::Failure;
use crate::pairs::PairsFile;
use crate::report::{Coverage, Limits, Report};
use crate::run::{Done, Runner};
use crate::scope::{Fields, Scope, Window, show_bound};
use crate::source::Source;
use anyhow::Context;
use async_trait::async_trait;
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use elastic_client::ConnectionRegistry;
use flow_detect::{DetectSpec, Detection, Sigma, counts_sql, documents_sql, pairs_sql};
use flowsigma_jobs::{Engine, Finding, Job, Outcome, WindowTimes};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Runs the windows of jobs.
pub(crate) struct JobEngine {
    registry: Arc<ConnectionRegistry>,
    runner: Runner,
    /// The number of tables so far: runs beside each other share a session.
    tables: AtomicU64,
    /// Cancelled by Ctrl-C, so that no further window is begun.
    stop: CancellationToken,
}

/// The table of one run; dropped from the session with this value.
struct RunTable<'a> {
    engine: &'a JobEngine,
    spec: DetectSpec,
    source: Source,
}

impl Drop for RunTable<'_> {
    fn drop(&mut self) {
        self.engine.runner.cluster().context().deregister_table(self.spec.table.as_str()).ok();
    }
}

impl JobEngine {
    pub(crate) fn new(registry: Arc<ConnectionRegistry>, runner: Runner) -> Self {
        Self { registry, runner, tables: AtomicU64::new(0), stop: CancellationToken::new() }
    }

    /// Returns the token that Ctrl-C cancels.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    fn problem(&self, failure: Failure) -> Problem {
        if matches!(failure, Failure::Interrupted { .. }) {
            self.stop.cancel();
        }
        failure.into_error().into()
    }

    async fn create_table(&self, job: &Job, window: WindowTimes) -> anyhow::Result<RunTable<'_>> {
        let table = format!("flows_{}", self.tables.fetch_add(1, Ordering::Relaxed));
        let source = Source::of_job(job);
        let context = self.runner.cluster().context();
        source.create_table(&self.registry, context, &table, &job.source.time_field).await?;
        let spec = DetectSpec {
            table,
            time_field: job.source.time_field.clone(),
            source_field: job.source.source_field.clone(),
            destination_field: job.source.destination_field.clone(),
            since: Some(window.start.as_millisecond()),
            until: Some(window.end.as_millisecond()),
            filter: job.source.filter.clone(),
            sigma: sigma(job)?,
        };
        Ok(RunTable { engine: self, spec, source })
    }

    async fn execute(
        &self,
        sql: &str,
        cancel: &CancellationToken,
    ) -> Result<(Vec<RecordBatch>, Done), Failure> {
        let plan = self.runner.cluster().context().sql(sql).await?.into_unoptimized_plan();
        let mut rows = Vec::new();
        let done = self
            .runner
            .cancelled_by(cancel)
            .run(plan, &mut |batch: RecordBatch| {
                rows.push(batch);
                Ok(())
            })
            .await?;
        Ok((rows, done))
    }

    /// Reads the pairs, and returns them as a Parquet file.
    async fn pairs(&self, table: &RunTable<'_>, cancel: &CancellationToken) -> Result<Vec<u8>, Failure> {
        let plan =
            self.runner.cluster().context().sql(&pairs_sql(&table.spec)).await?.into_unoptimized_plan();
        let mut file = PairsFile::try_new().map_err(Failure::running)?;
        let runner = self.runner.cancelled_by(cancel);
        let done = runner.run(plan, &mut |batch: RecordBatch| file.push(&batch)).await?;
        // They are complete, or this is an error.
        Coverage::of(&done, table.source.is_index()).map_err(Failure::running)?;
        file.finish().map_err(Failure::running)
    }

    async fn documents(&self, table: &RunTable<'_>, cancel: &CancellationToken) -> Result<u64, Failure> {
        let (rows, done) = self.execute(&documents_sql(&table.spec), cancel).await?;
        // Every slice was counted, or this is an error.
        Coverage::of(&done, table.source.is_index()).map_err(Failure::running)?;
        let count = rows.iter().find(|batch| batch.num_rows() > 0).map(|batch| batch.column(0));
        let count = count.context("the count of documents has no row")?;
        let count =
            count.as_primitive_opt::<Int64Type>().context("the count of documents is not a BIGINT")?;
        Ok(u64::try_from(count.value(0))?)
    }
}

/// Returns the threshold of a job, exactly as its file has it.
pub(crate) fn sigma(job: &Job) -> anyhow::Result<Sigma> {
    let sigma = job.detection.sigma;
    sigma.to_string().parse().with_context(|| format!("job \"{}\": detection.sigma = {sigma}", job.name))
}

/// Removes findings with too few flows, and those of allowed addresses. This is done after the decision, so that they
/// count for the statistics.
pub(crate) fn keep_wanted(decided: &mut Decided, job: &Job) -> anyhow::Result<()> {
    let allowed = flowsigma_jobs::Allowed::try_new(&job.detection.allow)?;
    let is_wanted = |finding: &flow_detect::Finding| {
        finding.count() >= job.detection.minimum_count && !allowed.contains(&finding.address)
    };
    decided.detection.findings.retain(is_wanted);
    decided.hidden.retain(is_wanted);
    Ok(())
}

/// Returns the findings as manifests have them.
pub(crate) fn findings(detection: &Detection) -> anyhow::Result<Vec<Finding>> {
    Ok(serde_json::from_value(serde_json::to_value(&detection.findings)?)?)
}

fn scope_of(table: &RunTable<'_>, job: &Job) -> anyhow::Result<Scope> {
    let spec = &table.spec;
    Ok(Scope {
        place: table.source.place(),
        since: show_bound(spec.since),
        until: show_bound(spec.until),
        filter: spec.filter.clone(),
        sigma: serde_json::from_str(&spec.sigma.to_string())?,
        peel: job.detection.peel,
        fields: Fields {
            time: spec.time_field.clone(),
            source: spec.source_field.clone(),
            destination: spec.destination_field.clone(),
        },
        window: Window::Asked,
    })
}

#[async_trait]
impl Engine for JobEngine {
    async fn count(&self, job: &Job, window: WindowTimes) -> Result<u64, Problem> {
        let table = self.create_table(job, window).await?;
        let never = CancellationToken::new();
        self.documents(&table, &never).await.map_err(|failure| self.problem(failure))
    }

    async fn run(
        &self,
        job: &Job,
        window: WindowTimes,
        cancel: &CancellationToken,
    ) -> Result<Outcome, Problem> {
        let table = tokio::select! {
            table = self.create_table(job, window) => table?,
            () = cancel.cancelled() => return Err("the run was cancelled".into()),
        };
        // Counted first: a document that arrives in between makes the window late, and it is run again.
        let documents = self.documents(&table, cancel).await.map_err(|failure| self.problem(failure))?;
        let counted = self.execute(&counts_sql(&table.spec), cancel).await;
        let (rows, done) = counted.map_err(|failure| self.problem(failure))?;
        let coverage = Coverage::of(&done, table.source.is_index())?;
        let pairs = match job.store.pairs {
            true => Some(self.pairs(&table, cancel).await.map_err(|failure| self.problem(failure))?.into()),
            false => None,
        };
        let counts = Counts::of(&rows)?;
        let file = counts.to_parquet()?;
        let mut decided = counts.decide(table.spec.sigma, job.detection.peel).await?;
        keep_wanted(&mut decided, job)?;
        let findings = findings(&decided.detection)?;
        let limits = Limits {
            sigma: table.spec.sigma,
            share: table.source.share(),
            minimum_count: job.detection.minimum_count,
        };
        let report = Report::new(decided, coverage, scope_of(&table, job)?, &limits);
        let report = serde_json::to_value(&report)?;
        Ok(Outcome { documents, findings, report, counts: file.into(), pairs })
    }
}
