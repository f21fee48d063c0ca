//! Findings in an index of Elasticsearch or OpenSearch.
//!
//! Owns: which index may be written, and the retries of single documents. Must not know: the fields of a document, or
//! the form of a bulk request.

use super::bulk::{self, Operation, Refusal};
use super::template::{check_template, install_template};
use super::{document, failed};
use crate::alert::Alert;
use crate::error::Result;
use crate::manifest::Manifest;
use crate::sink::Sink;
use async_trait::async_trait;
use elastic_client::{Connection, Method, Request, RetryPolicy, check_index};
use elasticsearch::BulkParts;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// The largest response to one request, in bytes: a thousand items with the longest reasons.
const MAX_RESPONSE: usize = 16 << 20;

/// Writes one document a finding. Its `_id` is the finding's id, which is the same in every revision: a second delivery
/// replaces the document by itself, and a later revision replaces that of an earlier one.
#[derive(Debug)]
pub struct IndexSink {
    name: String,
    connection: Arc<Connection>,
    index: String,
    retry: RetryPolicy,
    /// Set once the index template is installed. `None` if it was not asked for.
    template: Option<OnceCell<()>>,
}

impl IndexSink {
    /// Creates a sink that writes to an index or to an alias of one. Sends no request.
    ///
    /// `write` is whether the connection says `write = true`. `ConnectionConfig` of elastic-client has no such key yet; once
    /// it has, this argument can go.
    ///
    /// # Errors
    ///
    /// If the connection must not write, or if the expression is not the name of one index.
    pub fn try_new(
        job: &str,
        name: &str,
        connection: Arc<Connection>,
        write: bool,
        index: &str,
    ) -> Result<Self> {
        let error = |problem| failed(job, name, problem);
        if !write {
            return Err(error(format!(
                "connection \"{0}\" may only read; set write = true in [connections.{0}] of flowsigma.toml",
                connection.name()
            )));
        }
        check_index(index).map_err(|e| error(e.to_string()))?;
        // Date math would name another index the next day, and a finding that is delivered again would be in both.
        if index == "_all" || index.starts_with('-') || index.contains([',', '*', '<', ':']) {
            return Err(error(format!(
                "{index:?} is not one index; use the name of an index or alias without pattern, date math or cluster"
            )));
        }
        let (name, index, retry) = (name.into(), index.into(), RetryPolicy::default());
        Ok(Self { name, connection, index, retry, template: None })
    }

    /// Lets the sink install the index template `flowsigma-alerts` before its first document, once in each process.
    ///
    /// # Errors
    ///
    /// If the template would not apply to the index.
    pub fn with_template(self, job: &str) -> Result<Self> {
        check_template(&self.index).map_err(|problem| failed(job, &self.name, problem))?;
        Ok(Self { template: Some(OnceCell::new()), ..self })
    }

    async fn prepare(&self) -> std::result::Result<(), String> {
        let Some(installed) = &self.template else { return Ok(()) };
        let install = || async { install_template(&self.connection).await.map_err(|e| e.to_string()) };
        installed.get_or_try_init(install).await.map(|_| ())
    }

    /// Sends one bulk request. Returns the refusal of each operation, or `None` if its document was written.
    async fn send(&self, operations: &[Operation]) -> std::result::Result<Vec<Option<Refusal>>, String> {
        let operation = format!("bulk: index \"{}\"", self.index);
        let mut request = Request::new(Method::Post, BulkParts::Index(&self.index).url(), operation)
            .with_param("filter_path", bulk::RESPONSE_FILTER)
            .with_max_bytes(MAX_RESPONSE);
        request.body = Some(bulk::body(operations));
        let response = self.connection.send(&request).await.map_err(|e| e.to_string())?;
        bulk::refusals(&response.body, operations).map_err(|e| format!("index \"{}\": {e}", self.index))
    }

    fn describe(&self, first: &Refusal, refused: usize, all: usize) -> String {
        let Refusal { id, status, kind, reason } = first;
        format!(
            "index \"{}\": {refused} of {all} documents were not written, the first is {id}: {status} {kind}: {reason}",
            self.index
        )
    }
}

#[async_trait]
impl Sink for IndexSink {
    fn name(&self) -> &str {
        &self.name
    }

    /// Writes the findings. A document that the server refuses does not stop the others.
    ///
    /// # Errors
    ///
    /// If the index template cannot be installed, if a request fails, or if a document was not written. The error names the first of these documents.
    async fn deliver(&self, manifest: &Manifest, alerts: &[Alert]) -> Result<()> {
        let error = |problem| failed(&manifest.job, &self.name, problem);
        let mut pending = Vec::with_capacity(alerts.len());
        for alert in alerts {
            let document = document::document(alert).map_err(error)?;
            pending.push(Operation::try_new(&alert.id, &document).map_err(error)?);
        }
        if !pending.is_empty() {
            self.prepare().await.map_err(error)?;
        }
        let mut refused = Vec::new();
        let mut retries = 0;
        while !pending.is_empty() {
            let mut again = Vec::new();
            for operations in bulk::split(&pending) {
                let results = self.send(operations).await.map_err(error)?;
                for (operation, result) in operations.iter().zip(results) {
                    match result {
                        None => {}
                        Some(refusal) if refusal.is_retryable() && retries < self.retry.max_retries => {
                            again.push(operation.clone());
                        }
                        Some(refusal) => refused.push(refusal),
                    }
                }
            }
            if !again.is_empty() {
                let wait = self.retry.delay(retries, None, &mut rand::rng());
                let documents = again.len();
                tracing::warn!(job = manifest.job, sink = self.name, documents, ?wait, "documents retried");
                tokio::time::sleep(wait).await;
            }
            retries += 1;
            pending = again;
        }
        match refused.first() {
            None => Ok(()),
            Some(first) => Err(error(self.describe(first, refused.len(), alerts.len()))),
        }
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
