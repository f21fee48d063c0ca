//! What the server can compute of each group.
//!
//! Owns: the translation of aggregate functions, and the proof that their numbers are exact. Must not know: requests.
//!
//! Servers compute with doubles. A double holds every integer up to 2⁵³, so sums of integers are exact as long as the
//! number of documents times the greatest absolute value is below that. Sums of floating-point numbers depend on the
//! order of the documents, and are left to DataFusion.

use super::keys::{literal, single_doc_values};
use datafusion::arrow::datatypes::DataType;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column as PhysicalColumn};
use elastic_arrow::{Column, FieldType};
use std::sync::Arc;

/// An aggregate function over a group. A number is the place of a column in the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// The number of documents.
    Rows,
    /// The number of documents with a value.
    Count(usize),
    /// The sum of integers.
    Sum(usize),
    /// The least value.
    Min(usize),
    /// The greatest value.
    Max(usize),
    /// The mean of integers.
    Avg(usize),
}

impl Measure {
    /// Returns the column, if the measure has one.
    pub(crate) fn column(self) -> Option<usize> {
        match self {
            Self::Rows => None,
            Self::Count(column)
            | Self::Sum(column)
            | Self::Min(column)
            | Self::Max(column)
            | Self::Avg(column) => Some(column),
        }
    }

    /// Returns the column whose values are added up.
    pub(crate) fn summed(self) -> Option<usize> {
        match self {
            Self::Sum(column) | Self::Avg(column) => Some(column),
            Self::Rows | Self::Count(_) | Self::Min(_) | Self::Max(_) => None,
        }
    }
}

/// Returns the measure for an aggregate function whose arguments, over the columns of the scan, are `args`. `Err` says
/// why there is none.
pub(super) fn measure_of(
    function: &AggregateFunctionExpr,
    args: &[Arc<dyn PhysicalExpr>],
    columns: &[Column],
) -> Result<Measure, String> {
    let refused = || format!("the server does not compute {}", function.name());
    let plain = !function.is_distinct() && function.order_bys().is_empty();
    let [arg] = args else { return Err(refused()) };
    let name = function.fun().name();
    let measure = match name {
        _ if !plain => return Err(refused()),
        "count" if literal(arg).is_some_and(|value| !value.is_null()) => Measure::Rows,
        "count" => Measure::Count(unchanged(arg, columns).ok_or_else(refused)?),
        "sum" => Measure::Sum(unchanged(arg, columns).ok_or_else(refused)?),
        "avg" => Measure::Avg(unchanged(arg, columns).ok_or_else(refused)?),
        "min" => Measure::Min(arg.downcast_ref::<PhysicalColumn>().ok_or_else(refused)?.index()),
        "max" => Measure::Max(arg.downcast_ref::<PhysicalColumn>().ok_or_else(refused)?.index()),
        _ => return Err(refused()),
    };
    if let Some(place) = measure.column() {
        let column = columns.get(place).ok_or_else(refused)?;
        single_doc_values(column)?;
        if !allowed(measure, &column.field_type) {
            return Err(refused());
        }
    }
    // The state of a partial aggregate is an interface between the versions of DataFusion, too.
    let state = function.state_fields().map_err(|_| refused())?;
    let types: Vec<&DataType> = state.iter().map(|field| field.data_type()).collect();
    let expected = match measure {
        Measure::Rows | Measure::Count(_) | Measure::Sum(_) => types == [&DataType::Int64],
        Measure::Min(place) | Measure::Max(place) => types == [&columns[place].data_type()],
        Measure::Avg(_) => types == [&DataType::UInt64, &DataType::Float64],
    };
    if expected { Ok(measure) } else { Err(refused()) }
}

/// Returns the column of an argument that is a column, or the widening of integers that type coercion adds. Any other
/// cast may fail or change a value, which the server would not.
fn unchanged(arg: &Arc<dyn PhysicalExpr>, columns: &[Column]) -> Option<usize> {
    let mut widened = arg;
    for to in [DataType::Float64, DataType::Int64] {
        match widened.downcast_ref::<CastExpr>() {
            Some(cast) if *cast.cast_type() == to => widened = cast.expr(),
            _ => {}
        }
    }
    let place = widened.downcast_ref::<PhysicalColumn>()?.index();
    let is_cast = !Arc::ptr_eq(widened, arg);
    (!is_cast || is_integer(&columns.get(place)?.field_type)).then_some(place)
}

fn is_integer(of: &FieldType) -> bool {
    matches!(of, FieldType::Byte | FieldType::Short | FieldType::Integer | FieldType::Long)
}

fn allowed(measure: Measure, of: &FieldType) -> bool {
    let integer = is_integer(of);
    match measure {
        Measure::Rows => true,
        Measure::Sum(_) | Measure::Avg(_) => integer,
        Measure::Min(_) | Measure::Max(_) => integer || *of == FieldType::Date,
        Measure::Count(_) => {
            integer
                || matches!(
                    of,
                    FieldType::Keyword
                        | FieldType::Ip
                        | FieldType::Boolean
                        | FieldType::Date
                        | FieldType::DateNanos
                        | FieldType::HalfFloat
                        | FieldType::Float
                        | FieldType::Double
                )
        }
    }
}
