//! An Elasticsearch or OpenSearch index as a DataFusion table.
//!
//! Owns: the columns, and the plan of a scan. Must not know: how plans are serialized.

use crate::error::{from_arrow, from_client};
use crate::exec::EsScanExec;
use crate::functions::match_refused;
use crate::options::{Ignored, Pushdown, TableOptions};
use crate::pushdown::{MAX_CLAUSES, Precision, Pushed, asks_match, translate};
use crate::spec::{ScanSpec, TableSpec};
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use elastic_arrow::{
    Column, ConstantKeywords, IndexMapping, LongKeywords, ReadFrom, SchemaOptions, plan_columns, to_schema,
};
use elastic_client::{
    ConnectionRegistry, IndexMappings, Product, Server, check_query, distinct_mappings, fetch_count,
    fetch_mappings, fetch_older_than, fetch_server, fetch_shards, group_slices, open_context,
};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;

/// A table over an index, an index pattern or an alias. It implements [`TableProvider`] and does not store rows.
#[derive(Debug, Clone)]
pub struct EsTable {
    registry: Arc<ConnectionRegistry>,
    spec: TableSpec,
    schema: SchemaRef,
}

impl EsTable {
    /// Opens a table: reads the mappings of all indices that `index` resolves to, and derives the columns from
    /// them. `connection` is a name in `registry`. `options` are parsed by [`TableOptions::parse`].
    ///
    /// With the option `docs_per_slice` it also counts the documents, and derives the number of slices from the
    /// count.
    ///
    /// # Errors
    ///
    /// Returns an error if an option is invalid, the connection is unknown, or a request fails. It also fails if
    /// the mappings conflict, the server rejects the base query, or the option `arrays` names a missing field.
    pub async fn try_new(
        registry: Arc<ConnectionRegistry>,
        connection: &str,
        index: &str,
        options: &HashMap<String, String>,
    ) -> Result<Self> {
        let options = TableOptions::parse(options)?;
        let live = registry.get(connection).map_err(from_client)?;
        let mappings = fetch_mappings(&live, index).await.map_err(from_client)?;
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
        let mappings: Vec<IndexMapping> =
            mappings.into_iter().map(|(index, mapping)| IndexMapping { index, mapping }).collect();
        let columns = plan_columns(&mappings, &schema_options).map_err(from_arrow)?;
        check_arrays(&schema_options.arrays, &columns, index)?;
        let slices = match options.docs_per_slice {
            Some(most) => {
                let count = fetch_count(&live, index, &options.query).await.map_err(from_client)?;
                let slices = count.div_ceil(most.get().into());
                let shards = fetch_shards(&live, index).await.map_err(from_client)?;
                // Fewer slices than shards would only reduce the number of partitions.
                let more = slices > shards.iter().map(|index| u64::from(index.shards)).sum();
                NonZeroU32::new(slices.try_into().unwrap_or(u32::MAX)).filter(|_| more)
            }
            None => {
                // A base query that the server cannot parse fails here, not in the first scan.
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
                aggregate: options.aggregate,
                ignored: options.ignored,
                single: Vec::new(),
                ignored_checked: false,
                open_slices: None,
            },
        ))
    }

    /// Builds a table from a spec, such as one that a client sent to the scheduler. No I/O.
    pub fn from_spec(registry: Arc<ConnectionRegistry>, spec: TableSpec) -> Self {
        let schema = to_schema(&spec.columns);
        Self { registry, spec, schema }
    }

    /// Returns what another process needs to build the same table with [`EsTable::from_spec`].
    pub fn spec(&self) -> &TableSpec {
        &self.spec
    }

    pub(crate) fn registry(&self) -> &Arc<ConnectionRegistry> {
        &self.registry
    }

    /// Plans the query that is sent to the server for these filters.
    fn plan_filters<'a>(&self, filters: &'a [Expr]) -> PlannedFilters<'a> {
        let pushed: Vec<Option<Pushed>> = filters.iter().map(|filter| self.push(filter)).collect();
        let is =
            |pushed: &Option<Pushed>, precision| pushed.as_ref().is_some_and(|p| p.precision == precision);
        let all_exact = pushed.iter().all(|pushed| is(pushed, Precision::Exact));
        let all_sent = pushed.iter().flatten().map(|p| p.clauses).sum::<usize>() <= MAX_CLAUSES;
        let strict = filters.iter().zip(&pushed).filter(|(_, p)| all_sent && is(p, Precision::Strict));
        let strict = strict.map(|(filter, _)| filter).collect();
        let mut pushed: Vec<Pushed> = pushed.into_iter().flatten().collect();
        // Every exact filter must be sent, because DataFusion does not repeat it. Of the others, send as many
        // clauses as servers accept.
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

    /// Returns the query for these filters, and the columns of the strict ones. If none of these columns has several
    /// values in a document that the query finds, the filters are exact.
    pub(crate) fn filter_columns(&self, filters: &[Expr]) -> (Value, BTreeSet<String>) {
        let planned = self.plan_filters(filters);
        let names = planned.strict.iter().flat_map(|filter| filter.column_refs());
        let names: BTreeSet<String> = names.map(|column| column.name.clone()).collect();
        let provable =
            |column: &&Column| !column.array && matches!(column.read_from, ReadFrom::DocValues { .. });
        let columns = self.spec.columns.iter().filter(provable).map(|column| column.name.clone());
        (planned.query, columns.filter(|name| names.contains(name)).collect())
    }

    fn push(&self, filter: &Expr) -> Option<Pushed> {
        let mut pushed = self.translate(filter)?;
        let is_single = |name: &str| self.spec.single.iter().any(|single| single == name);
        if pushed.precision == Precision::Strict && filter.column_refs().iter().all(|c| is_single(&c.name)) {
            pushed.precision = Precision::Exact;
        }
        Some(pushed)
    }

    fn translate(&self, filter: &Expr) -> Option<Pushed> {
        match self.spec.pushdown {
            Pushdown::On => translate(filter, &self.spec.columns, self.spec.ignored),
            // Only the server can evaluate `match`.
            Pushdown::Off if asks_match(filter) => translate(filter, &self.spec.columns, self.spec.ignored),
            Pushdown::Off => None,
        }
    }
}

/// The filters of one scan.
struct PlannedFilters<'a> {
    /// The base query combined with the pushed filters.
    query: Value,
    /// Every filter is exact, so that DataFusion repeats none.
    all_exact: bool,
    /// Filters that DataFusion repeats although the query finds no extra document. Empty if a filter is not sent.
    strict: Vec<&'a Expr>,
}

impl PlannedFilters<'_> {
    /// Returns how many rows of a slice are enough, or `None` if DataFusion may drop rows in a later filter.
    fn row_limit(&self, limit: Option<usize>) -> Option<NonZeroU32> {
        // `LIMIT 0` never gets here: DataFusion plans no scan for it.
        limit.filter(|_| self.all_exact).and_then(|limit| NonZeroU32::new(u32::try_from(limit).ok()?))
    }

    /// Returns the strict filters as physical expressions, in the form that the plan above the scan has them.
    fn strict_over(&self, state: &dyn Session, scan: &EsScanExec) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        let schema = DFSchema::try_from(scan.schema())?;
        let strict = self.strict.iter();
        // The scan reads the columns of every filter that DataFusion repeats.
        Ok(strict.filter_map(|&filter| state.create_physical_expr(filter.clone(), &schema).ok()).collect())
    }
}

/// Whether a server may have dropped keywords by `ignore_above`.
fn has_long_keywords(mappings: &IndexMappings) -> bool {
    distinct_mappings(mappings).any(|mapping| mapping.to_string().contains("\"ignore_above\""))
}

/// A name in `arrays` that matches no field is a typo: the field that was meant would stay scalar.
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
                // No context was opened for the whole query, so this scan opens its own. The server drops it after
                // `keep_alive`.
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
            aggregate: self.spec.aggregate,
            ignored: match self.spec.ignored {
                Ignored::Error if !self.spec.ignored_checked => Some(self.spec.query.clone()),
                Ignored::Error | Ignored::Null => None,
            },
        };
        let partitions = group_slices(slices, self.spec.slices);
        let scan = EsScanExec::try_new(Arc::clone(&self.registry), spec, &partitions)?;
        let strict = planned.strict_over(state, &scan)?;
        Ok(Arc::new(scan.with_strict(strict)))
    }
}
