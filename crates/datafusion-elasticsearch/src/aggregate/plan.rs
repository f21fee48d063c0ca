//! A partial aggregate as the server computes it.
//!
//! Owns: the grouping sets and measures of a plan. Must not know: requests.

use super::keys::{Key, key_of};
use super::measures::{Measure, measure_of};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, PhysicalGroupBy};
use datafusion::physical_plan::projection::ProjectionExec;
use elastic_arrow::Column;
use std::sync::Arc;

/// What the server computes for a partial aggregate.
#[derive(Clone, Debug)]
pub(crate) struct AggregatePlan {
    /// The columns of the scan.
    pub(crate) columns: Vec<Column>,
    /// The groups, with expressions over the columns of the scan.
    pub(crate) group_by: PhysicalGroupBy,
    /// The keys of each grouping set, in the order of `group_by.groups()`. A single set without keys if nothing is
    /// grouped.
    pub(crate) sets: Vec<Vec<Key>>,
    pub(crate) measures: Vec<Measure>,
}

impl AggregatePlan {
    /// Returns the columns whose values are counted, each once: those of the measures, and those of keys of which the
    /// groups do not show several values of a document.
    pub(crate) fn counted(&self) -> Vec<usize> {
        let measured = self.measures.iter().filter_map(|measure| measure.column());
        let keys = self.sets.iter().flatten().filter(|key| key.hides_several(&self.columns));
        distinct(measured.chain(keys.map(|key| key.column)))
    }

    /// Returns the columns that are added up, each once.
    pub(crate) fn summed(&self) -> Vec<usize> {
        distinct(self.measures.iter().filter_map(|measure| measure.summed()))
    }

    pub(crate) fn name(&self, column: usize) -> &str {
        &self.columns[column].name
    }
}

fn distinct(places: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut places: Vec<usize> = places.collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// Returns the plan for a partial aggregate over projections over a scan with `columns`. The inner `Err` says why the
/// server cannot compute it.
pub(super) fn plan(
    aggregate: &AggregateExec,
    columns: &[Column],
) -> Result<std::result::Result<AggregatePlan, String>> {
    let group_by = aggregate.group_expr();
    if aggregate.filter_expr().iter().any(Option::is_some) {
        return Ok(Err("an aggregate function has a FILTER".into()));
    }
    let mut exprs = Vec::with_capacity(group_by.expr().len());
    for (expr, alias) in group_by.expr() {
        exprs.push((over_scan(expr, aggregate.input())?, alias.clone()));
    }
    let mut measures = Vec::with_capacity(aggregate.aggr_expr().len());
    for function in aggregate.aggr_expr() {
        let args = function.expressions();
        let args = args.iter().map(|arg| over_scan(arg, aggregate.input())).collect::<Result<Vec<_>>>()?;
        match measure_of(function, &args, columns) {
            Ok(measure) => measures.push(measure),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    let keys: std::result::Result<Vec<Key>, String> =
        exprs.iter().map(|(expr, _)| key_of(expr, columns)).collect();
    let keys = match keys {
        Ok(keys) => keys,
        Err(reason) => return Ok(Err(reason)),
    };
    let sets = match group_by.is_true_no_grouping() {
        true => vec![Vec::new()],
        false => group_by.groups().iter().map(|nulls| present(&keys, nulls)).collect(),
    };
    let null_exprs = group_by.null_expr().to_vec();
    let group_by =
        PhysicalGroupBy::new(exprs, null_exprs, group_by.groups().to_vec(), group_by.has_grouping_set());
    Ok(Ok(AggregatePlan { columns: columns.to_vec(), group_by, sets, measures }))
}

/// Returns the keys of a grouping set. Two expressions over one column group by the finer key, which is a value.
fn present(keys: &[Key], nulls: &[bool]) -> Vec<Key> {
    let mut present: Vec<Key> = Vec::new();
    for (key, _) in keys.iter().zip(nulls).filter(|(_, is_null)| !**is_null) {
        match present.iter_mut().find(|other| other.column == key.column) {
            Some(other) if other.by != key.by => other.by = super::keys::KeyBy::Value,
            Some(_) => {}
            None => present.push(*key),
        }
    }
    present
}

/// Rewrites an expression over `plan` to one over the scan below its projections.
fn over_scan(expr: &Arc<dyn PhysicalExpr>, plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn PhysicalExpr>> {
    let Some(projection) = plan.downcast_ref::<ProjectionExec>() else { return Ok(Arc::clone(expr)) };
    let rewritten = Arc::clone(expr).transform_down(|expr| {
        let Some(column) = expr.downcast_ref::<PhysicalColumn>() else { return Ok(Transformed::no(expr)) };
        let Some(projected) = projection.expr().get(column.index()) else {
            return Err(DataFusionError::Internal(format!("{column} is no column of a projection")));
        };
        Ok(Transformed::new(
            Arc::clone(&projected.expr),
            true,
            datafusion::common::tree_node::TreeNodeRecursion::Jump,
        ))
    })?;
    over_scan(&rewritten.data, projection.input())
}
