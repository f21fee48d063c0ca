//! Top-N pushdown: sends `ORDER BY … LIMIT` to the scan.
//!
//! Owns: the optimizer rule, and the list of column types that servers and DataFusion sort alike. Must not know:
//! how rows are requested.
//!
//! Each slice returns its first `n` rows, and the sort above the scan keeps the first `n` of all. A document with
//! several values in a scalar column sorts by its least value, or by its greatest in descending order. So a
//! document that could be among the first by any value is read, and the scan reports it as an error, as everywhere
//! else.

use crate::exec::EsScanExec;
use crate::options::Pushdown;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{PhysicalSortExpr, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use elastic_arrow::{Column, FieldType, ReadFrom};
use elastic_client::SortKey;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The optimizer rule that gives a scan below a sort with a limit that order and limit.
#[derive(Debug, Default)]
pub struct TopN;

impl PhysicalOptimizerRule for TopN {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let found = plan.transform_down(|plan| {
            let Some(sort) = plan.downcast_ref::<SortExec>() else { return Ok(Transformed::no(plan)) };
            let Some(limit) = sort.fetch().and_then(|n| NonZeroU32::new(u32::try_from(n).ok()?)) else {
                return Ok(Transformed::no(plan));
            };
            match below(sort.input(), &ordered_columns(sort.expr()), limit)? {
                Some(input) => Ok(Transformed::yes(replace_children_if_necessary(plan, vec![input])?)),
                None => Ok(Transformed::no(plan)),
            }
        })?;
        Ok(found.data)
    }

    fn name(&self) -> &str {
        "TopN"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A sort key on a column of an input, by the index of the column.
#[derive(Clone, Copy)]
struct Ordered {
    column: usize,
    descending: bool,
    missing_first: bool,
}

/// Returns the sort keys; empty if any key is not a plain column.
fn ordered_columns<'a>(sort: impl IntoIterator<Item = &'a PhysicalSortExpr>) -> Vec<Ordered> {
    let ordered = sort.into_iter().map(|key| {
        let column = key.expr.downcast_ref::<PhysicalColumn>()?.index();
        Some(Ordered { column, descending: key.options.descending, missing_first: key.options.nulls_first })
    });
    ordered.collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// Returns `plan` with the order pushed into its scan. Every plan node between must keep all rows of the scan.
fn below(
    plan: &Arc<dyn ExecutionPlan>,
    order: &[Ordered],
    limit: NonZeroU32,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(scan) = plan.downcast_ref::<EsScanExec>() {
        return Ok(scan_in(scan, order, limit).map(|scan| Arc::new(scan) as _));
    }
    let order = if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        through(order, |column| {
            Some(projection.expr().get(column)?.expr.downcast_ref::<PhysicalColumn>()?.index())
        })
    } else if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        let scan = scan_below(filter.input());
        let keeps_all =
            |scan: &EsScanExec| split_conjunction(filter.predicate()).into_iter().all(|f| scan.is_strict(f));
        if filter.fetch().is_some() || !scan.is_some_and(keeps_all) {
            return Ok(None);
        }
        through(order, |column| match filter.projection() {
            Some(projection) => projection.get(column).copied(),
            None => Some(column),
        })
    } else if plan.is::<CooperativeExec>() || plan.is::<RepartitionExec>() {
        Some(order.to_vec())
    } else {
        None
    };
    let Some(order) = order else { return Ok(None) };
    let input = below(plan.children()[0], &order, limit)?;
    input.map(|input| replace_children_if_necessary(Arc::clone(plan), vec![input])).transpose()
}

/// Returns the scan whose rows all reach `plan` unchanged.
fn scan_below(plan: &Arc<dyn ExecutionPlan>) -> Option<&EsScanExec> {
    if plan.is::<CooperativeExec>() || plan.is::<RepartitionExec>() {
        return scan_below(plan.children()[0]);
    }
    plan.downcast_ref::<EsScanExec>()
}

/// Maps sort keys to the columns of an input.
fn through(order: &[Ordered], input: impl Fn(usize) -> Option<usize>) -> Option<Vec<Ordered>> {
    order.iter().map(|key| Some(Ordered { column: input(key.column)?, ..*key })).collect()
}

fn scan_in(scan: &EsScanExec, order: &[Ordered], limit: NonZeroU32) -> Option<EsScanExec> {
    let spec = scan.spec();
    // The server repeats the search for each page. For many pages that costs more than to read the whole slice.
    if spec.pushdown == Pushdown::Off
        || order.is_empty()
        || spec.limit.is_some()
        || limit.get() > spec.read.page_size.get()
    {
        return None;
    }
    let keys = order.iter().map(|key| {
        let column = spec.columns.get(key.column)?;
        Some(SortKey {
            field: column.name.clone(),
            descending: key.descending,
            missing_first: key.missing_first,
            unmapped_type: unmapped_type(column)?.to_owned(),
        })
    });
    Some(scan.top_n(keys.collect::<Option<Vec<_>>>()?, limit))
}

/// Returns the name of the field type if the servers sort its values as DataFusion sorts the column's.
///
/// Servers sort doc values: texts by their UTF-8 bytes, numbers by value. But they sort addresses by bits and
/// versions by parts, and OpenSearch sorts unsigned numbers as if they were signed. Servers reject a cursor on
/// `date_nanos` where a value is missing, and OpenSearch reads a cursor on `scaled_float` as another number.
fn unmapped_type(column: &Column) -> Option<&'static str> {
    if column.array || column.mixed || !matches!(column.read_from, ReadFrom::DocValues { .. }) {
        return None;
    }
    match &column.field_type {
        FieldType::Keyword => Some("keyword"),
        FieldType::Byte => Some("byte"),
        FieldType::Short => Some("short"),
        FieldType::Integer => Some("integer"),
        FieldType::Long => Some("long"),
        FieldType::HalfFloat => Some("half_float"),
        FieldType::Float => Some("float"),
        FieldType::Double => Some("double"),
        FieldType::Boolean => Some("boolean"),
        // A server prints a missing date as the least or the greatest possible date.
        FieldType::Date => column.prints_any_date.then_some("date"),
        FieldType::ConstantKeyword
        | FieldType::Wildcard
        | FieldType::Text
        | FieldType::Ip
        | FieldType::UnsignedLong
        | FieldType::ScaledFloat
        | FieldType::DateNanos
        | FieldType::Binary
        | FieldType::Version
        | FieldType::GeoPoint
        | FieldType::Flattened
        | FieldType::Nested
        | FieldType::Object
        | FieldType::Unknown(_)
        | FieldType::Metadata(_) => None,
    }
}
