//! What can go wrong between us and a server, one variant a cause.
//!
//! Owns: the crate's error type and which of its causes are worth another try.
//! Must not know: Arrow, DataFusion, or how often a caller will try again.

use crate::config::ConfigError;
use crate::query::QueryError;
use bytes::Bytes;
use std::time::Duration;

/// Every message stands alone: it names the connection, the index or slice, and what to do next.
#[derive(thiserror::Error)]
pub enum Error {
    /// The node's own configuration is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The base query is not one.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// No node answered.
    #[error(
        "{operation}: connection \"{connection}\": no node answered ({nodes}) after {attempts} attempts: {reason}"
    )]
    Unreachable {
        /// What was being done.
        operation: String,
        /// The connection's name.
        connection: String,
        /// The nodes tried, without credentials.
        nodes: String,
        /// How many requests were sent.
        attempts: u32,
        /// The last transport error, causes included.
        reason: String,
    },
    /// A request and its repetitions took as long as all of them may.
    #[error(
        "{operation}: connection \"{connection}\": gave up after {attempts} attempts ({nodes}): {reason}; the \
         deadline of a request is {deadline:?}, set deadline of this connection if the server needs longer"
    )]
    DeadlineExceeded {
        /// What was being done.
        operation: String,
        /// The connection's name.
        connection: String,
        /// The nodes of the connection, without credentials.
        nodes: String,
        /// How long all tries of a request may take.
        deadline: Duration,
        /// How many requests were sent.
        attempts: u32,
        /// Why the last try came to nothing.
        reason: String,
    },
    /// The server's certificate was not accepted; trying again cannot help.
    #[error(
        "{operation}: connection \"{connection}\": {node} was not trusted: {reason}; check tls.ca_file or tls.ca_fingerprint of this connection"
    )]
    Untrusted {
        /// What was being done.
        operation: String,
        /// The connection's name.
        connection: String,
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
    /// The server answered with an error status.
    #[error(
        "{operation}: connection \"{connection}\": {status} {kind}: {reason}{hint} (after {attempts} attempts)"
    )]
    Status {
        /// What was being done.
        operation: String,
        /// The connection's name.
        connection: String,
        /// HTTP status.
        status: u16,
        /// The server's error type, such as `index_not_found_exception`.
        kind: String,
        /// The server's reason.
        reason: String,
        /// What to do next, or nothing.
        hint: &'static str,
        /// How many requests were sent.
        attempts: u32,
    },
    /// The server runs, but the node is gone on which it held this read open.
    #[error(
        "{operation}: connection \"{connection}\": the server has lost the node that held this read: {reason}; run it again"
    )]
    NodeLost {
        /// What was being done.
        operation: String,
        /// The connection's name.
        connection: String,
        /// What the server says.
        reason: String,
        /// Whose it was.
        owner: ContextOwner,
    },
    /// The server answered, but with less than it was asked for.
    #[error("{operation}: incomplete answer: {detail}")]
    Incomplete {
        /// Which read.
        operation: String,
        /// What was missing.
        detail: String,
    },
    /// An answer was larger than it was allowed to be.
    #[error("{operation}: the answer is larger than {most} bytes")]
    TooLarge {
        /// What was being done.
        operation: String,
        /// What was allowed.
        most: usize,
        /// How large it is, as far as that was seen.
        bytes: usize,
        /// How it begins.
        head: Bytes,
    },
    /// A page of a scroll was larger than it was allowed to be.
    #[error(
        "{operation}: a scroll page of {rows} rows is larger than {most} bytes, and a page of a scroll cannot be asked for again with fewer; set the table option page_size to {fitting} or less"
    )]
    ScrollPageTooLarge {
        /// Which slice.
        operation: String,
        /// The rows that were asked for.
        rows: u32,
        /// What was allowed.
        most: usize,
        /// How many rows fit, by what was seen.
        fitting: u32,
    },
    /// The server answered something that is not the protocol.
    #[error("{operation}: unexpected answer: {detail}")]
    Protocol {
        /// What was being done.
        operation: String,
        /// What was found.
        detail: String,
    },
    /// A page's rows could not be taken over as columns.
    #[error("{operation}: {source}")]
    Decode {
        /// Which slice.
        operation: String,
        /// The decoder's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// This process ends, and asks for nothing more. Another one may.
    #[error("{operation}: connection \"{connection}\" is closed, for this process ends")]
    Closed {
        /// What was to be done.
        operation: String,
        /// The connection's name.
        connection: String,
    },
    /// Not an expression that names indices.
    #[error(
        "index {expression:?} is not sent to a server: {problem}; write names, aliases, patterns or date math, with commas between"
    )]
    IndexName {
        /// The expression.
        expression: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The request cannot be made as asked.
    #[error("{0}")]
    Refused(String),
}

/// Who loses what a node held open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextOwner {
    /// A scroll is of one slice, and whoever reads that again opens another one.
    Slice,
    /// A point in time is of the whole query, and no slice is read without it.
    Query,
}

/// As for people: Ballista reports a task's failure by `{:?}`, and that is all that a user sees.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// Whether the same read, from its start, may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::DeadlineExceeded { .. }
            | Self::Incomplete { .. }
            | Self::Closed { .. } => true,
            Self::Status { status, .. } => is_retryable_status(*status),
            Self::NodeLost { owner, .. } => *owner == ContextOwner::Slice,
            Self::Config(_)
            | Self::Query(_)
            | Self::Untrusted { .. }
            | Self::TooLarge { .. }
            | Self::ScrollPageTooLarge { .. }
            | Self::Protocol { .. }
            | Self::Decode { .. }
            | Self::IndexName { .. }
            | Self::Refused(_) => false,
        }
    }

    /// The HTTP status, where the server gave one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Statuses by which a server says "not now": 429, 502, 503, 504.
pub(crate) fn is_retryable_status(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}
