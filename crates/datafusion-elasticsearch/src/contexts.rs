//! One search context for all scans of an index in a query.
//!
//! Owns: opening search contexts before the plan is submitted, and closing them after. Must not know: where the
//! plan is executed.

use crate::error::from_client;
use crate::spec::TableSpec;
use crate::table::EsTable;
use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{DdlStatement, LogicalPlan, TableScan};
use elastic_client::{
    Connection, ContextKind, ContextRequest, KeepAlive, ReadMode, SearchContext, close_context,
    close_context_soon, keep_context, open_context,
};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;

/// The search contexts of a query. They are kept alive until this value is dropped. If it is dropped without
/// [`QueryContexts::close`], they are closed in the background.
#[derive(Debug, Default)]
pub struct QueryContexts {
    contexts: Vec<OpenContext>,
    reads: usize,
}

#[derive(Debug)]
struct OpenContext {
    connection: Arc<Connection>,
    context: SearchContext,
    closed: bool,
    _renewal: AbortOnDropHandle<()>,
}

impl OpenContext {
    fn new(connection: Arc<Connection>, context: SearchContext, keep_alive: KeepAlive) -> Self {
        let renewal = {
            let (connection, context) = (Arc::clone(&connection), context.clone());
            tokio::spawn(async move { keep_context(&connection, &context, keep_alive).await })
        };
        Self { connection, context, closed: false, _renewal: AbortOnDropHandle::new(renewal) }
    }
}

impl Drop for OpenContext {
    fn drop(&mut self) {
        if !self.closed {
            close_context_soon(&self.connection, &self.context);
        }
    }
}

impl QueryContexts {
    /// Closes all search contexts.
    ///
    /// # Errors
    ///
    /// Returns the first failure, after all contexts were tried.
    pub async fn close(mut self) -> Result<()> {
        let mut first = Ok(());
        for open in &mut self.contexts {
            if let Err(e) = close_context(&open.connection, &open.context).await {
                first = first.and(Err(from_client(e)));
            }
            open.closed = true;
        }
        first
    }

    /// Returns the kind of the first search context; `None` if the query reads no index.
    pub fn kind(&self) -> Option<ContextKind> {
        self.contexts.first().map(|open| open.context.kind)
    }

    /// Returns how many slices all scans read. A table that is scanned twice counts each of its slices twice.
    pub fn reads(&self) -> usize {
        self.reads
    }

    /// Returns how many slices all search contexts have.
    pub fn slices(&self) -> usize {
        self.contexts.iter().map(|open| open.context.slices.len()).sum()
    }
}

fn es_table(scan: &TableScan) -> Option<EsTable> {
    let provider = source_as_provider(&scan.source).ok()?;
    (provider.as_ref() as &dyn std::any::Any).downcast_ref::<EsTable>().cloned()
}

/// Returns how many slices the scans of Elasticsearch tables in `plan` have together, after [`open_contexts`]
/// opened them.
///
/// # Errors
///
/// Returns an error if DataFusion cannot traverse the plan.
pub fn planned_slices(plan: &LogicalPlan) -> Result<usize> {
    let mut slices = 0;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let table = es_table(scan);
            slices += table.and_then(|table| Some(table.spec().open_slices.as_ref()?.len())).unwrap_or(0);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(slices)
}

/// Opens one search context for each index that `plan` reads, and returns the plan with the slices of these
/// contexts. All scans of an index share its context; each has the number of slices that its table asks for.
///
/// See point in time in
/// [Elasticsearch](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/point-in-time-api.html) and
/// [OpenSearch](https://docs.opensearch.org/latest/search-plugins/searching-data/point-in-time-api/), and
/// [scroll](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/scroll-api.html).
///
/// # Errors
///
/// Returns an error if a server rejects a request. It also fails if one index is read by scroll for one table and
/// from a point in time for another, because these are two states of the index.
pub async fn open_contexts(plan: LogicalPlan) -> Result<(LogicalPlan, QueryContexts)> {
    // A statement that is stored for later, such as a view, must not keep a search context of today.
    if matches!(plan, LogicalPlan::Ddl(DdlStatement::CreateView(_)) | LogicalPlan::Statement(_)) {
        return Ok((plan, QueryContexts::default()));
    }
    let mut tables: Vec<EsTable> = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            tables.extend(es_table(scan).filter(|t| t.spec().open_slices.is_none()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let mut open = QueryContexts::default();
    let mut contexts: HashMap<(String, String), SearchContext> = HashMap::new();
    for table in &tables {
        let key = key(table);
        if contexts.contains_key(&key) {
            continue;
        }
        let sharing: Vec<&TableSpec> =
            tables.iter().filter(|other| self::key(other) == key).map(EsTable::spec).collect();
        let request = shared_request(table.spec(), &sharing);
        let opened = async {
            let connection = table.registry().get(&table.spec().connection)?;
            let context = open_context(&connection, &request).await?;
            Ok((connection, context))
        };
        match opened.await.map_err(from_client) {
            Ok((connection, context)) => {
                let kind = context.kind;
                open.contexts.push(OpenContext::new(connection, context.clone(), request.read.keep_alive));
                if let Err(e) = check_reads(kind, &sharing) {
                    open.close().await.ok();
                    return Err(e);
                }
                contexts.insert(key, context);
            }
            Err(e) => {
                open.close().await.ok();
                return Err(e);
            }
        }
    }
    let slices = |table: &EsTable| Some(contexts.get(&key(table))?.sliced(table.spec().slices));
    open.reads = tables.iter().filter_map(slices).map(|slices| slices.len()).sum();
    let plan = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        let table = es_table(&scan).filter(|table| table.spec().open_slices.is_none());
        let Some((slices, table)) = table.and_then(|table| Some((slices(&table)?, table))) else {
            return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
        };
        let mut spec = table.spec().clone();
        spec.open_slices = Some(slices);
        scan.source = provider_as_source(Arc::new(EsTable::from_spec(Arc::clone(table.registry()), spec)));
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    })?;
    Ok((plan.data, open))
}

/// Tables with the same key share a search context.
fn key(table: &EsTable) -> (String, String) {
    (table.spec().connection.clone(), table.spec().index.clone())
}

/// Returns the request for all tables that share a context: the strictest read mode, and the longest keep-alive.
fn shared_request(first: &TableSpec, sharing: &[&TableSpec]) -> ContextRequest {
    let mut request = first.context_request();
    let read = &mut request.read;
    for table in sharing {
        let other = table.read;
        read.keep_alive = read.keep_alive.max(other.keep_alive);
        read.mode = match (read.mode, other.mode) {
            (ReadMode::Pit, _) | (_, ReadMode::Pit) => ReadMode::Pit,
            (ReadMode::Auto, _) | (_, ReadMode::Auto) => ReadMode::Auto,
            (ReadMode::Scroll, ReadMode::Scroll) => ReadMode::Scroll,
        };
    }
    request
}

/// Checks that the read mode of every table allows the kind of the context that was opened.
fn check_reads(kind: ContextKind, sharing: &[&TableSpec]) -> Result<()> {
    let by_scroll = |table: &&&TableSpec| table.read.mode == ReadMode::Scroll;
    match sharing.iter().find(by_scroll) {
        Some(table) if kind != ContextKind::Scroll => Err(DataFusionError::Configuration(format!(
            "two tables of one statement over index \"{}\" read two states of it, one from a point in time and \
             one by scroll: give both the same option read",
            table.index
        ))),
        Some(_) | None => Ok(()),
    }
}
