//! Comparisons of dates truncated to a calendar unit with a literal.
//!
//! Owns: `date_trunc` and the cast to a date, as ranges of the column. Must not know: logic.
//!
//! Truncation keeps the order. So each comparison of a truncated date is a comparison of the column with the start
//! of a unit, or with the start of the next one.

use super::column::{exists, operand};
use super::compare::compare;
use super::comparison::Comparison;
use super::number::nanos;
use super::query::Query;
use super::translation::{Translation, and, or};
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, Weekday};
use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;
use elastic_arrow::{Column, FieldType};

const SECOND: i64 = 1000;
const DAY: i64 = 86_400 * SECOND;

/// The unit that a date is truncated to, in UTC.
#[derive(Clone, Copy)]
enum Unit {
    /// A number of milliseconds, counted from 1970.
    Fixed(i64),
    /// A week from Monday.
    Week,
    /// A number of months, a divisor of 12.
    Months(u32),
}

impl Unit {
    fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "second" => Self::Fixed(SECOND),
            "minute" => Self::Fixed(60 * SECOND),
            "hour" => Self::Fixed(3600 * SECOND),
            "day" => Self::Fixed(DAY),
            "week" => Self::Week,
            "month" => Self::Months(1),
            "quarter" => Self::Months(3),
            "year" => Self::Months(12),
            _ => return None,
        })
    }

    /// Returns the start of the unit that contains this millisecond, and the start of the next one.
    fn around(self, millis: i64) -> Option<(i64, i64)> {
        if let Self::Fixed(length) = self {
            let begin = millis.div_euclid(length).checked_mul(length)?;
            return Some((begin, begin.checked_add(length)?));
        }
        let day = DateTime::from_timestamp_millis(millis)?.date_naive();
        let (begin, next) = match self {
            Self::Months(count) => {
                let begin = NaiveDate::from_ymd_opt(day.year(), day.month0() / count * count + 1, 1)?;
                (begin, begin.checked_add_months(Months::new(count))?)
            }
            Self::Week | Self::Fixed(_) => {
                let begin = day.week(Weekday::Mon).checked_first_day()?;
                (begin, begin.checked_add_days(Days::new(7))?)
            }
        };
        let at = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc().timestamp_millis();
        Some((at(begin), at(next)))
    }
}

/// Returns the column below a truncation, and the unit.
fn cut<'a>(expr: &Expr, columns: &'a [Column]) -> Option<(&'a Column, Unit)> {
    let (inner, unit) = match expr {
        Expr::ScalarFunction(function) if function.func.name() == "date_trunc" => {
            let [Expr::Literal(unit, _), inner] = function.args.as_slice() else { return None };
            (inner, Unit::parse(unit.try_as_str()??)?)
        }
        Expr::Cast(cast) if *cast.field.data_type() == DataType::Date32 => (&*cast.expr, Unit::Fixed(DAY)),
        _ => return None,
    };
    let column = operand(inner, columns)?;
    matches!(column.field_type, FieldType::Date | FieldType::DateNanos).then_some((column, unit))
}

/// Finds every document for which the comparison of the truncated column is true; `None` if `expr` is not a
/// truncation. The result is only inclusive, because DataFusion truncates with its own code.
pub(super) fn compare_cut(
    expr: &Expr,
    columns: &[Column],
    comparison: Comparison,
    value: &ScalarValue,
) -> Option<Translation> {
    let (column, unit) = cut(expr, columns)?;
    let (millis, whole) = match value {
        ScalarValue::Date32(Some(days)) => (i64::from(*days) * DAY, true),
        _ => {
            let nanos = nanos(value)?;
            (i64::try_from(nanos.div_euclid(1_000_000)).ok()?, nanos.rem_euclid(1_000_000) == 0)
        }
    };
    let (begin, next) = unit.around(millis)?;
    let is_begin = whole && begin == millis;
    let first = if is_begin { begin } else { next };
    let at = |comparison, millis| {
        compare(column, comparison, &ScalarValue::TimestampMillisecond(Some(millis), None))
    };
    let found = match comparison {
        Comparison::Eq if is_begin => and(vec![at(Comparison::GtEq, begin), at(Comparison::Lt, next)]),
        Comparison::Eq => Translation::inclusive(Query::Nothing),
        Comparison::NotEq if is_begin => or(vec![at(Comparison::Lt, begin), at(Comparison::GtEq, next)]),
        Comparison::NotEq => Translation::inclusive(exists(column)),
        Comparison::Lt => at(Comparison::Lt, first),
        Comparison::LtEq => at(Comparison::Lt, next),
        Comparison::Gt => at(Comparison::GtEq, next),
        Comparison::GtEq => at(Comparison::GtEq, first),
    };
    Some(found.at_most_inclusive())
}
