//! What is proved of the documents of a query before it is planned.
//!
//! Owns: the requests that make filters exact, and that find dropped values. Must not know: where the plan is executed.
//!
//! Any field of a document may have several values, so a filter is [strict](crate::pushdown::Precision), not exact: its
//! column is read and the filter is repeated, only to detect such a document. Here the server is asked once for each
//! point in time whether there is one among the documents that the query finds: the number of values of a field equals
//! the number of documents with the field. Where it does, the filter is exact. Its column is not read, and a LIMIT, a
//! count or an aggregate above is pushed down.
//!
//! The proof holds for the documents that all filters of the scan find together. Another plan may apply one of these
//! filters above the scan. Then the scan returns more documents, and that filter drops exactly the additional ones.

use crate::decode::ignored_names;
use crate::error::from_client;
use crate::options::{Ignored, Pushdown};
use crate::spec::TableSpec;
use crate::table::EsTable;
use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Explain, Expr, LogicalPlan, TableScan};
use elastic_arrow::Column;
use elastic_client::{Connection, Error, IgnoredValues, Slice, SliceSource, fetch_single, refuse_ignored};
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most concurrent requests.
const CONCURRENT_REQUESTS: usize = 16;

/// Returns the optimized `plan` in which each scan of a point in time knows which of its filters are exact, and that no
/// document has dropped values. Call it after [`open_contexts`](crate::open_contexts); without it, filters are repeated
/// and every slice looks for dropped values itself.
///
/// # Errors
///
/// Returns an error if the plan cannot be optimized, a request fails, or a document has a value that `ignore_above` or
/// `ignore_malformed` dropped and the table does not read these as null.
pub async fn prove_filters(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    if let LogicalPlan::Explain(explain) = plan {
        let inner = Box::pin(prove_filters(explain.plan.as_ref().clone(), state)).await?;
        return Ok(LogicalPlan::Explain(Explain { plan: Arc::new(inner), ..explain }));
    }
    if scans(&plan)?.is_empty() {
        return Ok(plan);
    }
    let plan = state.optimize(&plan)?;
    let mut proved: Vec<Proved> = Vec::new();
    for (table, scan) in scans(&plan)? {
        if find(&proved, &table, &scan).is_none() {
            let spec = prove(&table, &scan).await.map_err(from_client)?;
            let before = table.spec().clone();
            proved.push(Proved { before, projection: scan.projection, filters: scan.filters, spec });
        }
    }
    let plan = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        let found = es_table(&scan).and_then(|table| {
            let spec = find(&proved, &table, &scan)?.clone();
            Some((table, spec))
        });
        let Some((table, spec)) = found else {
            return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
        };
        scan.source = provider_as_source(Arc::new(EsTable::from_spec(Arc::clone(table.registry()), spec)));
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    })?;
    Ok(plan.data)
}

/// Returns the scans whose search context is open, and that read points in time.
fn scans(plan: &LogicalPlan) -> Result<Vec<(EsTable, TableScan)>> {
    let mut scans = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let table = es_table(scan).filter(|table| !points_in_time(table.spec()).is_empty());
            scans.extend(table.map(|table| (table, scan.clone())));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(scans)
}

fn es_table(scan: &TableScan) -> Option<EsTable> {
    let provider = source_as_provider(&scan.source).ok()?;
    (provider.as_ref() as &dyn std::any::Any).downcast_ref::<EsTable>().cloned()
}

/// What was proved of a scan.
struct Proved {
    before: TableSpec,
    projection: Option<Vec<usize>>,
    filters: Vec<Expr>,
    spec: TableSpec,
}

/// Returns the spec for a scan that reads the same as one before. Two tables of one name may have different options: a
/// view keeps the table that it was made over.
fn find<'a>(proved: &'a [Proved], table: &EsTable, scan: &TableScan) -> Option<&'a TableSpec> {
    let is_same = |of: &&Proved| {
        of.before == *table.spec() && of.projection == scan.projection && of.filters == scan.filters
    };
    proved.iter().find(is_same).map(|of| &of.spec)
}

/// Returns each point in time of an open table once, whole. Empty if a slice is read by scroll.
fn points_in_time(spec: &TableSpec) -> Vec<Slice> {
    let mut whole: Vec<Slice> = Vec::new();
    for slice in spec.open_slices.iter().flatten() {
        let SliceSource::Pit { id, .. } = &slice.source else { return Vec::new() };
        let is_known =
            |other: &Slice| matches!(&other.source, SliceSource::Pit { id: known, .. } if known == id);
        // The slices of one point in time follow each other.
        if !whole.last().is_some_and(is_known) {
            whole.push(Slice { ordinal: 0, of: 1, cut: None, ..slice.clone() });
        }
    }
    whole
}

/// Returns the spec of a table with what is proved of the documents of one scan.
async fn prove(table: &EsTable, scan: &TableScan) -> std::result::Result<TableSpec, Error> {
    let mut spec = table.spec().clone();
    let connection = table.registry().get(&spec.connection)?;
    let columns: Vec<Column> = match &scan.projection {
        Some(places) => places.iter().map(|&place| spec.columns[place].clone()).collect(),
        None => spec.columns.clone(),
    };
    let (query, candidates) = match spec.pushdown {
        Pushdown::On => table.filter_columns(&scan.filters),
        Pushdown::Off => (spec.query.clone(), BTreeSet::new()),
    };
    let ignored = match spec.ignored {
        Ignored::Error => Some(IgnoredValues { fields: ignored_names(&columns), query: spec.query.clone() }),
        Ignored::Null => None,
    };
    let (ignored, query, candidates) = (&ignored, &query, &candidates);
    let (connection, spec_ref) = (&connection, &spec);
    let single = futures::stream::iter(points_in_time(&spec))
        .map(|pit| async move {
            let checked = async {
                match ignored {
                    Some(ignored) => {
                        refuse_ignored(connection, &pit, ignored, spec_ref.read.keep_alive).await
                    }
                    None => Ok(()),
                }
            };
            let single = find_single(connection, &pit, spec_ref, query, candidates);
            let ((), single) = tokio::try_join!(checked, single)?;
            Ok::<_, Error>(single)
        })
        .buffered(CONCURRENT_REQUESTS)
        .try_fold(candidates.clone(), |all, single| async move { Ok(&all & &single) })
        .await?;
    spec.single = single.into_iter().collect();
    spec.ignored_checked = true;
    Ok(spec)
}

/// Returns which of the fields have at most one value in each document of a point in time that `query` finds.
async fn find_single(
    connection: &Connection,
    pit: &Slice,
    spec: &TableSpec,
    query: &Value,
    fields: &BTreeSet<String>,
) -> std::result::Result<BTreeSet<String>, Error> {
    if fields.is_empty() {
        return Ok(BTreeSet::new());
    }
    match fetch_single(connection, pit, query, fields, spec.read.keep_alive).await {
        Ok(single) => Ok(single.fields),
        // Without the proof, the filters are repeated.
        Err(Error::Status { status, reason, .. }) if !matches!(status, 401 | 403 | 404) => {
            tracing::info!(index = pit.index, status, reason, "the filters of a scan are repeated");
            Ok(BTreeSet::new())
        }
        // A response that may lack documents proves nothing.
        Err(error @ Error::Incomplete { .. }) => {
            tracing::info!(index = pit.index, %error, "the filters of a scan are repeated");
            Ok(BTreeSet::new())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "prove_tests.rs"]
mod tests;
