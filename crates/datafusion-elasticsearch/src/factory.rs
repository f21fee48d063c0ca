//! `CREATE EXTERNAL TABLE … STORED AS ELASTICSEARCH LOCATION 'elasticsearch://CONNECTION/INDEX'`.
//!
//! Owns: the form of the location, and the clauses that an index does not support. Must not know: mappings.

use crate::table::EsTable;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::CreateExternalTable;
use elastic_client::ConnectionRegistry;
use std::sync::Arc;

/// Creates tables from `CREATE EXTERNAL TABLE … STORED AS ELASTICSEARCH`.
#[derive(Debug)]
pub struct EsTableFactory {
    registry: Arc<ConnectionRegistry>,
}

impl EsTableFactory {
    /// Creates a factory that resolves the connection in a location by its name in `registry`.
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
        refuse_clauses(cmd)?;
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

/// Rejects clauses that make sense for a table of files but not for an index.
fn refuse_clauses(cmd: &CreateExternalTable) -> Result<()> {
    let clauses = [
        (
            !cmd.schema.fields().is_empty() || !cmd.column_defaults.is_empty(),
            "a list of columns",
            "columns come from the mapping; drop fields with the option exclude",
        ),
        (!cmd.constraints.is_empty(), "a constraint", "an index enforces none"),
        (
            !cmd.table_partition_cols.is_empty(),
            "PARTITIONED BY",
            "an index is read in slices; set their number with the option slices",
        ),
        (!cmd.order_exprs.is_empty(), "WITH ORDER", "rows have no order; use ORDER BY in the query"),
        (cmd.unbounded, "UNBOUNDED", "a query reads one point in time and ends"),
        (cmd.temporary, "TEMPORARY", "a table always belongs to its session only; drop this word"),
        (
            cmd.locations.len() > 1,
            "more than one location",
            "name several indices by a pattern, or separated by commas",
        ),
    ];
    match clauses.into_iter().find(|(given, _, _)| *given) {
        Some((_, clause, why)) => Err(DataFusionError::Configuration(format!(
            "table {} STORED AS ELASTICSEARCH cannot have {clause}: {why}",
            cmd.name
        ))),
        None => Ok(()),
    }
}
