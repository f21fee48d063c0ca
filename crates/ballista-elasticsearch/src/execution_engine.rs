//! Tasks that read nothing more once they are cancelled.
//!
//! Owns: telling the scans of a task that it was. Must not know: how a scan stops.
//!
//! Ballista drops the future of a cancelled task, but the streams below it run in a task of their
//! own, to their end: an index would be read on for nobody, and its scrolls stay open until then.

use crate::client_pool::ClientPool;
use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::serde::protobuf::{
    RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport,
};
use ballista_executor::execution_engine::{DefaultExecutionEngine, ExecutionEngine, QueryStageExecutor};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::prelude::SessionConfig;
use datafusion_elasticsearch::EsScanExec;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Ballista's own engine, with scans that stop. It keeps an idle connection to another executor for
/// `client_ttl`, or none for zero.
pub fn execution_engine(client_ttl: Duration) -> Arc<dyn ExecutionEngine> {
    Arc::new(Engine(match client_ttl {
        Duration::ZERO => DefaultExecutionEngine::new(),
        _ => DefaultExecutionEngine::with_client_pool(Arc::new(ClientPool::new(client_ttl))),
    }))
}

struct Engine(DefaultExecutionEngine);

impl ExecutionEngine for Engine {
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
        let mut scans = Vec::new();
        plan.apply(|node| {
            scans.extend(node.downcast_ref::<EsScanExec>().map(|scan| scan.stop().clone()));
            Ok(TreeNodeRecursion::Continue)
        })?;
        let partitions = global_output_partition_ids;
        let stage =
            self.0.create_query_stage_exec(job_id, stage_id, task_id, partitions, plan, work_dir, config)?;
        Ok(Arc::new(Stage { stage, scans }))
    }
}

#[derive(Debug)]
struct Stage {
    stage: Arc<dyn QueryStageExecutor>,
    scans: Vec<CancellationToken>,
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
        // Dropped when the task is cancelled, and when one of its partitions has failed.
        let _stop: Vec<DropGuard> = self.scans.iter().map(|scan| scan.clone().drop_guard()).collect();
        self.stage.execute_query_stage(task_id, context).await
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
