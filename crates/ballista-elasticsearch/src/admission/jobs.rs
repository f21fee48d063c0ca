//! The owner and the status of each admitted job.
//!
//! Owns: the record of admitted jobs. Must not know: how a job ends.

use super::identity::{Identity, Refusal};
use super::plan::Reach;
use ballista_core::serde::protobuf::JobStatus;
use ballista_core::serde::protobuf::job_status::Status;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// The maximum of jobs in the record. A scheduler keeps the history of jobs for longer than their rows.
const REMEMBERED: usize = 10_000;

/// An admitted job.
#[derive(Debug)]
pub(super) struct Job {
    /// The name of the identity that submitted the job.
    pub(super) owner: String,
    /// Whether a certificate proved that identity, and not a token.
    pub(super) by_certificate: bool,
    /// The address that the job was submitted from.
    pub(super) from: String,
    /// The time of submission, in milliseconds since 1970.
    pub(super) submitted: i64,
    /// The statement, on one line.
    pub(super) statement: String,
    /// What the job reads and writes.
    pub(super) reach: Reach,
    /// The number of slices of the search contexts that the scheduler opened for the job.
    pub(super) contexts: usize,
    /// The last status of the job. The task that watches the job sends it.
    pub(super) status: watch::Sender<Option<JobStatus>>,
}

impl Job {
    /// Records a status. A final status is kept, because an older one may arrive after it.
    pub(super) fn learn(&self, status: JobStatus) {
        self.status.send_if_modified(|known| {
            let runs = !known.as_ref().is_some_and(is_last);
            if runs {
                *known = Some(status);
            }
            runs
        });
    }

    /// Returns when a final status is recorded.
    pub(super) async fn ended(&self) {
        // The sender is a field of this job, so that this cannot fail.
        self.status.subscribe().wait_for(|status| status.as_ref().is_some_and(is_last)).await.ok();
    }

    /// Whether a final status is recorded.
    pub(super) fn has_ended(&self) -> bool {
        self.status.borrow().as_ref().is_some_and(is_last)
    }
}

/// Whether a status is final.
pub(super) fn is_last(status: &JobStatus) -> bool {
    matches!(status.status, Some(Status::Failed(_) | Status::Successful(_)))
}

/// The jobs that this scheduler has admitted.
#[derive(Debug, Default)]
pub(super) struct Jobs(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    jobs: HashMap<String, Arc<Job>>,
    order: VecDeque<String>,
}

impl Jobs {
    pub(super) fn add(&self, id: &str, job: Arc<Job>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.jobs.insert(id.to_owned(), job);
        known.order.push_back(id.to_owned());
        // Drops the oldest job that has ended. A running job is never dropped.
        while known.order.len() > REMEMBERED {
            let ended = |id: &String| known.jobs.get(id).is_none_or(|job| job.has_ended());
            let Some(place) = known.order.iter().position(ended) else { break };
            if let Some(id) = known.order.remove(place) {
                known.jobs.remove(&id);
            }
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).jobs.get(id).map(Arc::clone)
    }

    /// Returns the jobs that have not ended, with their ids.
    pub(super) fn running(&self) -> Vec<(String, Arc<Job>)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = known.jobs.iter().filter(|(_, job)| !job.has_ended());
        running.map(|(id, job)| (id.clone(), Arc::clone(job))).collect()
    }

    /// Returns the job if `identity` may see it. The error is the same for a job that it may not see as for one
    /// that does not exist.
    pub(super) fn visible(&self, id: &str, identity: &Identity) -> Result<Option<Arc<Job>>, Refusal> {
        let job = self.get(id);
        let owner = job.as_ref().map(|job| job.owner.as_str());
        match owner {
            Some(owner) if identity.may_see_jobs_of(owner) => Ok(job),
            // The job is not in the record. Only an identity that may see all jobs learns that.
            None if identity.grants.jobs == flowsigma_node::Jobs::All => Ok(None),
            _ => Err(Refusal::Forbidden(format!("\"{}\" has no job {id}", identity.name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ballista_core::serde::protobuf::{RunningJob, SuccessfulJob};

    #[tokio::test]
    async fn a_last_status_stays() {
        let job = Job {
            owner: "alice".into(),
            by_certificate: true,
            from: "127.0.0.1".into(),
            submitted: 0,
            statement: String::new(),
            reach: Reach::default(),
            contexts: 0,
            status: watch::Sender::new(None),
        };
        let status = |status| JobStatus { status: Some(status), ..JobStatus::default() };
        let mut seen = job.status.subscribe();
        job.learn(status(Status::Running(RunningJob::default())));
        assert!(!job.has_ended());
        let mut ended = Box::pin(job.ended());
        assert!(futures::poll!(ended.as_mut()).is_pending());
        job.learn(status(Status::Successful(SuccessfulJob::default())));
        ended.await;
        assert!(job.has_ended() && seen.has_changed().unwrap());
        seen.mark_unchanged();
        job.learn(status(Status::Running(RunningJob::default())));
        assert!(job.has_ended() && !seen.has_changed().unwrap());
    }
}
