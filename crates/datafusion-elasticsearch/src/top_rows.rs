//! `ORDER BY … LIMIT`, brought down to the scan.
//!
//! Owns: the rule, and which columns have an order that the servers share. Must not know: how rows
//! are asked for.
//!
//! Each slice gives its first rows, the sort above chooses among them: the first `n` of all are among
//! the first `n` of each. A document with several values in a scalar column stands where its least
//! value (descending: its greatest) does. So one that any of its values would put among the first is
//! read, and is the error that it is elsewhere.

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

/// Gives scans below a sort with a limit its order and its limit.
#[derive(Debug, Default)]
pub struct TopRows;

impl PhysicalOptimizerRule for TopRows {
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
        "TopRows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A column of some input, by its index.
#[derive(Clone, Copy)]
struct Ordered {
    column: usize,
    descending: bool,
    missing_first: bool,
}

/// None of them if any is no column.
fn ordered_columns<'a>(sort: impl IntoIterator<Item = &'a PhysicalSortExpr>) -> Vec<Ordered> {
    let ordered = sort.into_iter().map(|key| {
        let column = key.expr.downcast_ref::<PhysicalColumn>()?.index();
        Some(Ordered { column, descending: key.options.descending, missing_first: key.options.nulls_first })
    });
    ordered.collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// `plan` with the order in its scan, if it is over one that every row of comes through, or every row
/// that the server finds.
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

/// The scan that all rows of come from as they are.
fn scan_below(plan: &Arc<dyn ExecutionPlan>) -> Option<&EsScanExec> {
    if plan.is::<CooperativeExec>() || plan.is::<RepartitionExec>() {
        return scan_below(plan.children()[0]);
    }
    plan.downcast_ref::<EsScanExec>()
}

/// The order by an input's columns.
fn through(order: &[Ordered], input: impl Fn(usize) -> Option<usize>) -> Option<Vec<Ordered>> {
    order.iter().map(|key| Some(Ordered { column: input(key.column)?, ..*key })).collect()
}

fn scan_in(scan: &EsScanExec, order: &[Ordered], limit: NonZeroU32) -> Option<EsScanExec> {
    let spec = scan.spec();
    // Each page is searched for anew: of many pages that costs more than to read them all.
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
    Some(scan.first_rows(keys.collect::<Option<Vec<_>>>()?, limit))
}

/// The type's name, if the servers order its values as DataFusion orders the column's.
///
/// They order what doc values hold: texts by their UTF-8 bytes, numbers by their value; but addresses
/// by their bits, versions by their parts, and OpenSearch unsigned numbers as if they were signed. Of
/// `date_nanos` they take no cursor where a value is missing, and OpenSearch takes one of `scaled_float`
/// for another number.
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
        // What is missing is printed as the least or the greatest date that there can be.
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
