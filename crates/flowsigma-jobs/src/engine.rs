//! What counts and decides, as a run sees it.
//!
//! Owns: the interface. Must not know: clusters.

use crate::job::Job;
use crate::manifest::{Finding, WindowTimes};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// The result of counting and deciding one window.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The number of documents that the server counted.
    pub documents: u64,
    /// The findings.
    pub findings: Vec<Finding>,
    /// The whole object of `detect --format json`.
    pub report: serde_json::Value,
    /// The counts of each address as a Parquet file: address, outgoing, incoming.
    pub counts: bytes::Bytes,
    /// The pairs of a source and a destination as a Parquet file, if the job keeps them: source, destination, flows,
    /// first, last.
    pub pairs: Option<bytes::Bytes>,
}

/// Counts the flows of a window and decides which addresses stand out.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Returns the number of documents of a window now, by a cheap count.
    ///
    /// # Errors
    ///
    /// If the server refuses or does not respond.
    async fn count(
        &self,
        job: &Job,
        window: WindowTimes,
    ) -> Result<u64, Box<dyn std::error::Error + Send + Sync>>;

    /// Reads a window and decides. Once `cancel` is cancelled, it stops what it has begun on servers and clusters, and
    /// returns an error. The caller waits a bounded time for that, and then drops the future.
    ///
    /// # Errors
    ///
    /// If it could not be read completely, or was cancelled.
    async fn run(
        &self,
        job: &Job,
        window: WindowTimes,
        cancel: &CancellationToken,
    ) -> Result<Outcome, Box<dyn std::error::Error + Send + Sync>>;
}
