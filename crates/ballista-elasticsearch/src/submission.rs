//! The rows of a statement, and the jobs that compute them: one, or up to three if an executor was lost with rows.
//!
//! Owns: which job is the current one, and whether there is another attempt. Must not know: how a job is
//! cancelled, or what its rows mean.

use crate::cluster::Cluster;
use crate::message::{lost_its_rows, lost_rows, one_line};
use crate::scheduler::status_now;
use ballista_core::execution_plans::DistributedQueryExec;
use ballista_core::serde::protobuf::job_status::Status;
use datafusion::common::tree_node::TreeNode;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion_proto::protobuf::LogicalPlanNode;
use futures::StreamExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// The poll interval for the id of a job.
pub(crate) const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How often a statement may still be submitted again. The loss of an executor may also affect the next job,
/// because the scheduler does not notice it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    Twice,
    Once,
    Never,
}

impl Again {
    /// Returns the attempts of a plan. A plan that writes is never submitted again automatically.
    pub(crate) fn of(plan: &LogicalPlan) -> Result<Self> {
        let writes = plan.exists(|node| Ok(matches!(node, LogicalPlan::Copy(_) | LogicalPlan::Dml(_))))?;
        Ok(if writes { Self::Never } else { Self::Twice })
    }
}

/// A plan that is submitted when its rows are requested.
pub(crate) struct Submission {
    cluster: Cluster,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    state: Mutex<State>,
}

struct State {
    again: Again,
    /// The id of the last failed job.
    failed: Option<String>,
}

impl Submission {
    pub(crate) fn new(
        cluster: Cluster,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
        again: Again,
    ) -> Self {
        Self { cluster, plan, context, state: Mutex::new(State { again, failed: None }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the id of the current job; `None` if it was not accepted yet, or the statement runs in this
    /// process.
    pub(crate) fn id(&self) -> Option<String> {
        let id = find_distributed(&self.plan)?.job_id()?.to_string();
        (self.state().failed.as_ref() != Some(&id)).then_some(id)
    }

    /// Whether there is a job. Statements such as `SHOW TABLES` have none.
    pub(crate) fn is_distributed(&self) -> bool {
        find_distributed(&self.plan).is_some()
    }

    /// Prevents further attempts. One that is already on its way continues.
    pub(crate) fn give_up(&self) {
        self.state().again = Again::Never;
    }

    /// Marks the current job as failed, and returns whether to submit another.
    fn begin_again(&self) -> bool {
        let failed = self.id();
        let mut state = self.state();
        let again = match state.again {
            Again::Twice => Again::Once,
            Again::Once => Again::Never,
            Again::Never => return false,
        };
        if failed.is_none() {
            return false;
        }
        *state = State { again, failed };
        true
    }

    /// Returns the rows, which a task of its own fetches. Dropping a submission half-way would leave a job with an
    /// unknown id.
    pub(crate) fn rows(self: Arc<Self>) -> Result<(JoinHandle<()>, SendableRecordBatchStream)> {
        let rows = self.execute()?;
        Ok(self.run(rows))
    }

    fn execute(&self) -> Result<SendableRecordBatchStream> {
        execute_stream(Arc::clone(&self.plan), Arc::clone(&self.context))
    }

    fn run(self: Arc<Self>, rows: SendableRecordBatchStream) -> (JoinHandle<()>, SendableRecordBatchStream) {
        let schema = rows.schema();
        let (sender, mut receiver) = mpsc::channel(1);
        let (whole, is_whole) = oneshot::channel();
        let task = tokio::spawn(async move {
            let unread = async {
                sender.closed().await;
                while self.is_distributed() && self.id().is_none() {
                    tokio::time::sleep(ASKED_AGAIN_AFTER).await;
                }
            };
            let read = async {
                if self.hand_on(rows, &sender).await {
                    whole.send(()).ok();
                }
            };
            tokio::select! { () = unread => {}, () = read => {} }
        });
        let rows = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        // The channel ends the same way if the task panics as if it has sent all rows.
        let end = futures::stream::once(is_whole).filter_map(|whole| {
            std::future::ready(whole.err().map(|_| {
                Err(DataFusionError::Execution("the task that fetches the job's rows ended too early".into()))
            }))
        });
        (task, Box::pin(RecordBatchStreamAdapter::new(schema, rows.chain(end))))
    }

    /// Returns whether all rows were sent.
    async fn hand_on(
        &self,
        mut rows: SendableRecordBatchStream,
        to: &mpsc::Sender<Result<datafusion::arrow::record_batch::RecordBatch>>,
    ) -> bool {
        let mut handed_on = false;
        while let Some(batch) = rows.next().await {
            let batch = match batch {
                Ok(batch) => Ok(batch),
                Err(error) => match lost_its_rows(&error) {
                    Some(why) if !handed_on && self.begin_again() => {
                        tracing::warn!("the job is submitted again: {why}");
                        match self.execute() {
                            Ok(again) => {
                                rows = again;
                                continue;
                            }
                            Err(error) => Err(error),
                        }
                    }
                    Some(_) => Err(error),
                    None => Err(self.of_result(error).await),
                },
            };
            handed_on = true;
            if to.send(batch).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Returns the error for a successful job whose result cannot be fetched from executors. It is not submitted
    /// again automatically, because that would fail again if this process cannot reach the executors.
    async fn of_result(&self, error: DataFusionError) -> DataFusionError {
        let Some(job_id) = self.id() else { return error };
        let status = async {
            let mut scheduler = self.cluster.scheduler().await.ok()?;
            let response = scheduler.get_job_status(status_now(job_id)).await.ok()?;
            response.into_inner().status?.status
        };
        match status.await {
            Some(Status::Successful(_)) => DataFusionError::Execution(lost_rows(&format!(
                "rows of the result cannot be fetched: {}",
                one_line(&error)
            ))),
            Some(Status::Queued(_) | Status::Running(_) | Status::Failed(_)) | None => error,
        }
    }
}

/// Returns the plan node that submits the job, which may be below `EXPLAIN ANALYZE`.
fn find_distributed(plan: &Arc<dyn ExecutionPlan>) -> Option<&DistributedQueryExec<LogicalPlanNode>> {
    plan.downcast_ref::<DistributedQueryExec<LogicalPlanNode>>()
        .or_else(|| plan.children().into_iter().find_map(find_distributed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::Schema;
    use datafusion::arrow::record_batch::RecordBatch;
    use datafusion::physical_plan::empty::EmptyExec;
    use datafusion::prelude::SessionContext;
    use flowsigma_node::Protection;
    use futures::TryStreamExt;

    #[tokio::test]
    async fn rows_that_end_in_a_panic_are_an_error() -> Result<()> {
        let cluster =
            Cluster::over(SessionContext::new().state(), "http://127.0.0.1:1".into(), Protection::None)?;
        let schema = Arc::new(Schema::empty());
        let plan: Arc<dyn ExecutionPlan> = Arc::new(EmptyExec::new(Arc::clone(&schema)));
        let one = RecordBatch::new_empty(Arc::clone(&schema));
        for panics in [false, true] {
            let one = one.clone();
            let mut sent = false;
            let rows = futures::stream::poll_fn(move |_| {
                assert!(!(sent && panics), "as a bug would");
                let batch = (!sent).then(|| Ok(one.clone()));
                sent = true;
                std::task::Poll::Ready(batch)
            });
            let rows = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows));
            let (plan, context) = (Arc::clone(&plan), Arc::default());
            let submission = Submission::new(cluster.clone(), plan, context, Again::Once);
            let (_task, rows) = Arc::new(submission).run(rows);
            let all = rows.try_collect::<Vec<_>>().await;
            assert_eq!(all.map(|batches| batches.len()).ok(), (!panics).then_some(1));
        }
        Ok(())
    }
}
