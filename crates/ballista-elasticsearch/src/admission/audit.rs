//! What is written down of each job: one JSON object a line.
//!
//! Owns: the form of a line, and where it goes. Must not know: who may do what. A line holds no secret: connections
//! by name, statements as the scheduler shows them.

use super::jobs::Job;
use ballista_core::serde::protobuf::JobStatus;
use ballista_core::serde::protobuf::job_status::Status;
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// What of a statement is written down, in bytes.
const STATEMENT_BYTES: usize = 4096;

/// Where lines of the audit go.
#[derive(Debug)]
pub struct AuditLog(Target);

#[derive(Debug)]
enum Target {
    /// Nowhere: of a cluster inside this process.
    None,
    /// The process's log, target `audit`.
    Log,
    /// A file, or stdout.
    File(Mutex<File>),
}

impl AuditLog {
    /// Writes nothing.
    pub fn none() -> Self {
        Self(Target::None)
    }

    /// Writes into the process's own log, under the target `audit`.
    pub fn log() -> Self {
        Self(Target::Log)
    }

    /// Appends to a file, which only its account can read if it is new; `-` is stdout.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
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
                    tracing::error!(%error, "a line of the audit could not be written: {}", text.trim_end());
                }
            }
        }
    }
}

/// One job.
#[derive(Debug, Default, Serialize)]
pub(super) struct Line<'a> {
    /// When the line was written, RFC 3339.
    pub(super) time: String,
    /// The job's id; none of one that was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<&'a str>,
    /// Who submitted it.
    pub(super) identity: &'a str,
    /// From which address.
    pub(super) from: &'a str,
    /// What was submitted.
    pub(super) statement: &'a str,
    /// Connections that it reads through.
    pub(super) connections: Vec<&'a str>,
    /// Index expressions that it reads.
    pub(super) indices: Vec<&'a str>,
    /// Files and folders that it reads.
    pub(super) reads: Vec<String>,
    /// Files and folders that it writes to.
    pub(super) writes: Vec<String>,
    /// Documents read from indices.
    pub(super) documents: u64,
    /// Bytes of responses that they were read from.
    pub(super) bytes: u64,
    /// From submission to end, in milliseconds.
    pub(super) milliseconds: i64,
    /// `succeeded`, `failed` or `refused`.
    pub(super) outcome: &'static str,
    /// Why it failed or was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl<'a> Line<'a> {
    /// Of a job that was admitted and has ended.
    pub(super) fn ended(id: &'a str, job: &'a Job, status: Option<&JobStatus>, read: (u64, u64)) -> Self {
        let now = jiff::Timestamp::now();
        let (outcome, error) = match status.and_then(|status| status.status.as_ref()) {
            Some(Status::Successful(_)) => ("succeeded", None),
            Some(Status::Failed(failed)) => ("failed", Some(failed.error.clone())),
            _ => ("failed", Some("the scheduler does not know the job any more".into())),
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

    /// Of a submission that was refused.
    pub(super) fn refused(identity: &'a str, from: &'a str, statement: &'a str, error: String) -> Self {
        let time = jiff::Timestamp::now().to_string();
        Self { time, identity, from, statement, outcome: "refused", error: Some(error), ..Self::default() }
    }
}

/// A plan on one line, and no more of it than a line should hold.
pub(super) fn statement_of(plan: &datafusion::logical_expr::LogicalPlan) -> String {
    let mut text = plan.display_indent().to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    if text.len() > STATEMENT_BYTES {
        let end = (0..=STATEMENT_BYTES).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
