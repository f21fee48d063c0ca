//! What the server can group by.
//!
//! Owns: the translation of one group expression. Must not know: requests.

use datafusion::common::ScalarValue;
use datafusion::physical_expr::expressions::{CastExpr, Column as PhysicalColumn, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use elastic_arrow::{Column, FieldType, ReadFrom};
use std::sync::Arc;

/// A column by which the server groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The place of the column in the scan.
    pub(crate) column: usize,
    pub(crate) by: KeyBy,
}

impl Key {
    /// Whether several values of a document may be in one group: equal numbers, or dates of one interval. Doc values
    /// hold equal texts and equal addresses once.
    pub(super) fn hides_several(self, columns: &[Column]) -> bool {
        !matches!(columns[self.column].field_type, FieldType::Keyword | FieldType::Ip)
    }
}

/// How the values of a column form groups. Any expression over the column is evaluated on the groups afterwards, so a
/// key may be finer than the expression, but not coarser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyBy {
    /// A group for each value.
    Value,
    /// A group for each unit of the [calendar](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/search-aggregations-bucket-datehistogram-aggregation.html#calendar_intervals)
    /// in UTC, such as `month`. Its value is the beginning.
    Calendar(&'static str),
    /// A group for each interval of this many milliseconds since 1970. Its value is the beginning.
    Millis(u64),
}

/// Returns the key for a group expression over the columns of a scan; `Err` says why there is none.
pub(super) fn key_of(expr: &Arc<dyn PhysicalExpr>, columns: &[Column]) -> Result<Key, String> {
    if let Some(column) = column_of(expr) {
        return Ok(Key { column: groupable(column, columns)?, by: KeyBy::Value });
    }
    let refused = || format!("the server does not group by {expr}");
    let function = expr.downcast_ref::<ScalarFunctionExpr>().ok_or_else(refused)?;
    let (unit, time) = match (function.name(), function.args()) {
        ("date_trunc" | "date_bin", [unit, time]) => (literal(unit).ok_or_else(refused)?, time),
        _ => return Err(refused()),
    };
    // Not of a cast, to a day or to another zone: it may place the beginning of an interval otherwise than the rest.
    let time = time.downcast_ref::<PhysicalColumn>().ok_or_else(refused)?;
    let column = groupable(time.index(), columns)?;
    if columns[column].field_type != FieldType::Date {
        return Err(refused());
    }
    let by = match function.name() {
        "date_trunc" => calendar(unit.try_as_str().flatten().ok_or_else(refused)?),
        _ => interval(unit),
    };
    Ok(Key { column, by: by.ok_or_else(refused)? })
}

/// Returns the column of an expression that is a column, or a cast of one. Equal values stay equal under a cast.
fn column_of(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    if let Some(column) = expr.downcast_ref::<PhysicalColumn>() {
        return Some(column.index());
    }
    column_of(expr.downcast_ref::<CastExpr>()?.expr())
}

pub(super) fn literal(expr: &Arc<dyn PhysicalExpr>) -> Option<&ScalarValue> {
    expr.downcast_ref::<Literal>().map(Literal::value)
}

fn calendar(unit: &str) -> Option<KeyBy> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "second" => KeyBy::Millis(1_000),
        "minute" => KeyBy::Calendar("minute"),
        "hour" => KeyBy::Calendar("hour"),
        "day" => KeyBy::Calendar("day"),
        "week" => KeyBy::Calendar("week"),
        "month" => KeyBy::Calendar("month"),
        "quarter" => KeyBy::Calendar("quarter"),
        "year" => KeyBy::Calendar("year"),
        _ => return None,
    })
}

/// Returns the key of an interval without months. Without an origin, `date_bin` counts from 1970, as servers do.
fn interval(value: &ScalarValue) -> Option<KeyBy> {
    const DAY: i64 = 86_400_000;
    let millis = match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            let rest = interval.nanoseconds % 1_000_000 == 0;
            let millis =
                i64::from(interval.days).checked_mul(DAY)?.checked_add(interval.nanoseconds / 1_000_000);
            millis.filter(|_| rest)?
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            i64::from(interval.days).checked_mul(DAY)?.checked_add(i64::from(interval.milliseconds))?
        }
        _ => return None,
    };
    u64::try_from(millis).ok().filter(|millis| *millis > 0).map(KeyBy::Millis)
}

/// Returns the column if the keys of its groups are its values.
fn groupable(column: usize, columns: &[Column]) -> Result<usize, String> {
    let Some(of) = columns.get(column) else { return Err("a group names an unknown column".into()) };
    single_doc_values(of)?;
    match &of.field_type {
        FieldType::Keyword
        | FieldType::Ip
        | FieldType::Byte
        | FieldType::Short
        | FieldType::Integer
        | FieldType::Long
        | FieldType::Boolean
        | FieldType::Date => Ok(column),
        FieldType::ConstantKeyword
        | FieldType::Wildcard
        | FieldType::Text
        | FieldType::UnsignedLong
        | FieldType::HalfFloat
        | FieldType::Float
        | FieldType::Double
        | FieldType::ScaledFloat
        | FieldType::DateNanos
        | FieldType::Binary
        | FieldType::Version
        | FieldType::GeoPoint
        | FieldType::Flattened
        | FieldType::Nested
        | FieldType::Object
        | FieldType::Unknown(_)
        | FieldType::Metadata(_) => {
            Err(format!("the server does not group by \"{}\" of the type {}", of.name, of.field_type))
        }
    }
}

/// Fails unless the values of a column are those of one doc value per document.
pub(super) fn single_doc_values(column: &Column) -> Result<(), String> {
    let name = &column.name;
    match (&column.read_from, column.array, column.mixed) {
        (_, true, _) => Err(format!("\"{name}\" is a list")),
        (_, _, true) => Err(format!("\"{name}\" has several types")),
        (ReadFrom::DocValues { .. }, false, false) => Ok(()),
        (ReadFrom::Source | ReadFrom::Metadata | ReadFrom::Unavailable { .. }, false, false) => {
            Err(format!("\"{name}\" is not read from doc values"))
        }
    }
}
