//! The errors of this crate, one variant for each cause.
//!
//! Owns: the error type, and which errors are retryable.
//! Must not know: Arrow, DataFusion, or how often a caller retries.

use crate::config::ConfigError;
use crate::query::QueryError;
use bytes::Bytes;
use std::time::Duration;

/// An error of a request or a read.
///
/// Each message can be understood without its context. It names the connection, and the index or the slice.
#[derive(thiserror::Error)]
pub enum Error {
    /// The configuration of this process has no such connection, or a secret of the connection cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The base query is invalid.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// No Elasticsearch node of the connection responded.
    #[error(
        "{operation}: connection \"{connection}\": no Elasticsearch node responded ({nodes}) \
         after {attempts} attempts: {reason}"
    )]
    Unreachable {
        /// The operation, such as `search: index "flows" slice 3/8`.
        operation: String,
        /// The connection's name.
        connection: String,
        /// The URLs of the Elasticsearch nodes, without credentials.
        nodes: String,
        /// The number of requests sent.
        attempts: u32,
        /// The last transport error, with its causes.
        reason: String,
    },
    /// All attempts of a request together reached the connection's deadline.
    #[error(
        "{operation}: connection \"{connection}\": gave up after {attempts} attempts ({nodes}): {reason}; the \
         deadline of a request is {deadline:?}, set deadline of this connection if the server needs longer"
    )]
    DeadlineExceeded {
        /// The operation, such as `search: index "flows" slice 3/8`.
        operation: String,
        /// The connection's name.
        connection: String,
        /// The URLs of the Elasticsearch nodes, without credentials.
        nodes: String,
        /// The longest time for all attempts of a request.
        deadline: Duration,
        /// The number of requests sent.
        attempts: u32,
        /// Why the last attempt failed.
        reason: String,
    },
    /// The server's certificate was not accepted. A retry cannot help.
    #[error(
        "{operation}: connection \"{connection}\": {node} was not trusted: {reason}; check tls.ca_file \
         or tls.ca_fingerprint of this connection"
    )]
    Untrusted {
        /// The operation, such as `search: index "flows" slice 3/8`.
        operation: String,
        /// The connection's name.
        connection: String,
        /// The URL of the Elasticsearch node, without credentials.
        node: String,
        /// Why the certificate was not accepted.
        reason: String,
    },
    /// The server responded with an error status.
    #[error(
        "{operation}: connection \"{connection}\": {status} {kind}: {reason}{hint} (after {attempts} attempts)"
    )]
    Status {
        /// The operation, such as `search: index "flows" slice 3/8`.
        operation: String,
        /// The connection's name.
        connection: String,
        /// The HTTP status.
        status: u16,
        /// The server's error type, such as `index_not_found_exception`.
        kind: String,
        /// The server's reason.
        reason: String,
        /// What the user can do about it. Empty if nothing is known.
        hint: &'static str,
        /// The number of requests sent.
        attempts: u32,
    },
    /// The server runs, but has lost the Elasticsearch node that had the search context of this read.
    #[error(
        "{operation}: connection \"{connection}\": the server has lost the \
         Elasticsearch node with the search context of this read: {reason}; run the statement again"
    )]
    NodeLost {
        /// The operation, such as `search: index "flows" slice 3/8`.
        operation: String,
        /// The connection's name.
        connection: String,
        /// The server's reason.
        reason: String,
        /// Whether the lost search context belongs to one slice or to the whole query.
        owner: ContextOwner,
    },
    /// The server responded with fewer rows than the request matches, or the response does not prove that it is
    /// complete.
    #[error("{operation}: incomplete response: {detail}")]
    Incomplete {
        /// The read, with its index or slice.
        operation: String,
        /// What is missing.
        detail: String,
    },
    /// A response was larger than the request allows.
    #[error("{operation}: the response is larger than {max} bytes")]
    TooLarge {
        /// The operation, such as `search: index "flows" slice 3/8`.
        operation: String,
        /// The largest size that the request allows, in bytes.
        max: usize,
        /// The size in bytes, as announced by the server. If none was announced, it is estimated as twice the part that
        /// was received.
        bytes: usize,
        /// The first 64 KiB of the response.
        head: Bytes,
    },
    /// A page of a scroll was larger than the request allows.
    #[error(
        "{operation}: a scroll page of {rows} rows is larger than {max} bytes, and a scroll \
         cannot return the same page again with fewer rows; set the table option page_size to \
         {fitting} or less"
    )]
    ScrollPageTooLarge {
        /// The read, with its slice.
        operation: String,
        /// The number of rows requested.
        rows: u32,
        /// The largest size that the request allows, in bytes.
        max: usize,
        /// The estimated number of rows that fit, from the size of this page.
        fitting: u32,
    },
    /// The response does not have the form that the API defines.
    #[error("{operation}: unexpected response: {detail}")]
    Protocol {
        /// The operation, such as `search: index "flows" slice 3/8`.
        operation: String,
        /// What is wrong with the response.
        detail: String,
    },
    /// The decoder could not turn a page into rows.
    #[error("{operation}: {source}")]
    Decode {
        /// The read, with its slice.
        operation: String,
        /// The decoder's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server did not write some documents of a bulk request.
    #[error(
        "index \"{index}\": {refused} of {all} documents were not written, the first is {id}: {status} {kind}: {reason}"
    )]
    NotWritten {
        /// The index or alias.
        index: String,
        /// The number of documents that were not written.
        refused: usize,
        /// The number of documents that were to be written.
        all: usize,
        /// The id of the first document that was not written.
        id: String,
        /// Its HTTP status.
        status: u16,
        /// The server's error type for it.
        kind: String,
        /// The server's reason.
        reason: String,
    },
    /// The connection is closed because this process is shutting down. Another process may read the same slice.
    #[error("{operation}: connection \"{connection}\" is closed because this process is shutting down")]
    Closed {
        /// The request that was not sent.
        operation: String,
        /// The connection's name.
        connection: String,
    },
    /// The index expression is invalid.
    #[error(
        "index {expression:?} is not sent to a server: {problem}; write names, aliases, patterns \
         or date math, separated by commas"
    )]
    IndexName {
        /// The index expression.
        expression: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The read or the connection is not possible as configured. The text says what to change.
    #[error("{0}")]
    Refused(String),
}

/// What a lost search context belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextOwner {
    /// One slice, which reads by scroll. A second read of the slice opens another scroll.
    Slice,
    /// The whole query, which reads from a point in time. No slice can be read without it.
    Query,
}

/// Prints the message as `Display` does. Ballista reports a failed task by `{:?}`, and a user sees nothing else.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// Returns whether the same read may succeed later if it starts again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::DeadlineExceeded { .. }
            | Self::Incomplete { .. }
            | Self::Closed { .. } => true,
            Self::Status { status, .. } | Self::NotWritten { status, .. } => is_retryable_status(*status),
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

    /// Returns the HTTP status if the server responded with an error status.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Returns whether the status reports a temporary failure: 429, 502, 503 or 504.
pub(crate) fn is_retryable_status(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}
