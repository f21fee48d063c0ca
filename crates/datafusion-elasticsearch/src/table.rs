//! An index as a table.
//!
//! Owns: the columns, and the plan of a scan. Must not know: how plans are sent.

use crate::error::{from_arrow, from_client};
use crate::exec::{EsScanExec, ScanSpec};
use crate::functions::match_refused;
use crate::options::{Ignored, Pushdown, TableOptions};
use crate::pushdown::{MAX_CLAUSES, Precision, Pushed, asks_match, translate};
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use elastic_arrow::{
    Column, ConstantKeywords, IndexMapping, LongKeywords, SchemaOptions, plan_columns, to_schema,
};
use elastic_client::{
    ConnectionRegistry, ContextRequest, Product, ReadOptions, Server, Slice, check_query, fetch_count,
    fetch_mappings, fetch_older_than, fetch_server, fetch_shards, group_slices, open_context,
};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;

/// What a table is, on every node: a connection's name, never its address.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSpec {
    /// The connection's name.
    pub connection: String,
    /// Index, pattern or alias.
    pub index: String,
    /// All columns.
    pub columns: Vec<Column>,
    /// Base query.
    pub query: Value,
    /// Slices wanted.
    pub slices: Option<NonZeroU32>,
    /// How the index is read.
    pub read: ReadOptions,
    /// Whether filters are sent.
    pub pushdown: Pushdown,
    /// What becomes of values that the server left out of doc values.
    pub ignored: Ignored,
    /// The slices of the open search context; none until the query is planned.
    pub open_slices: Option<Vec<Slice>>,
}

impl TableSpec {
    pub(crate) fn context_request(&self) -> ContextRequest {
        ContextRequest { index: self.index.clone(), read: self.read, slices: self.slices }
    }
}

/// A table over an index, pattern or alias.
#[derive(Debug, Clone)]
pub struct EsTable {
    registry: Arc<ConnectionRegistry>,
    spec: TableSpec,
    schema: SchemaRef,
}

impl EsTable {
    /// Reads the mappings of every index behind the name.
    pub async fn try_new(
        registry: Arc<ConnectionRegistry>,
        connection: &str,
        index: &str,
        options: &HashMap<String, String>,
    ) -> Result<Self> {
        let options = TableOptions::parse(options)?;
        let live = registry.get(connection).map_err(from_client)?;
        let mappings: Vec<IndexMapping> = fetch_mappings(&live, index)
            .await
            .map_err(from_client)?
            .into_iter()
            .map(|(index, mapping)| IndexMapping { index, mapping })
            .collect();
        let server = fetch_server(&live).await.map_err(from_client)?;
        let long_in_source_of = match options.ignored {
            Ignored::Error if server.notes_ignored_keywords() && has_long_keywords(&mappings) => {
                fetch_older_than(&live, index, Server::NOTES_IGNORED_KEYWORDS).await.map_err(from_client)?
            }
            Ignored::Error | Ignored::Null => Vec::new(),
        };
        let schema_options = SchemaOptions {
            long_in_source_of: long_in_source_of.into_iter().collect(),
            arrays: options.arrays,
            exclude: options.exclude,
            metadata: options.metadata,
            unknown_types: options.unknown_types,
            long_keywords: match options.ignored {
                Ignored::Error if !server.notes_ignored_keywords() => LongKeywords::Source,
                Ignored::Error | Ignored::Null => LongKeywords::DocValues,
            },
            constant_keywords: match server.product {
                Product::Elasticsearch => ConstantKeywords::DocValues,
                Product::OpenSearch => ConstantKeywords::Unreadable,
            },
        };
        let columns = plan_columns(&mappings, &schema_options).map_err(from_arrow)?;
        check_arrays(&schema_options.arrays, &columns, index)?;
        let slices = match options.docs_per_slice {
            Some(most) => {
                let count = fetch_count(&live, index, &options.query).await.map_err(from_client)?;
                let slices = count.div_ceil(most.get().into());
                let shards = fetch_shards(&live, index).await.map_err(from_client)?;
                // Fewer than shards would only be read by fewer partitions.
                let more = slices > shards.iter().map(|index| u64::from(index.shards)).sum();
                NonZeroU32::new(slices.try_into().unwrap_or(u32::MAX)).filter(|_| more)
            }
            None => {
                // A query that the server cannot read is an error of the table, not of its first scan.
                if options.query != json!({ "match_all": {} }) {
                    check_query(&live, index, &options.query).await.map_err(from_client)?;
                }
                options.slices
            }
        };
        Ok(Self::from_spec(
            registry,
            TableSpec {
                connection: connection.to_owned(),
                index: index.to_owned(),
                columns,
                query: options.query,
                slices,
                read: options.read,
                pushdown: options.pushdown,
                ignored: options.ignored,
                open_slices: None,
            },
        ))
    }

    /// The table of a spec, such as one that another node sent. No I/O.
    pub fn from_spec(registry: Arc<ConnectionRegistry>, spec: TableSpec) -> Self {
        let schema = to_schema(&spec.columns);
        Self { registry, spec, schema }
    }

    /// All that another node needs to know of the table.
    pub fn spec(&self) -> &TableSpec {
        &self.spec
    }

    pub(crate) fn registry(&self) -> &Arc<ConnectionRegistry> {
        &self.registry
    }

    /// What the server is asked for these filters.
    fn plan_filters<'a>(&self, filters: &'a [Expr]) -> PlannedFilters<'a> {
        let pushed: Vec<Option<Pushed>> = filters.iter().map(|filter| self.push(filter)).collect();
        let is =
            |pushed: &Option<Pushed>, precision| pushed.as_ref().is_some_and(|p| p.precision == precision);
        let all_exact = pushed.iter().all(|pushed| is(pushed, Precision::Exact));
        let all_sent = pushed.iter().flatten().map(|p| p.clauses).sum::<usize>() <= MAX_CLAUSES;
        let strict = filters.iter().zip(&pushed).filter(|(_, p)| all_sent && is(p, Precision::Strict));
        let strict = strict.map(|(filter, _)| filter).collect();
        let mut pushed: Vec<Pushed> = pushed.into_iter().flatten().collect();
        // An exact filter must be sent, nobody repeats it; of the others as many as servers take.
        pushed.sort_by_key(|p| (p.precision != Precision::Exact, p.clauses));
        let mut clauses = vec![self.spec.query.clone()];
        let mut count = 0;
        for filter in pushed {
            count += filter.clauses;
            if filter.precision == Precision::Exact || count <= MAX_CLAUSES {
                clauses.push(filter.query);
            }
        }
        let query = match clauses.len() {
            1 => self.spec.query.clone(),
            _ => json!({ "bool": { "filter": clauses } }),
        };
        PlannedFilters { query, all_exact, strict }
    }

    fn push(&self, filter: &Expr) -> Option<Pushed> {
        match self.spec.pushdown {
            Pushdown::On => translate(filter, &self.spec.columns, self.spec.ignored),
            // Nobody else can answer it.
            Pushdown::Off if asks_match(filter) => translate(filter, &self.spec.columns, self.spec.ignored),
            Pushdown::Off => None,
        }
    }
}

/// The filters of one scan.
struct PlannedFilters<'a> {
    /// The base query with them.
    query: Value,
    /// The query finds what all of them keep, so that DataFusion repeats none.
    all_exact: bool,
    /// Those that DataFusion repeats although the query finds no document too many; none if there is a
    /// filter that is not sent.
    strict: Vec<&'a Expr>,
}

impl PlannedFilters<'_> {
    /// How many rows of a slice are enough. DataFusion may still drop rows where it filters again: then
    /// there is no such number.
    fn row_limit(&self, limit: Option<usize>) -> Option<NonZeroU32> {
        // LIMIT 0 reads nothing before it gets here.
        limit.filter(|_| self.all_exact).and_then(|limit| NonZeroU32::new(u32::try_from(limit).ok()?))
    }

    /// The strict ones as the plan over the scan has them.
    fn strict_over(&self, state: &dyn Session, scan: &EsScanExec) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        let schema = DFSchema::try_from(scan.schema())?;
        let strict = self.strict.iter();
        // What is repeated has its columns read.
        Ok(strict.filter_map(|&filter| state.create_physical_expr(filter.clone(), &schema).ok()).collect())
    }
}

/// Whether a server may have left out a keyword for its length.
fn has_long_keywords(mappings: &[IndexMapping]) -> bool {
    mappings.iter().any(|index| index.mapping.to_string().contains("\"ignore_above\""))
}

/// A list that no field has the name of is a slip: the field that was meant would stay scalar.
fn check_arrays(arrays: &BTreeSet<String>, columns: &[Column], index: &str) -> Result<()> {
    let names = || columns.iter().map(|column| column.name.as_str());
    for array in arrays {
        if !names().any(|name| name == array) {
            let nearest = elastic_client::nearest(array, names());
            return Err(DataFusionError::Configuration(format!(
                "table option arrays: index \"{index}\" has no field \"{array}\"{}",
                nearest.map(|name| format!(", did you mean \"{name}\"?")).unwrap_or_default()
            )));
        }
    }
    Ok(())
}

#[async_trait]
impl TableProvider for EsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let mut supports = Vec::with_capacity(filters.len());
        for filter in filters {
            supports.push(match self.push(filter) {
                Some(pushed) if pushed.precision == Precision::Exact => TableProviderFilterPushDown::Exact,
                _ if asks_match(filter) => return Err(match_refused()),
                Some(_) => TableProviderFilterPushDown::Inexact,
                None => TableProviderFilterPushDown::Unsupported,
            });
        }
        Ok(supports)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let slices = match &self.spec.open_slices {
            Some(slices) => slices.clone(),
            None => {
                // Nobody opened one for the whole query: this scan has its own, which the server
                // drops after keep_alive.
                let live = self.registry.get(&self.spec.connection).map_err(from_client)?;
                open_context(&live, &self.spec.context_request()).await.map_err(from_client)?.slices
            }
        };
        let columns = match projection {
            Some(indices) => indices.iter().map(|&i| self.spec.columns[i].clone()).collect(),
            None => self.spec.columns.clone(),
        };
        let planned = self.plan_filters(filters);
        let spec = ScanSpec {
            connection: self.spec.connection.clone(),
            index: self.spec.index.clone(),
            columns,
            query: planned.query.clone(),
            read: self.spec.read,
            limit: planned.row_limit(limit),
            order: Vec::new(),
            pushdown: self.spec.pushdown,
            ignored: match self.spec.ignored {
                Ignored::Error => Some(self.spec.query.clone()),
                Ignored::Null => None,
            },
        };
        let partitions = group_slices(slices, self.spec.slices);
        let scan = EsScanExec::try_new(Arc::clone(&self.registry), spec, &partitions)?;
        let strict = planned.strict_over(state, &scan)?;
        Ok(Arc::new(scan.with_strict(strict)))
    }
}
