//! A guard that fails jobs that would otherwise never end.
//!
//! Owns: a guard for each submitted job, and cancelling the tasks of a failed one. Must not know: when rows are
//! lost.

use crate::guarded_graph::GuardedGraph;
use crate::message::no_executor;
use ballista_core::JobId;
use ballista_core::serde::protobuf::job_status;
use ballista_scheduler::config::{OnWorkAvailableFn, WorkAvailableReason};
use ballista_scheduler::scheduler_server::SchedulerServer;
use ballista_scheduler::state::execution_graph::ExecutionGraphBox;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::RwLock;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

type Server = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;
type Graph = Arc<RwLock<ExecutionGraphBox>>;

/// Guards the jobs of one scheduler. The scheduler is created after the guard, because its configuration contains
/// the guard's hook.
#[derive(Clone)]
pub struct JobGuard {
    scheduler: Arc<OnceLock<Server>>,
    failed: UnboundedSender<JobId>,
}

impl JobGuard {
    /// Creates a guard without a scheduler. Must be called in a Tokio runtime.
    #[expect(clippy::new_without_default, reason = "it begins a task, which a default value should not")]
    pub fn new() -> Self {
        let (failed, jobs) = unbounded_channel();
        let guard = Self { scheduler: Arc::default(), failed };
        tokio::spawn(end_jobs(jobs, Arc::clone(&guard.scheduler)));
        guard
    }

    /// Returns the hook `on_work_available` for the scheduler's configuration. The guard learns of submitted jobs
    /// by it; the hook then calls `next`.
    pub fn before(&self, next: OnWorkAvailableFn) -> OnWorkAvailableFn {
        let guard = self.clone();
        Arc::new(move |reason| {
            match &reason {
                WorkAvailableReason::JobSubmitted { job_id } => guard.submitted(job_id),
                WorkAvailableReason::NewStagesRunnable { .. } => {}
            }
            next(reason);
        })
    }

    /// Guards the jobs of this scheduler from now on.
    pub fn watch(&self, scheduler: &Server) {
        // Each guard has one scheduler.
        self.scheduler.set(scheduler.clone()).ok();
    }

    /// Runs in the scheduler's hook, so it must not block.
    fn submitted(&self, job_id: &JobId) {
        let Some(scheduler) = self.scheduler.get() else { return };
        let running = scheduler.state.task_manager.get_running_job_cache();
        let Some(job) = running.get(job_id) else { return };
        let graph = Arc::clone(&job.execution_graph);
        let failed = self.failed.clone();
        match graph.try_write() {
            Ok(mut graph) => guard(&mut graph, failed),
            // An executor polls for tasks at this moment. Ballista's own graph is correct for these first tasks.
            Err(_) => {
                let graph = Arc::clone(&graph);
                tokio::spawn(async move { guard(&mut *graph.write().await, failed) });
            }
        }
        tokio::spawn(wait_for_executor(scheduler.clone(), graph, self.failed.clone()));
    }
}

fn guard(graph: &mut ExecutionGraphBox, failed: UnboundedSender<JobId>) {
    *graph = Box::new(GuardedGraph::new(graph.cloned(), failed));
}

/// Fails a job that no executor has started within the grace period. Ballista counts this period only from the
/// loss of the last executor, so not if there was none.
async fn wait_for_executor(scheduler: Server, graph: Graph, failed: UnboundedSender<JobId>) {
    if is_any_executor_there(&scheduler).await {
        return;
    }
    let grace = Duration::from_secs(scheduler.state.config.no_executors_grace_period_seconds);
    let job_id = graph.read().await.job_id().clone();
    tracing::warn!(%job_id, ?grace, "no executor is registered: the job waits for one");
    tokio::time::sleep(grace).await;
    if is_any_executor_there(&scheduler).await {
        return;
    }
    let mut graph = graph.write().await;
    let runs = matches!(graph.status().status, Some(job_status::Status::Running(_)));
    let begun = graph.stages().values().any(|s| s.task_infos().is_some_and(|tasks| !tasks.is_empty()));
    if runs && !begun {
        graph.fail_job(no_executor(grace));
        failed.send(job_id).ok();
    }
}

async fn is_any_executor_there(scheduler: &Server) -> bool {
    // The state is in memory, so this cannot fail.
    scheduler.state.executor_manager.get_executors_state().await.is_ok_and(|all| !all.is_empty())
}

/// Cancels the tasks of failed jobs, so that their rows can be deleted.
async fn end_jobs(mut jobs: UnboundedReceiver<JobId>, scheduler: Arc<OnceLock<Server>>) {
    while let Some(job_id) = jobs.recv().await {
        let Some(scheduler) = scheduler.get() else { continue };
        if let Err(error) = scheduler.cancel_job(job_id.clone()).await {
            tracing::warn!(%job_id, %error, "the tasks of a failed job could not be cancelled");
        }
    }
}
