//! The jobs that have tasks in this process, until the scheduler says that they have ended.
//!
//! Owns: asking it. Must not know: what a task does, and how it stops.
//!
//! Ballista's scheduler tells the end of a job to executors that it pushes tasks to, to no other.
//! There a task of a cancelled job would run to its own end.

use crate::scheduler::{Scheduler, connect};
use ballista_core::serde::protobuf::GetJobStatusParams;
use ballista_core::serde::protobuf::job_status::Status;
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionConfig;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// A request of a few bytes for each job that runs.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// Forgets a job with its last task.
#[derive(Default)]
pub(crate) struct RunningJobs(Mutex<HashMap<String, Weak<RunningJob>>>);

/// Held by each task of the job.
#[derive(Debug, Default)]
pub(crate) struct RunningJob {
    ended: CancellationToken,
}

impl RunningJob {
    /// For one task: cancelled with the job, and by itself without it.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.ended.child_token()
    }
}

impl RunningJobs {
    pub(crate) fn job(&self, id: &str) -> Arc<RunningJob> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = jobs.get(id).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let job = Arc::default();
            jobs.insert(id.into(), Arc::downgrade(&job));
            job
        })
    }

    fn running(&self) -> Vec<(String, Arc<RunningJob>)> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.retain(|_, job| job.strong_count() > 0);
        jobs.iter().filter_map(|(id, job)| Some((id.clone(), job.upgrade()?))).collect()
    }

    /// Stops the tasks of jobs that have ended, within a second or as soon as the scheduler can be
    /// reached. Returns only with the process.
    pub(crate) async fn watch(&self, scheduler_url: &str, config: &SessionConfig) {
        let mut every = tokio::time::interval(ASKED_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut scheduler = None;
        loop {
            every.tick().await;
            if let Err(error) = self.ask(&mut scheduler, scheduler_url, config).await {
                tracing::debug!(%error, "cannot ask which jobs have ended");
                scheduler = None;
            }
        }
    }

    async fn ask(&self, known: &mut Option<Scheduler>, url: &str, config: &SessionConfig) -> Result<()> {
        for (job_id, job) in self.running() {
            let scheduler = match known {
                Some(scheduler) => scheduler,
                None => known.insert(connect(url, config).await?),
            };
            let response = scheduler.get_job_status(GetJobStatusParams { job_id: job_id.clone() }).await;
            let status = response.map_err(|e| DataFusionError::External(Box::new(e)))?.into_inner().status;
            match status.and_then(|status| status.status) {
                Some(Status::Queued(_) | Status::Running(_)) => {}
                // None: it was started anew, and has forgotten its jobs.
                Some(Status::Failed(_) | Status::Successful(_)) | None => {
                    tracing::debug!(job_id, "the job has ended: its tasks stop");
                    job.ended.cancel();
                }
            }
        }
        Ok(())
    }
}
