//! An execution engine whose tasks stop reading when they are cancelled, and whose errors are readable.
//!
//! Owns: passing the cancellation to the scans and the COPY of a task. Must not know: how a scan stops, or why it
//! fails.
//!
//! Ballista drops the future of a cancelled task. But the streams below it run in a task of their own until their
//! end: they would read the whole index for nothing, and keep their scrolls open.

use crate::client_pool::ClientPool;
use crate::copy::CopySink;
use crate::message::to_be_passed_on;
use crate::running_jobs::{RunningJob, RunningJobs};
use crate::task_guard::TaskGuard;
use crate::wake::Wake;
use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::serde::protobuf::{
    RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport,
};
use ballista_executor::execution_engine::{DefaultExecutionEngine, ExecutionEngine, QueryStageExecutor};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::sink::DataSinkExec;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::prelude::SessionConfig;
use datafusion_elasticsearch::EsScanExec;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Returns Ballista's engine, with scans that stop and tasks that `guard` has checked. It keeps an idle connection
/// to another executor for `client_ttl`; none if that is zero.
pub fn execution_engine(client_ttl: Duration, guard: TaskGuard) -> Arc<StoppingEngine> {
    let engine = match client_ttl {
        Duration::ZERO => DefaultExecutionEngine::new(),
        _ => DefaultExecutionEngine::with_client_pool(Arc::new(ClientPool::new(client_ttl))),
    };
    Arc::new(StoppingEngine { engine, guard, jobs: Arc::default(), wake: OnceLock::new() })
}

/// The engine that [`execution_engine`] returns.
pub struct StoppingEngine {
    engine: DefaultExecutionEngine,
    guard: TaskGuard,
    jobs: Arc<RunningJobs>,
    wake: OnceLock<Wake>,
}

impl StoppingEngine {
    /// Stops the tasks of jobs that have ended. It polls the scheduler at `scheduler_url` until the process ends.
    pub fn watch_jobs(&self, scheduler_url: String, config: SessionConfig) {
        let jobs = Arc::clone(&self.jobs);
        tokio::spawn(async move { jobs.watch(&scheduler_url, &config).await });
    }

    /// Makes the executor poll for work whenever a task ends. Only the first call has an effect.
    pub(crate) fn wake_by(&self, wake: Wake) {
        self.wake.set(wake).ok();
    }
}

impl ExecutionEngine for StoppingEngine {
    fn create_query_stage_exec(
        &self,
        job_id: JobId,
        stage_id: usize,
        task_id: usize,
        global_output_partition_ids: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        work_dir: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        self.guard.check_job(job_id.as_str())?;
        self.guard.check(&plan)?;
        let job = self.jobs.job(job_id.as_str());
        let stop = job.stop();
        let plan = stopped_by(plan, &stop)?;
        let partitions = global_output_partition_ids;
        let stage = self
            .engine
            .create_query_stage_exec(job_id, stage_id, task_id, partitions, plan, work_dir, config)?;
        Ok(Arc::new(Stage { stage, stop, wake: self.wake.get().cloned(), _job: job }))
    }
}

/// Returns `plan` with its own scans and sinks. Tasks that arrive together share one plan, but each must stop
/// alone.
fn stopped_by(plan: Arc<dyn ExecutionPlan>, stop: &CancellationToken) -> Result<Arc<dyn ExecutionPlan>> {
    let own = plan.transform_up(|node| {
        if let Some(scan) = node.downcast_ref::<EsScanExec>() {
            return Ok(Transformed::yes(Arc::new(scan.stopped_by(stop.clone())) as Arc<dyn ExecutionPlan>));
        }
        let Some(exec) = node.downcast_ref::<DataSinkExec>() else { return Ok(Transformed::no(node)) };
        let Some(sink) = exec.sink().downcast_ref::<CopySink>() else { return Ok(Transformed::no(node)) };
        let sink = Arc::new(sink.stopped_by(stop.clone()));
        let own = DataSinkExec::new(Arc::clone(exec.input()), sink, exec.sort_order().clone());
        Ok(Transformed::yes(Arc::new(own) as Arc<dyn ExecutionPlan>))
    });
    Ok(own?.data)
}

#[derive(Debug)]
struct Stage {
    stage: Arc<dyn QueryStageExecutor>,
    stop: CancellationToken,
    wake: Option<Wake>,
    /// The status of the job is polled as long as a task has this value.
    _job: Arc<RunningJob>,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stage.fmt(f)
    }
}

#[async_trait]
impl QueryStageExecutor for Stage {
    async fn execute_query_stage(
        &self,
        task_id: usize,
        context: Arc<TaskContext>,
    ) -> Result<Vec<ShuffleWritePartition>> {
        // Cancels when the task is cancelled, and when one of its partitions fails.
        let _stop = self.stop.clone().drop_guard();
        let ended = self.stage.execute_query_stage(task_id, context).await.map_err(to_be_passed_on);
        if let Some(wake) = &self.wake {
            wake.task_ended();
        }
        ended
    }

    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        self.stage.collect_plan_metrics()
    }

    fn collect_runtime_stats_reports(&self) -> Vec<RuntimeStatsReport> {
        self.stage.collect_runtime_stats_reports()
    }

    fn collect_window_state_reports(&self) -> Result<Vec<WindowStateReport>> {
        self.stage.collect_window_state_reports()
    }

    fn collect_column_stats(&self) -> Vec<TaskColumnStats> {
        self.stage.collect_column_stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_access::FileAccess;
    use ballista_core::execution_plans::{ShuffleWriterExec, UnresolvedShuffleExec};
    use datafusion::arrow::datatypes::Schema;
    use datafusion::physical_plan::Partitioning;
    use datafusion::physical_plan::empty::EmptyExec;
    use datafusion::physical_plan::limit::GlobalLimitExec;
    use datafusion::physical_plan::{collect, displayable};
    use elastic_client::{ConnectionConfig, ConnectionRegistry, Slice, SliceSource};
    use serde_json::json;

    /// Returns a scan of a scroll. It sends no request.
    fn scan() -> Result<Arc<dyn ExecutionPlan>, Box<dyn std::error::Error>> {
        let registry = ConnectionRegistry::default();
        registry.insert("prod", &ConnectionConfig::from_url("http://127.0.0.1:1")?)?;
        let spec = json!({
            "connection": "prod", "index": "flows", "columns": [], "query": { "match_all": {} },
            "page_size": 10, "keep_alive_ms": 60_000, "pushdown": "off",
        });
        let spec = datafusion_elasticsearch::wire::decode_scan(&spec.to_string())?;
        let slice = Slice {
            ordinal: 0,
            of: 1,
            index: "flows".into(),
            source: SliceSource::Scroll,
            cut: None,
            filter: None,
        };
        let scan = EsScanExec::try_new(Arc::new(registry), spec, &[vec![slice]])?;
        Ok(Arc::new(GlobalLimitExec::new(Arc::new(scan), 0, Some(1))))
    }

    #[test]
    fn a_task_is_looked_at_before_it_is_made() {
        let engine = execution_engine(Duration::ZERO, TaskGuard::new(FileAccess::Everything));
        let create = |job: &str, plan: Arc<dyn ExecutionPlan>| {
            let writer = ShuffleWriterExec::try_new("job".into(), 1, plan, "work".into()).unwrap();
            let writer: Arc<dyn ExecutionPlan> = Arc::new(writer);
            let config = SessionConfig::new();
            engine.create_query_stage_exec(job.into(), 1, 1, vec![0], writer, "work", &config).map(|_| ())
        };
        let schema = Arc::new(Schema::empty());
        let known = || Arc::new(EmptyExec::new(Arc::clone(&schema)));
        create("job", known()).unwrap();
        assert!(create("../job", known()).unwrap_err().to_string().contains("is not a job id"));
        let one = Partitioning::UnknownPartitioning(1);
        let unknown = Arc::new(UnresolvedShuffleExec::new(1, Arc::clone(&schema), one));
        assert!(create("job", unknown).unwrap_err().to_string().contains("\"UnresolvedShuffleExec\""));
    }

    #[tokio::test]
    async fn a_task_that_ends_stops_no_other_one_of_its_plan() -> Result<(), Box<dyn std::error::Error>> {
        let plan = scan()?;
        let (ended, running) = (CancellationToken::new(), CancellationToken::new());
        let first = stopped_by(Arc::clone(&plan), &ended)?;
        // Ballista gives one plan to all tasks that share it.
        let second = stopped_by(Arc::clone(&plan).reset_state()?, &running)?;
        assert_eq!(
            displayable(first.as_ref()).indent(false).to_string(),
            displayable(second.as_ref()).indent(false).to_string()
        );
        ended.cancel();
        let stopped = collect(first, Arc::default()).await.expect_err("there is no server").to_string();
        assert!(stopped.contains("the read was cancelled"), "{stopped}");
        let reads_on = tokio::select! {
            biased;
            rows = collect(second, Arc::default()) => panic!("{rows:?}"),
            () = std::future::ready(()) => true,
        };
        assert!(reads_on);
        Ok(())
    }
}
