//! The rows of an executor that ends.
//!
//! Owns: how long they may still be read. Must not know: who serves them, or what they are.
//!
//! The last task of an executor is not the end of its job: later stages read its rows, and so does the client, once it
//! hears that the job was successful.

use crate::scheduler::{Scheduler, connect};
use ballista_core::serde::protobuf::GetJobStatusParams;
use ballista_core::serde::protobuf::job_status::Status;
use datafusion::prelude::SessionConfig;
use std::path::PathBuf;
use std::time::Duration;

/// Between two requests for the status of a job that runs.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// A client that hears of its job's end has begun to fetch the rows by then.
const FETCHED_WITHIN: Duration = Duration::from_secs(3);

/// The rows in an executor's folder.
pub struct LastRows {
    scheduler_url: String,
    config: SessionConfig,
    work_dir: PathBuf,
}

/// Who may still read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Readers {
    /// Nobody: the scheduler knows of no such job, or it has failed.
    None,
    /// The client of a job that was successful.
    Client,
    /// Stages of a job that runs.
    Stages,
}

impl LastRows {
    /// Those below `work_dir`, of jobs of the scheduler at this URL.
    pub fn new(scheduler_url: String, config: SessionConfig, work_dir: PathBuf) -> Self {
        Self { scheduler_url, config, work_dir }
    }

    /// Waits until no job runs that has rows here, and then 3 s for clients if there was one. Returns at once if there are
    /// no rows, or if the scheduler does not answer: its jobs are lost.
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
        // A job's rows are in a folder that is called by its id.
        let Ok(mut folders) = tokio::fs::read_dir(&self.work_dir).await else { return readers };
        while let Ok(Some(folder)) = folders.next_entry().await {
            let job_id = folder.file_name().to_string_lossy().into_owned();
            let Ok(response) = scheduler.get_job_status(GetJobStatusParams { job_id }).await else {
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
