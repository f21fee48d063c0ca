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

/// What a table of files can be told and an index cannot: its columns, and what holds of its rows.
fn refuse_clauses(cmd: &CreateExternalTable) -> Result<()> {
    let clauses = [
        (
            !cmd.schema.fields().is_empty() || !cmd.column_defaults.is_empty(),
            "a list of columns",
            "columns follow from the mapping; leave fields out by the option exclude",
        ),
        (!cmd.constraints.is_empty(), "a constraint", "an index has none that could be relied on"),
        (
            !cmd.table_partition_cols.is_empty(),
            "PARTITIONED BY",
            "an index is read in slices; set how many by the option slices",
        ),
        (!cmd.order_exprs.is_empty(), "WITH ORDER", "rows come in no order; use ORDER BY in the query"),
        (cmd.unbounded, "UNBOUNDED", "what is read is the state of one moment, which ends"),
        (cmd.temporary, "TEMPORARY", "a table is known to its session only; leave it out"),
        (cmd.locations.len() > 1, "more than one location", "name several indices by a pattern or by commas"),
    ];
    match clauses.into_iter().find(|(given, _, _)| *given) {
        Some((_, clause, why)) => Err(DataFusionError::Configuration(format!(
            "table {} STORED AS ELASTICSEARCH cannot have {clause}: {why}",
            cmd.name
        ))),
        None => Ok(()),
    }
}
