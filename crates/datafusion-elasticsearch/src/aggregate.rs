//! Aggregates pushed down: the server groups and counts the documents of each slice.
//!
//! Owns: the optimizer rule, and which part of a plan it replaces. Must not know: requests.
//!
//! A module uses only modules that precede it in this list. `keys` says which expressions the server can group by,
//! `measures` which aggregate functions it can compute, and `plan` combines both. `request` writes the aggregations of
//! a slice, `groups` reads and verifies the response, and `state` turns groups into the rows of a partial aggregate.
//! `exec` is the plan node.
//!
//! Each slice proves its own groups: the counts of all groups and of the documents without a value add up to the
//! documents of the slice. If they do not, because a document has several values or there are too many groups, that
//! slice is scanned in the same search context. So the result never differs from the one without this rule.

mod exec;
mod groups;
mod keys;
mod measures;
mod plan;
mod request;
mod state;

pub use exec::EsAggregateExec;

use crate::exec::EsScanExec;
use crate::options::{Aggregate, Pushdown};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use std::sync::Arc;

/// The optimizer rule that replaces a partial aggregate over a scan by an [`EsAggregateExec`].
///
/// The table option `aggregate` says whether it may. A scan that the rule leaves alone shows the reason in `EXPLAIN`.
#[derive(Debug, Default)]
pub struct PushAggregates;

impl PhysicalOptimizerRule for PushAggregates {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let pushed = plan.transform_up(|node| {
            let Some(aggregate) = node.downcast_ref::<AggregateExec>() else {
                return Ok(Transformed::no(node));
            };
            match push(aggregate)? {
                Some(pushed) => Ok(Transformed::yes(pushed)),
                None => Ok(Transformed::no(node)),
            }
        })?;
        Ok(pushed.data)
    }

    fn name(&self) -> &str {
        "PushAggregates"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Returns what replaces an aggregate over a scan; `None` if there is no scan below, or nothing changes.
fn push(aggregate: &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if !matches!(
        aggregate.mode(),
        AggregateMode::Partial | AggregateMode::Single | AggregateMode::SinglePartitioned
    ) {
        return Ok(None);
    }
    let Some(input) = scan_input(aggregate.input())? else { return Ok(None) };
    let Some(scan) = find_scan(&input) else { return Ok(None) };
    if scan.spec().aggregate == Aggregate::Never || scan.spec().pushdown == Pushdown::Off {
        return Ok(None);
    }
    let partial = AggregateExec::try_new(
        AggregateMode::Partial,
        aggregate.group_expr().clone(),
        aggregate.aggr_expr().to_vec(),
        aggregate.filter_expr().to_vec(),
        input,
        aggregate.input_schema(),
    )?;
    let pushed = match EsAggregateExec::try_new(Arc::new(partial))? {
        Ok(pushed) => pushed,
        Err(reason) => return explained(aggregate, reason).map(Some),
    };
    if *aggregate.mode() == AggregateMode::Partial {
        return Ok(Some(Arc::new(pushed)));
    }
    // A single aggregate has one partition, or partitions that share no group.
    let pushed: Arc<dyn ExecutionPlan> = Arc::new(pushed);
    let schema = aggregate.input_schema();
    let mode = match aggregate.mode() {
        AggregateMode::SinglePartitioned => AggregateMode::FinalPartitioned,
        _ => AggregateMode::Final,
    };
    let unfiltered = vec![None; aggregate.aggr_expr().len()];
    let merged = AggregateExec::try_new(
        mode,
        aggregate.group_expr().as_final(),
        aggregate.aggr_expr().to_vec(),
        unfiltered,
        pushed,
        schema,
    )?;
    Ok(Some(Arc::new(merged)))
}

/// Returns the aggregate over a scan that shows why it is not replaced.
fn explained(aggregate: &AggregateExec, reason: String) -> Result<Arc<dyn ExecutionPlan>> {
    let input =
        Arc::clone(aggregate.input()).transform_down(|node| match node.downcast_ref::<EsScanExec>() {
            Some(scan) => Ok(Transformed::yes(Arc::new(scan.not_aggregated(reason.clone())) as _)),
            None => Ok(Transformed::no(node)),
        })?;
    replace_children_if_necessary(Arc::new(aggregate.clone()), vec![input.data])
}

/// Returns the plan between an aggregate and its scan without the nodes that only spread rows over more partitions.
/// `None` if a node other than a projection is between, or there is no scan.
fn scan_input(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if plan.is::<EsScanExec>() {
        return Ok(Some(Arc::clone(plan)));
    }
    if plan.is::<RepartitionExec>() || plan.is::<CooperativeExec>() {
        return scan_input(plan.children()[0]);
    }
    if !plan.is::<ProjectionExec>() {
        return Ok(None);
    }
    match scan_input(plan.children()[0])? {
        Some(input) => replace_children_if_necessary(Arc::clone(plan), vec![input]).map(Some),
        None => Ok(None),
    }
}

/// Returns the scan below projections.
pub(crate) fn find_scan(plan: &Arc<dyn ExecutionPlan>) -> Option<&EsScanExec> {
    match plan.downcast_ref::<EsScanExec>() {
        Some(scan) => Some(scan),
        None if plan.is::<ProjectionExec>() => find_scan(plan.children()[0]),
        None => None,
    }
}

#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod response_tests;
#[cfg(test)]
mod tests;
