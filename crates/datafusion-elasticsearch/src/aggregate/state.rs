//! The groups of a slice as rows of a partial aggregate.
//!
//! Owns: the arrays of keys and of the states of aggregate functions. Must not know: responses as JSON documents.

use super::groups::{Group, KeyValue, Number};
use super::measures::Measure;
use super::plan::AggregatePlan;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, UInt64Array, new_null_array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, SchemaRef, TimestampMillisecondType};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::aggregates::evaluate_group_by;
use elastic_arrow::{Column, FieldType, to_schema};
use std::sync::Arc;

/// Returns the rows of a partial aggregate with `schema` for the groups of a set.
///
/// # Errors
///
/// Returns an error if a key is not a value of its column.
pub(crate) fn rows(
    plan: &AggregatePlan,
    schema: &SchemaRef,
    set: usize,
    groups: &[Group],
) -> Result<RecordBatch> {
    let mut columns = keys(plan, set, groups)?;
    for (place, measure) in plan.measures.iter().enumerate() {
        let numbers = groups.iter().map(|group| group.numbers[place]);
        columns.extend(states(plan, *measure, numbers)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(groups.len()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// Evaluates the group expressions over a row for each group.
fn keys(plan: &AggregatePlan, set: usize, groups: &[Group]) -> Result<Vec<ArrayRef>> {
    if plan.group_by.is_true_no_grouping() {
        return Ok(Vec::new());
    }
    let mut columns = Vec::with_capacity(plan.columns.len());
    for (place, column) in plan.columns.iter().enumerate() {
        columns.push(match plan.sets[set].iter().position(|key| key.column == place) {
            Some(key) => values(column, groups.iter().map(|group| &group.keys[key]))?,
            None => new_null_array(&column.data_type(), groups.len()),
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(groups.len()));
    let representatives = RecordBatch::try_new_with_options(to_schema(&plan.columns), columns, &options)?;
    let mut sets = evaluate_group_by(&plan.group_by, &representatives)?;
    Ok(sets.swap_remove(set))
}

/// Returns the keys of groups as an array of the column's type.
fn values<'a>(column: &Column, keys: impl Iterator<Item = &'a KeyValue>) -> Result<ArrayRef> {
    let misfit = |key: &KeyValue| {
        DataFusionError::Execution(format!("a group by \"{}\" has the key {key}", column.name))
    };
    let text = matches!(column.field_type, FieldType::Keyword | FieldType::Ip);
    let array: ArrayRef = if text {
        let keys = keys.map(|key| match key {
            KeyValue::Missing => Ok(None),
            KeyValue::Text(text) => Ok(Some(text.as_ref())),
            KeyValue::Truth(_) | KeyValue::Integer(_) => Err(misfit(key)),
        });
        Arc::new(keys.collect::<Result<StringArray>>()?)
    } else if column.field_type == FieldType::Boolean {
        let keys = keys.map(|key| match key {
            KeyValue::Missing => Ok(None),
            KeyValue::Truth(truth) => Ok(Some(*truth)),
            KeyValue::Integer(0) => Ok(Some(false)),
            KeyValue::Integer(1) => Ok(Some(true)),
            KeyValue::Integer(_) | KeyValue::Text(_) => Err(misfit(key)),
        });
        Arc::new(keys.collect::<Result<BooleanArray>>()?)
    } else {
        let keys = keys.map(|key| match key {
            KeyValue::Missing => Ok(None),
            KeyValue::Integer(integer) => Ok(Some(*integer)),
            KeyValue::Truth(_) | KeyValue::Text(_) => Err(misfit(key)),
        });
        typed(keys.collect::<Result<Int64Array>>()?, &column.data_type())?
    };
    Ok(array)
}

/// Returns integers as an array of a type; an error, not null, if one is out of its range.
fn typed(integers: Int64Array, of: &DataType) -> Result<ArrayRef> {
    let timestamp = matches!(of, DataType::Timestamp(_, None));
    if timestamp {
        return Ok(Arc::new(integers.reinterpret_cast::<TimestampMillisecondType>()));
    }
    let integers: ArrayRef = Arc::new(integers);
    let cast = cast(&integers, of)?;
    if cast.null_count() != integers.null_count() {
        return Err(DataFusionError::Execution(format!("a group has a key that is no {of}")));
    }
    Ok(cast)
}

/// Returns the state of an aggregate function, as its columns in a partial aggregate.
fn states(
    plan: &AggregatePlan,
    measure: Measure,
    numbers: impl Iterator<Item = Number> + Clone,
) -> Result<Vec<ArrayRef>> {
    let results = numbers.clone().map(|number| number.result);
    Ok(match measure {
        Measure::Rows | Measure::Count(_) => {
            vec![Arc::new(Int64Array::from_iter_values(numbers.map(|number| number.values as i64)))]
        }
        Measure::Sum(_) => vec![Arc::new(results.collect::<Int64Array>())],
        Measure::Min(column) | Measure::Max(column) => {
            vec![typed(results.collect::<Int64Array>(), &plan.columns[column].data_type())?]
        }
        // DataFusion takes a count that is not null for a group with a value, and would divide zero by zero.
        Measure::Avg(_) => vec![
            Arc::new(numbers.map(|number| number.result.map(|_| number.values)).collect::<UInt64Array>()),
            Arc::new(results.map(|sum| sum.map(|sum| sum as f64)).collect::<Float64Array>()),
        ],
    })
}
