//! The audit log: one JSON object for each job.
//!
//! Owns: the form of a line, and its destination. Must not know: who may do what. A line contains no secret: it
//! names connections, and shows a statement as the scheduler does.

use super::jobs::Job;
use ballista_core::serde::protobuf::JobStatus;
use ballista_core::serde::protobuf::job_status::Status;
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The maximum length of a statement in the log, in bytes.
const STATEMENT_BYTES: usize = 4096;

/// The destination of audit lines.
#[derive(Debug)]
pub struct AuditLog(Target);

#[derive(Debug)]
enum Target {
    /// No destination, for a cluster embedded in this process.
    None,
    /// The log of the process, with the target `audit`.
    Log,
    /// A file, or stdout.
    File(Mutex<File>),
}

impl AuditLog {
    /// Creates an audit log that writes nothing.
    pub fn none() -> Self {
        Self(Target::None)
    }

    /// Creates an audit log that writes to the log of the process, with the target `audit`.
    pub fn log() -> Self {
        Self(Target::Log)
    }

    /// Creates an audit log that appends to a file. A new file is readable only by its account. `-` is stdout.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be opened.
    pub fn file(path: &Path) -> std::io::Result<Self> {
        let path = if path.as_os_str() == "-" { Path::new("/dev/stdout") } else { path };
        let file = File::options().create(true).append(true).mode(0o600).open(path)?;
        Ok(Self(Target::File(Mutex::new(file))))
    }

    pub(super) fn write(&self, line: &Line<'_>) {
        let Ok(mut text) = serde_json::to_string(line) else { return };
        match &self.0 {
            Target::None => {}
            Target::Log => tracing::info!(target: "audit", "{text}"),
            Target::File(file) => {
                text.push('\n');
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(error) = file.write_all(text.as_bytes()) {
                    tracing::error!(%error, "an audit line could not be written: {}", text.trim_end());
                }
            }
        }
    }
}

/// An audit line about one job.
#[derive(Debug, Default, Serialize)]
pub(super) struct Line<'a> {
    /// The time when the line was written, in RFC 3339.
    pub(super) time: String,
    /// The id of the job; missing for a rejected submission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<&'a str>,
    /// The identity that submitted the job.
    pub(super) identity: &'a str,
    /// The address that the job was submitted from.
    pub(super) from: &'a str,
    /// The statement.
    pub(super) statement: &'a str,
    /// The connections that the job reads through.
    pub(super) connections: Vec<&'a str>,
    /// The index expressions that the job reads.
    pub(super) indices: Vec<&'a str>,
    /// The files and folders that the job reads.
    pub(super) reads: Vec<String>,
    /// The files and folders that the job writes to.
    pub(super) writes: Vec<String>,
    /// The number of documents that were read from indices.
    pub(super) documents: u64,
    /// The size of the responses with these documents, in bytes.
    pub(super) bytes: u64,
    /// The time from submission to end, in milliseconds.
    pub(super) milliseconds: i64,
    /// `succeeded`, `failed` or `refused`.
    pub(super) outcome: &'static str,
    /// The error of a failed job or a rejected submission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl<'a> Line<'a> {
    /// Returns the line for an admitted job that has ended.
    pub(super) fn ended(id: &'a str, job: &'a Job, status: Option<&JobStatus>, read: (u64, u64)) -> Self {
        let now = jiff::Timestamp::now();
        let (outcome, error) = match status.and_then(|status| status.status.as_ref()) {
            Some(Status::Successful(_)) => ("succeeded", None),
            Some(Status::Failed(failed)) => ("failed", Some(failed.error.clone())),
            _ => ("failed", Some("the scheduler no longer knows the job".into())),
        };
        let shown = |paths: &std::collections::BTreeSet<std::path::PathBuf>| {
            paths.iter().map(|path| path.display().to_string()).collect()
        };
        let mut connections: Vec<&str> = job.reach.indices.iter().map(|(name, _)| name.as_str()).collect();
        connections.dedup();
        Self {
            time: now.to_string(),
            job: Some(id),
            identity: &job.owner,
            from: &job.from,
            statement: &job.statement,
            connections,
            indices: job.reach.indices.iter().map(|(_, index)| index.as_str()).collect(),
            reads: shown(&job.reach.reads),
            writes: shown(&job.reach.writes),
            documents: read.0,
            bytes: read.1,
            milliseconds: now.as_millisecond() - job.submitted,
            outcome,
            error,
        }
    }

    /// Returns the line for a rejected submission.
    pub(super) fn refused(identity: &'a str, from: &'a str, statement: &'a str, error: String) -> Self {
        let time = jiff::Timestamp::now().to_string();
        Self { time, identity, from, statement, outcome: "refused", error: Some(error), ..Self::default() }
    }
}

/// Returns a plan on one line, truncated to [`STATEMENT_BYTES`].
pub(super) fn statement_of(plan: &datafusion::logical_expr::LogicalPlan) -> String {
    let mut text = plan.display_indent().to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    if text.len() > STATEMENT_BYTES {
        let end = (0..=STATEMENT_BYTES).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
