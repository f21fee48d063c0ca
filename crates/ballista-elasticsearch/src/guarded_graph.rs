//! The execution graph of a job, which fails where Ballista could not finish the job.
//!
//! Owns: detecting that a lost executor had rows that a later stage needs. Must not know: how the tasks of a
//! failed job are cancelled.
//!
//! Ballista reruns a stage whose rows were lost. Its adaptive graph then waits for a stage that the planner has
//! dropped. Its static graph reads the earlier output of the stages above together with the new output, and
//! returns rows twice. See docs/decisions/0001-lost-executors.md.

use crate::message::lost_rows;
use ballista_core::JobId;
use ballista_core::error::Result;
use ballista_core::serde::protobuf::{JobStatus, TaskStatus, job_status, task_status};
use ballista_core::serde::scheduler::{ExecutorMetadata, PartitionLocation};
use ballista_scheduler::scheduler_server::event::QueryStageSchedulerEvent;
use ballista_scheduler::state::execution_graph::{ExecutionGraph, ExecutionGraphBox, RunningTaskInfo};
use ballista_scheduler::state::execution_stage::{ExecutionStage, RunningStage, StageOutput};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

/// Ballista's graph of a job, with a channel for jobs whose tasks must be cancelled.
#[derive(Debug)]
pub(crate) struct GuardedGraph {
    inner: ExecutionGraphBox,
    failed: UnboundedSender<JobId>,
}

impl GuardedGraph {
    /// Wraps a graph. It sends the id of a failed job with running tasks to `failed`.
    pub(crate) fn new(inner: ExecutionGraphBox, failed: UnboundedSender<JobId>) -> Self {
        Self { inner, failed }
    }

    fn has_failed(&self) -> bool {
        matches!(self.inner.status().status, Some(job_status::Status::Failed(_)))
    }
}

/// Returns a description of the needed rows that were on an executor; `None` if it had no needed rows.
fn needed_rows(graph: &dyn ExecutionGraph, executor: &str) -> Option<String> {
    let stages = graph.stages();
    for (id, stage) in stages {
        let ExecutionStage::Successful(ended) = stage else { continue };
        let ran_there = |state: &task_status::Status| matches!(state, task_status::Status::Successful(task) if task.executor_id == executor);
        if !ended.task_infos.iter().any(|task| ran_there(&task.task_status)) {
            continue;
        }
        let mut readers = stages.iter().filter(|(_, reader)| inputs(reader).contains_key(id)).peekable();
        if readers.peek().is_none() {
            return Some(format!("rows of stage {id}, which later stages read"));
        }
        if let Some((reader, _)) = readers.find(|(_, s)| !matches!(s, ExecutionStage::Successful(_))) {
            return Some(format!("rows of stage {id}, which stage {reader} reads"));
        }
    }
    let result = graph.output_locations().iter().any(|rows| rows.executor_meta.id == executor);
    result.then(|| "rows of the result".into())
}

/// Returns the name of an executor for messages: its id, and its address if a location of rows has it.
fn name(graph: &dyn ExecutionGraph, id: &str) -> String {
    let read = graph.stages().values().flat_map(|stage| inputs(stage).values());
    let read = read.flat_map(|rows| rows.partition_locations.values().flatten());
    let mut known = read.map(|rows| &rows.executor_meta).filter(|executor| executor.id == id);
    known.next().map_or_else(|| id.into(), |executor| format!("{}:{} ({id})", executor.host, executor.port))
}

fn inputs(stage: &ExecutionStage) -> &HashMap<usize, StageOutput> {
    static NONE: std::sync::LazyLock<HashMap<usize, StageOutput>> = std::sync::LazyLock::new(HashMap::new);
    match stage {
        ExecutionStage::UnResolved(stage) => &stage.inputs,
        ExecutionStage::Resolved(stage) => &stage.inputs,
        ExecutionStage::Running(stage) => &stage.inputs,
        ExecutionStage::Successful(stage) => &stage.inputs,
        // A failed stage no longer has inputs.
        ExecutionStage::Failed(_) => &NONE,
    }
}

impl ExecutionGraph for GuardedGraph {
    /// Reruns the tasks of the executor only if all rows that they need are on other executors.
    fn reset_stages_on_lost_executor(
        &mut self,
        executor_id: &str,
    ) -> Result<(HashSet<usize>, Vec<RunningTaskInfo>)> {
        if self.has_failed() {
            return Ok(Default::default());
        }
        let Some(rows) = needed_rows(self.inner.as_ref(), executor_id) else {
            return self.inner.reset_stages_on_lost_executor(executor_id);
        };
        let executor = name(self.inner.as_ref(), executor_id);
        let error = lost_rows(&format!("executor {executor} was lost, and with it {rows}"));
        tracing::warn!(job_id = %self.inner.job_id(), "{error}");
        self.inner.fail_job(error);
        // The receiver lives as long as the scheduler.
        self.failed.send(self.inner.job_id().clone()).ok();
        Ok(Default::default())
    }

    /// Tasks of a failed job may still end. Their status must not change the status of the job.
    fn update_task_status(
        &mut self,
        executor: &ExecutorMetadata,
        task_statuses: Vec<TaskStatus>,
        max_task_failures: usize,
        max_stage_failures: usize,
    ) -> Result<Vec<QueryStageSchedulerEvent>> {
        let failed = self.has_failed().then(|| self.inner.status().clone());
        let events =
            self.inner.update_task_status(executor, task_statuses, max_task_failures, max_stage_failures);
        match failed {
            None => events,
            Some(status) => {
                self.inner.update_status(status);
                events.map(|_| Vec::new())
            }
        }
    }

    /// Keeps the first error: the later error of the cancellation says less.
    fn fail_job(&mut self, error: String) {
        if !self.has_failed() {
            self.inner.fail_job(error);
        }
    }

    fn cloned(&self) -> ExecutionGraphBox {
        Box::new(Self { inner: self.inner.cloned(), failed: self.failed.clone() })
    }

    fn job_id(&self) -> &JobId {
        self.inner.job_id()
    }

    fn job_name(&self) -> &str {
        self.inner.job_name()
    }

    fn session_id(&self) -> &str {
        self.inner.session_id()
    }

    fn scheduler_id(&self) -> Option<&str> {
        self.inner.scheduler_id()
    }

    fn session_config(&self) -> Arc<SessionConfig> {
        self.inner.session_config()
    }

    fn status(&self) -> &JobStatus {
        self.inner.status()
    }

    fn logical_plan(&self) -> Option<&str> {
        self.inner.logical_plan()
    }

    fn physical_plan(&self) -> Arc<dyn ExecutionPlan> {
        self.inner.physical_plan()
    }

    fn start_time(&self) -> u64 {
        self.inner.start_time()
    }

    fn end_time(&self) -> u64 {
        self.inner.end_time()
    }

    fn completed_stages(&self) -> usize {
        self.inner.completed_stages()
    }

    fn is_successful(&self) -> bool {
        self.inner.is_successful()
    }

    fn revive(&mut self) -> bool {
        self.inner.revive()
    }

    fn running_stages(&self) -> Vec<usize> {
        self.inner.running_stages()
    }

    fn running_tasks(&self) -> Vec<RunningTaskInfo> {
        self.inner.running_tasks()
    }

    fn available_tasks(&self) -> usize {
        self.inner.available_tasks()
    }

    fn fetch_running_stage(&mut self, black_list: &[usize]) -> Option<&mut RunningStage> {
        self.inner.fetch_running_stage(black_list)
    }

    fn update_status(&mut self, status: JobStatus) {
        self.inner.update_status(status);
    }

    fn output_locations(&self) -> Vec<PartitionLocation> {
        self.inner.output_locations()
    }

    fn resolve_stage(&mut self, stage_id: usize) -> Result<bool> {
        self.inner.resolve_stage(stage_id)
    }

    fn succeed_stage(&mut self, stage_id: usize) -> bool {
        self.inner.succeed_stage(stage_id)
    }

    fn fail_stage(&mut self, stage_id: usize, err_msg: String) -> bool {
        self.inner.fail_stage(stage_id, err_msg)
    }

    fn rollback_running_stage(
        &mut self,
        stage_id: usize,
        failure_reasons: HashSet<String>,
    ) -> Result<Vec<RunningTaskInfo>> {
        self.inner.rollback_running_stage(stage_id, failure_reasons)
    }

    fn rollback_resolved_stage(&mut self, stage_id: usize) -> Result<bool> {
        self.inner.rollback_resolved_stage(stage_id)
    }

    fn rerun_successful_stage(&mut self, stage_id: usize) -> bool {
        self.inner.rerun_successful_stage(stage_id)
    }

    fn succeed_job(&mut self) -> Result<()> {
        self.inner.succeed_job()
    }

    fn stages(&self) -> &HashMap<usize, ExecutionStage> {
        self.inner.stages()
    }

    fn intermediate_stage_ids(&self) -> Vec<u32> {
        self.inner.intermediate_stage_ids()
    }

    fn task_vcores(&self, stage_id: usize, task_id: usize) -> Option<u32> {
        self.inner.task_vcores(stage_id, task_id)
    }

    fn stage_count(&self) -> usize {
        self.inner.stage_count()
    }
}
