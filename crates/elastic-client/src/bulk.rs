//! Writing documents.
//!
//! Owns: which connection and which index may be written to, and the retries of single documents. Must not know: the
//! fields of a document, or the form of a bulk request (`form`).
//!
//! The API is [`_bulk`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/docs-bulk.html).

mod form;

pub use form::BulkDocument;

use crate::config::Access;
use crate::connection::Connection;
use crate::error::Error;
use crate::index_name::check_index;
use crate::request::{Method, Request};
use crate::retry::RetryPolicy;
use elasticsearch::BulkParts;
use form::Refusal;
use std::sync::Arc;

/// The largest response to one request, in bytes: a thousand items with the longest reasons.
const MAX_RESPONSE: usize = 16 << 20;

/// Writes documents to one index.
///
/// A document has an id, so a request that is sent again writes it once.
#[derive(Debug)]
pub struct BulkWriter {
    connection: Arc<Connection>,
    index: String,
    retry: RetryPolicy,
}

impl BulkWriter {
    /// Creates a writer to an index, or to an alias of one. Sends no request.
    ///
    /// # Errors
    ///
    /// If the connection may only read, or if the expression is not the name of one index.
    pub fn try_new(connection: Arc<Connection>, index: &str) -> Result<Self, Error> {
        if connection.access() == Access::Read {
            return Err(Error::Refused(format!(
                "connection \"{0}\" may only read: set write = true in [connections.{0}] of flowsigma.toml",
                connection.name()
            )));
        }
        check_index(index)?;
        // Date math would name another index the next day, and a document that is written again would be in both.
        if index == "_all" || index.starts_with('-') || index.contains([',', '*', '<', ':']) {
            return Err(Error::Refused(format!(
                "documents are not written to {index:?}: use the name of one index or alias, not a pattern, a list, date \
                 math or a remote cluster"
            )));
        }
        Ok(Self { connection, index: index.to_owned(), retry: RetryPolicy::default() })
    }

    /// Returns the same writer with another policy for documents that are sent again.
    pub fn with_retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }

    /// Returns the index or alias.
    pub fn index(&self) -> &str {
        &self.index
    }

    /// Returns the connection.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Writes documents, as few requests as their size allows. A document that the server refuses does not stop the
    /// others. One that the server is too busy for is sent again.
    ///
    /// # Errors
    ///
    /// If a request fails, or if a document was not written. The error names the first of these documents.
    pub async fn write(&self, documents: Vec<BulkDocument>) -> Result<(), Error> {
        let all = documents.len();
        let mut pending = documents;
        let mut refused = Vec::new();
        let mut retries = 0;
        while !pending.is_empty() {
            let mut again = Vec::new();
            for documents in form::split(&pending) {
                for (document, result) in documents.iter().zip(self.send(documents).await?) {
                    match result {
                        None => {}
                        Some(refusal) if refusal.is_retryable() && retries < self.retry.max_retries => {
                            again.push(document.clone());
                        }
                        Some(refusal) => refused.push(refusal),
                    }
                }
            }
            if !again.is_empty() {
                let wait = self.retry.delay(retries, None, &mut rand::rng());
                tracing::warn!(
                    index = self.index,
                    documents = again.len(),
                    ?wait,
                    "documents are sent again"
                );
                tokio::time::sleep(wait).await;
            }
            retries += 1;
            pending = again;
        }
        let count = refused.len();
        match refused.into_iter().next() {
            None => Ok(()),
            Some(Refusal { id, status, kind, reason }) => Err(Error::NotWritten {
                index: self.index.clone(),
                refused: count,
                all,
                id,
                status,
                kind,
                reason,
            }),
        }
    }

    /// Sends one request. Returns the refusal of each document, or `None` if it was written.
    async fn send(&self, documents: &[BulkDocument]) -> Result<Vec<Option<Refusal>>, Error> {
        let operation = format!("bulk: index \"{}\"", self.index);
        let mut request = Request::new(Method::Post, BulkParts::Index(&self.index).url(), &operation)
            .with_param("filter_path", form::RESPONSE_FILTER)
            .with_max_bytes(MAX_RESPONSE);
        request.body = Some(form::body(documents));
        let response = self.connection.send(&request).await?;
        form::refusals(&response.body, documents).map_err(|detail| Error::Protocol { operation, detail })
    }
}
