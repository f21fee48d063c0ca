//! One search context for all scans of an index in a query.
//!
//! Owns: opening search contexts before the plan is submitted, which documents the scans of each need, and closing them
//! after. Must not know: where the plan is executed.

use crate::decode::ignored_names;
use crate::error::from_client;
use crate::options::Ignored;
use crate::spec::TableSpec;
use crate::table::EsTable;
use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::internal_err;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, TableScan};
use elastic_arrow::Column;
use elastic_client::{
    Connection, ContextKind, ContextRequest, KeepAlive, ReadMode, SearchContext, close_context,
    close_context_soon, keep_context, open_context,
};
use futures::future::join_all;
use serde_json::{Value, json};
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

    /// Returns how many indices were skipped, because no document in them matches.
    pub fn skipped_indices(&self) -> usize {
        self.contexts.iter().map(|open| open.context.skipped_indices).sum()
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
    open(plan, &HashMap::new()).await
}

/// Opens search contexts as [`open_contexts`] does, but skips each index in which the filters of the plan find no
/// document. The server is asked for them, if the index of a table is a pattern or an alias; names of indices prove
/// nothing. The filters are those that the optimizer of `state` pushes into the scans.
///
/// # Errors
///
/// Those of [`open_contexts`], and an error if the plan cannot be optimized.
pub async fn open_matching_contexts(
    plan: LogicalPlan,
    state: &SessionState,
) -> Result<(LogicalPlan, QueryContexts)> {
    let matching = matching_queries(&plan, state)?;
    open(plan, &matching).await
}

async fn open(
    plan: LogicalPlan,
    matching: &HashMap<ContextKey, Value>,
) -> Result<(LogicalPlan, QueryContexts)> {
    // A statement that is stored for later, such as a view, must not keep a search context of today.
    if matches!(plan, LogicalPlan::Ddl(DdlStatement::CreateView(_)) | LogicalPlan::Statement(_)) {
        return Ok((plan, QueryContexts::default()));
    }
    let tables = unopened(&plan)?;
    let mut keys: Vec<ContextKey> = Vec::new();
    for key in tables.iter().map(key) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let opening = keys.iter().map(|key| open_one(key, &tables, matching.get(key)));
    let (mut open, mut first_error) = (QueryContexts::default(), None);
    for opened in join_all(opening).await {
        match opened {
            Ok(context) => open.contexts.push(context),
            Err(e) => first_error = first_error.or(Some(e)),
        }
    }
    if let Some(error) = first_error {
        open.close().await.ok();
        return Err(error);
    }
    let contexts: HashMap<ContextKey, &SearchContext> =
        keys.into_iter().zip(open.contexts.iter().map(|open| &open.context)).collect();
    let slices = |table: &EsTable| Some(contexts.get(&key(table))?.sliced(table.spec().slices));
    let reads = tables.iter().filter_map(slices).map(|slices| slices.len()).sum();
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
    open.reads = reads;
    Ok((plan.data, open))
}

/// Opens the search context of all `tables` with this key.
async fn open_one(key: &ContextKey, tables: &[EsTable], matching: Option<&Value>) -> Result<OpenContext> {
    let sharing: Vec<&EsTable> = tables.iter().filter(|table| self::key(table) == *key).collect();
    let specs: Vec<&TableSpec> = sharing.iter().map(|table| table.spec()).collect();
    let (Some(first), Some(spec)) = (sharing.first(), specs.first()) else {
        return internal_err!("no table of index \"{}\" has no search context", key.1);
    };
    let mut request = shared_request(spec, &specs);
    request.matching = matching.cloned();
    let connection = first.registry().get(&spec.connection).map_err(from_client)?;
    let context = open_context(&connection, &request).await.map_err(from_client)?;
    let kind = context.kind;
    let open = OpenContext::new(connection, context, request.read.keep_alive);
    if let Err(e) = check_reads(kind, &specs) {
        QueryContexts { contexts: vec![open], reads: 0 }.close().await.ok();
        return Err(e);
    }
    Ok(open)
}

/// Returns the tables that have no search context.
fn unopened(plan: &LogicalPlan) -> Result<Vec<EsTable>> {
    let mut tables: Vec<EsTable> = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            tables.extend(es_table(scan).filter(|table| table.spec().open_slices.is_none()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(tables)
}

/// Returns for each search context the query that finds every document of which its scans need to know. A context
/// without filters has none.
fn matching_queries(plan: &LogicalPlan, state: &SessionState) -> Result<HashMap<ContextKey, Value>> {
    let mut queries: HashMap<ContextKey, Vec<Value>> = HashMap::new();
    if unopened(plan)?.is_empty() {
        return Ok(HashMap::new());
    }
    state.optimize(plan)?.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(table) = es_table(scan).filter(|table| table.spec().open_slices.is_none())
        {
            let of_context = queries.entry(key(&table)).or_default();
            let query = scan_query(&table, scan);
            if !of_context.contains(&query) {
                of_context.push(query);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let everything = json!({ "match_all": {} });
    queries.retain(|_, of_context| !of_context.contains(&everything));
    let any = |queries| json!({ "bool": { "should": queries } });
    Ok(queries.into_iter().map(|(key, of_context)| (key, any(of_context))).collect())
}

/// Returns the query that finds every document that a scan reads or must refuse.
fn scan_query(table: &EsTable, scan: &TableScan) -> Value {
    let (query, _) = table.filter_columns(&scan.filters);
    let spec = table.spec();
    let fields = match (spec.ignored, &scan.projection) {
        (Ignored::Null, _) => Vec::new(),
        (Ignored::Error, None) => ignored_names(&spec.columns),
        (Ignored::Error, Some(places)) => {
            let columns: Vec<Column> = places.iter().map(|&place| spec.columns[place].clone()).collect();
            ignored_names(&columns)
        }
    };
    if fields.is_empty() || query == spec.query {
        return query;
    }
    // A filter does not find a document whose value was dropped, and such a document is an error.
    let dropped = json!({ "bool": { "filter": [spec.query, { "terms": { "_ignored": fields } }] } });
    json!({ "bool": { "should": [query, dropped] } })
}

/// The connection and the index of a search context.
type ContextKey = (String, String);

/// Tables with the same key share a search context.
fn key(table: &EsTable) -> ContextKey {
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
