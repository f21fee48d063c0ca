//! `CREATE EXTERNAL TABLE … STORED AS ELASTICSEARCH LOCATION 'elasticsearch://CONNECTION/INDEX'`.
//!
//! Owns: the location's form.

use crate::table::EsTable;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::CreateExternalTable;
use elastic_client::ConnectionRegistry;
use std::sync::Arc;

/// Makes tables from SQL.
#[derive(Debug)]
pub struct EsTableFactory {
    registry: Arc<ConnectionRegistry>,
}

impl EsTableFactory {
    /// Resolves connections from this registry.
    pub fn new(registry: Arc<ConnectionRegistry>) -> Self {
        Self { registry }
    }
}

#[async_trait]
impl TableProviderFactory for EsTableFactory {
    async fn create(
        &self,
        _state: &dyn Session,
        cmd: &CreateExternalTable,
    ) -> Result<Arc<dyn TableProvider>> {
        let location = cmd.locations.first().map_or("", String::as_str);
        let parts = location.strip_prefix("elasticsearch://").and_then(|rest| rest.split_once('/'));
        let Some((connection, index)) = parts.filter(|(c, i)| !c.is_empty() && !i.is_empty()) else {
            return Err(DataFusionError::Configuration(format!(
                "location \"{location}\" is not elasticsearch://CONNECTION/INDEX"
            )));
        };
        let table = EsTable::try_new(Arc::clone(&self.registry), connection, index, &cmd.options).await?;
        Ok(Arc::new(table))
    }
}
