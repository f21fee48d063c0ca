//! The rows of an executor that shuts down.
//!
//! Owns: how long the executor still serves them. Must not know: who serves them, or their content.
//!
//! A job continues after the last task of an executor. Later stages read its rows. So does the client, after it
//! learns that the job was successful.

use crate::scheduler::{Scheduler, connect, status_now};
use ballista_core::serde::protobuf::job_status::Status;
use datafusion::prelude::SessionConfig;
use std::path::PathBuf;
use std::time::Duration;

/// The pause between two requests for the status of a running job.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The time in which a client starts to fetch the rows after its job has ended.
const FETCHED_WITHIN: Duration = Duration::from_secs(3);

/// The rows in the work folder of an executor that shuts down.
pub struct LastRows {
    scheduler_url: String,
    config: SessionConfig,
    work_dir: PathBuf,
}

/// The readers that may still fetch the rows, in ascending order of the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Readers {
    /// No reader: the scheduler does not know the job, or the job has failed.
    None,
    /// The client of a successful job.
    Client,
    /// Stages of a running job.
    Stages,
}

impl LastRows {
    /// Creates a value for the rows below `work_dir`, of jobs of the scheduler at `scheduler_url`.
    pub fn new(scheduler_url: String, config: SessionConfig, work_dir: PathBuf) -> Self {
        Self { scheduler_url, config, work_dir }
    }

    /// Waits until no job with rows here runs, and then 3 s for its client. Returns at once if there are no rows,
    /// or if the scheduler does not respond, because then its jobs are lost.
    pub async fn until_read(&self) {
        let Ok(mut scheduler) = connect(&self.scheduler_url, &self.config).await else { return };
        let mut readers = self.readers(&mut scheduler).await;
        let any = readers != Readers::None;
        while readers == Readers::Stages {
            tokio::time::sleep(POLL_INTERVAL).await;
            readers = self.readers(&mut scheduler).await;
        }
        if any {
            tokio::time::sleep(FETCHED_WITHIN).await;
        }
    }

    async fn readers(&self, scheduler: &mut Scheduler) -> Readers {
        let mut readers = Readers::None;
        // A folder with rows is named by the id of its job.
        let Ok(mut folders) = tokio::fs::read_dir(&self.work_dir).await else { return readers };
        while let Ok(Some(folder)) = folders.next_entry().await {
            let job_id = folder.file_name().to_string_lossy().into_owned();
            let Ok(response) = scheduler.get_job_status(status_now(job_id)).await else {
                continue;
            };
            readers = readers.max(match response.into_inner().status.and_then(|status| status.status) {
                Some(Status::Queued(_) | Status::Running(_)) => Readers::Stages,
                Some(Status::Successful(_)) => Readers::Client,
                Some(Status::Failed(_)) | None => Readers::None,
            });
            if readers == Readers::Stages {
                break;
            }
        }
        readers
    }
}
