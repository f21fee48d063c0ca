//! Whose a job is, and whether it has ended.
//!
//! Owns: the record of admitted jobs. Must not know: how a job ends.

use super::identity::{Identity, Refusal};
use super::plan::Reach;
use ballista_core::serde::protobuf::JobStatus;
use ballista_core::serde::protobuf::job_status::Status;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Jobs that are remembered after their end. A scheduler keeps their history for longer than their rows.
const REMEMBERED: usize = 10_000;

/// A job, as it was admitted.
#[derive(Debug)]
pub(super) struct Job {
    /// The name of who submitted it.
    pub(super) owner: String,
    /// Whether a certificate said who that is, rather than a token.
    pub(super) by_certificate: bool,
    /// Where it was submitted from.
    pub(super) from: String,
    /// When, in milliseconds since 1970.
    pub(super) submitted: i64,
    /// What was submitted, on one line.
    pub(super) statement: String,
    /// What it reads and writes.
    pub(super) reach: Reach,
    /// Search contexts that the scheduler opened for it.
    pub(super) contexts: usize,
    /// Its last status; sent by whoever watches it.
    pub(super) status: watch::Sender<Option<JobStatus>>,
}

/// Whether a status is a job's last one.
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
        // The oldest that has ended: one that runs is never forgotten.
        while known.order.len() > REMEMBERED {
            let ended = |id: &String| {
                known.jobs.get(id).is_none_or(|job| job.status.borrow().as_ref().is_some_and(is_last))
            };
            let Some(place) = known.order.iter().position(ended) else { break };
            if let Some(id) = known.order.remove(place) {
                known.jobs.remove(&id);
            }
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).jobs.get(id).map(Arc::clone)
    }

    /// Those that have not ended, with their ids.
    pub(super) fn running(&self) -> Vec<(String, Arc<Job>)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = |job: &Job| !job.status.borrow().as_ref().is_some_and(is_last);
        let running = known.jobs.iter().filter(|(_, job)| runs(job));
        running.map(|(id, job)| (id.clone(), Arc::clone(job))).collect()
    }

    /// The job, if `identity` may see it. One that it may not see is answered as one that does not exist.
    pub(super) fn visible(&self, id: &str, identity: &Identity) -> Result<Option<Arc<Job>>, Refusal> {
        let job = self.get(id);
        let owner = job.as_ref().map(|job| job.owner.as_str());
        match owner {
            Some(owner) if identity.may_see_jobs_of(owner) => Ok(job),
            // Not of this scheduler's life: only who may see all jobs is told so.
            None if identity.grants.jobs == flowsigma_node::Jobs::All => Ok(None),
            _ => Err(Refusal::Forbidden(format!("\"{}\" has no job {id}", identity.name))),
        }
    }
}
