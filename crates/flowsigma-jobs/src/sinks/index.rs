//! Findings in an index of Elasticsearch or OpenSearch.
//!
//! Owns: the id of a finding's document. Must not know: the fields of a document, or how documents are written.

use super::template::{check_template, install_template};
use super::{document, failed};
use crate::alert::Alert;
use crate::error::Result;
use crate::manifest::Manifest;
use crate::sink::Sink;
use async_trait::async_trait;
use elastic_client::{BulkDocument, BulkWriter, Connection};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Writes one document a finding. Its `_id` is the finding's id, which is the same in every revision: a second delivery
/// replaces the document by itself, and a later revision replaces that of an earlier one.
#[derive(Debug)]
pub struct IndexSink {
    name: String,
    writer: BulkWriter,
    /// Set once the index template is installed. `None` if it was not asked for.
    template: Option<OnceCell<()>>,
}

impl IndexSink {
    /// Creates a sink that writes to an index or to an alias of one. Sends no request.
    ///
    /// # Errors
    ///
    /// If the connection may only read, or if the expression is not the name of one index.
    pub fn try_new(job: &str, name: &str, connection: Arc<Connection>, index: &str) -> Result<Self> {
        let writer = BulkWriter::try_new(connection, index).map_err(|e| failed(job, name, e.to_string()))?;
        Ok(Self { name: name.into(), writer, template: None })
    }

    /// Lets the sink install the index template `flowsigma-alerts` before its first document, once in each process.
    ///
    /// # Errors
    ///
    /// If the template would not apply to the index.
    pub fn with_template(self, job: &str) -> Result<Self> {
        check_template(self.writer.index()).map_err(|problem| failed(job, &self.name, problem))?;
        Ok(Self { template: Some(OnceCell::new()), ..self })
    }

    async fn prepare(&self) -> std::result::Result<(), String> {
        let Some(installed) = &self.template else { return Ok(()) };
        let install =
            || async { install_template(self.writer.connection()).await.map_err(|e| e.to_string()) };
        installed.get_or_try_init(install).await.map(|_| ())
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
    /// If the index template cannot be installed, if a request fails, or if a document was not written. The error names
    /// the first of these documents.
    async fn deliver(&self, manifest: &Manifest, alerts: &[Alert]) -> Result<()> {
        let error = |problem| failed(&manifest.job, &self.name, problem);
        let mut documents = Vec::with_capacity(alerts.len());
        for alert in alerts {
            let document = document::document(alert).map_err(error)?;
            let document = BulkDocument::try_new(&alert.id, &document);
            documents.push(document.map_err(|e| error(e.to_string()))?);
        }
        if !documents.is_empty() {
            self.prepare().await.map_err(error)?;
        }
        self.writer.write(documents).await.map_err(|e| error(e.to_string()))
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
