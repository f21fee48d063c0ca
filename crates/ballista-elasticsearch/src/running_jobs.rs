//! The jobs that have tasks in this process, until the scheduler reports their end.
//!
//! Owns: polling the scheduler. Must not know: what a task does, and how it stops.
//!
//! Ballista's scheduler reports the end of a job only to executors that it pushes tasks to. On other executors, a
//! task of a cancelled job would run to its own end.

use crate::scheduler::{Scheduler, connect, status_now};
use ballista_core::serde::protobuf::job_status::Status;
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionConfig;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// The poll interval. A request has a few bytes for each running job.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// The running jobs. A job is dropped with its last task.
#[derive(Default)]
pub(crate) struct RunningJobs(Mutex<HashMap<String, Weak<RunningJob>>>);

/// A job with tasks in this process. Each of its tasks has a reference.
#[derive(Debug, Default)]
pub(crate) struct RunningJob {
    ended: CancellationToken,
}

impl RunningJob {
    /// Returns a token for one task. It is cancelled with the job, and can be cancelled alone.
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

    /// Stops the tasks of jobs that have ended, within a second, or as soon as the scheduler can be reached. Never
    /// returns.
    pub(crate) async fn watch(&self, scheduler_url: &str, config: &SessionConfig) {
        let mut every = tokio::time::interval(ASKED_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut scheduler = None;
        loop {
            every.tick().await;
            if let Err(error) = self.ask(&mut scheduler, scheduler_url, config).await {
                tracing::debug!(%error, "cannot fetch the status of running jobs");
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
            let response = scheduler.get_job_status(status_now(job_id.clone())).await;
            let status = response.map_err(|e| DataFusionError::External(Box::new(e)))?.into_inner().status;
            match status.and_then(|status| status.status) {
                Some(Status::Queued(_) | Status::Running(_)) => {}
                // `None`: the scheduler was restarted, and no longer knows its jobs.
                Some(Status::Failed(_) | Status::Successful(_)) | None => {
                    tracing::debug!(job_id, "the job has ended: its tasks stop");
                    job.ended.cancel();
                }
            }
        }
        Ok(())
    }
}
