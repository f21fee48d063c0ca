//! What can go wrong with a job.
//!
//! Owns: the crate's error type. Must not know: exit codes.

use std::path::PathBuf;

/// The result of an operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Every message stands alone: it names the job, window, sink or object, and says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A job file cannot be read.
    #[error("job file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A job file is wrong.
    #[error("job file {}: {problem}", path.display())]
    JobFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the key, the value and what was expected.
        problem: String,
    },
    /// A text is not a duration.
    #[error("{text:?} is not a duration: {problem}")]
    Span {
        /// The text.
        text: String,
        /// What is wrong, and what is expected.
        problem: &'static str,
    },
    /// The windows of a job are wrong, or it has no such window.
    #[error("{problem}")]
    Window {
        /// What is wrong, with the key, the value and what was expected.
        problem: String,
    },
    /// An entry of an allow-list is wrong.
    #[error("detection.allow[{index}] = {entry:?}: expected {expected}")]
    Allow {
        /// Its place in the list, from 0.
        index: usize,
        /// The entry.
        entry: String,
        /// What was expected.
        expected: String,
    },
    /// The store failed.
    #[error("store {url}: {operation}: {source}")]
    Store {
        /// The store's URL, without credentials.
        url: String,
        /// What was being done.
        operation: String,
        /// The cause.
        source: object_store::Error,
    },
    /// An object of the store is not what this version writes.
    #[error("store {url}: {path}: {problem}")]
    Corrupt {
        /// The store's URL, without credentials.
        url: String,
        /// The object.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The URL of a store is wrong.
    #[error("store {url}: {problem}")]
    StoreUrl {
        /// The URL, without credentials.
        url: String,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// Another run holds the job's lease.
    #[error("job \"{job}\": another run holds the lease until {until} ({holder}); this one has done nothing")]
    Leased {
        /// The job.
        job: String,
        /// The time at which the lease ends unless it is renewed, in RFC 3339.
        until: String,
        /// The process that holds it: host and process id.
        holder: String,
    },
    /// This run has lost its lease, since it was stopped for longer than the lease lasts.
    #[error("job \"{job}\": the lease was lost to {holder}; nothing of this run was published, run it again")]
    LeaseLost {
        /// The job.
        job: String,
        /// The process that took it.
        holder: String,
    },
    /// A sink failed.
    #[error(
        "sink \"{sink}\" of job \"{job}\": {problem}; the findings stay in the store, and the next run delivers them"
    )]
    Sink {
        /// The job.
        job: String,
        /// The sink's name.
        sink: String,
        /// What is wrong.
        problem: String,
    },
    /// The reader of a sink's output has closed its end of the pipe.
    #[error(
        "sink \"{sink}\" of job \"{job}\": the reader of the output has closed the pipe; the findings stay in the store, and the next run delivers them"
    )]
    OutputClosed {
        /// The job.
        job: String,
        /// The sink's name.
        sink: String,
    },
    /// A window was not counted within `limits.timeout`.
    #[error(
        "job \"{job}\", window {window}: it was not counted within limits.timeout = {limit}, and was cancelled; raise limits.timeout, or read it faster with more slices (limits.slices) or a sample (source.sample)"
    )]
    TimedOut {
        /// The job.
        job: String,
        /// The start of the window.
        window: String,
        /// The limit.
        limit: String,
    },
    /// The engine failed.
    #[error("job \"{job}\", window {window}: {source}")]
    Engine {
        /// The job.
        job: String,
        /// The start of the window.
        window: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
