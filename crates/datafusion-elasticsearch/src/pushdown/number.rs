//! Comparisons of numbers and dates with a literal.
//!
//! Owns: bounds that fit the type of a field and lose no row to its rounding. Must not know: columns, logic.

use super::column::is_utc;
use super::comparison::{Comparison, range, term};
use super::query::{Query, or};
use super::translation::{Precision, Translation};
use chrono::{DateTime, SecondsFormat};
use datafusion::scalar::ScalarValue;
use elastic_arrow::FieldType;
use serde_json::{Map, Value, json};

/// Below this value an integer column cast to a float compares as the integers do.
const EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;

/// The milliseconds of the years 1 to 9999, which have four digits.
const DATES: std::ops::RangeInclusive<i128> = -62_135_596_800_000..=253_402_300_799_999;

/// Whole numbers from `low` to `high`, inclusive.
struct Span {
    low: Option<i128>,
    high: Option<i128>,
}

/// Returns the spans of whole numbers for which the comparison with `value` is true. If `exact`, the value is
/// `floor`; otherwise it lies between `floor` and the next whole number.
fn spans(comparison: Comparison, floor: i128, exact: bool) -> Vec<Span> {
    let above = floor + 1;
    let from = |low| Span { low: Some(low), high: None };
    let to = |high| Span { low: None, high: Some(high) };
    match (comparison, exact) {
        (Comparison::Eq, true) => vec![Span { low: Some(floor), high: Some(floor) }],
        (Comparison::Eq, false) => vec![],
        (Comparison::NotEq, true) => vec![to(floor - 1), from(above)],
        (Comparison::NotEq, false) => vec![Span { low: None, high: None }],
        (Comparison::Lt, true) => vec![to(floor - 1)],
        (Comparison::Lt, false) | (Comparison::LtEq, _) => vec![to(floor)],
        (Comparison::Gt, _) | (Comparison::GtEq, false) => vec![from(above)],
        (Comparison::GtEq, true) => vec![from(floor)],
    }
}

/// Combines spans to a query. Clips bounds to the range of the type, because some servers reject a bound beyond
/// it.
fn in_spans(
    spans: Vec<Span>,
    (least, most): (i128, i128),
    query: impl Fn(Option<i128>, Option<i128>) -> Query,
) -> Query {
    let mut parts = Vec::with_capacity(spans.len());
    for Span { low, high } in spans {
        if low.is_some_and(|low| low > most) || high.is_some_and(|high| high < least) {
            continue;
        }
        parts.push(query(low.filter(|low| *low > least), high.filter(|high| *high < most)));
    }
    or(parts)
}

fn bounds(low: Option<Value>, high: Option<Value>) -> Map<String, Value> {
    let mut bounds = Map::new();
    bounds.extend(low.map(|low| ("gte".to_owned(), low)));
    bounds.extend(high.map(|high| ("lte".to_owned(), high)));
    bounds
}

/// A numeric SQL literal.
enum Number {
    Whole(i128),
    Float(f64),
}

fn number(value: &ScalarValue) -> Option<Number> {
    Some(match value {
        ScalarValue::Int8(Some(n)) => Number::Whole((*n).into()),
        ScalarValue::Int16(Some(n)) => Number::Whole((*n).into()),
        ScalarValue::Int32(Some(n)) => Number::Whole((*n).into()),
        ScalarValue::Int64(Some(n)) => Number::Whole((*n).into()),
        ScalarValue::UInt8(Some(n)) => Number::Whole((*n).into()),
        ScalarValue::UInt16(Some(n)) => Number::Whole((*n).into()),
        ScalarValue::UInt32(Some(n)) => Number::Whole((*n).into()),
        ScalarValue::UInt64(Some(n)) => Number::Whole((*n).into()),
        ScalarValue::Decimal128(Some(n), _, 0) => Number::Whole(*n),
        ScalarValue::Float32(Some(n)) if n.is_finite() => Number::Float((*n).into()),
        ScalarValue::Float64(Some(n)) if n.is_finite() => Number::Float(*n),
        _ => return None,
    })
}

/// Compares an integer field. A whole number is exact. A float is supported only in the range where the column
/// cast to a float keeps the order of integers, and only as an inclusive query.
pub(super) fn integer(
    field_type: &FieldType,
    field: &str,
    comparison: Comparison,
    value: &ScalarValue,
) -> Option<Translation> {
    let limits = match field_type {
        FieldType::Byte => (i8::MIN.into(), i8::MAX.into()),
        FieldType::Short => (i16::MIN.into(), i16::MAX.into()),
        FieldType::Integer => (i32::MIN.into(), i32::MAX.into()),
        FieldType::Long => (i64::MIN.into(), i64::MAX.into()),
        FieldType::UnsignedLong => (0, u64::MAX.into()),
        _ => return None,
    };
    let (spans, precision) = match number(value)? {
        Number::Whole(n) if n.unsigned_abs() < 1 << 100 => (spans(comparison, n, true), Precision::Strict),
        Number::Float(n) if n.abs() < EXACT_FLOAT => {
            // DataFusion treats -0.0 sometimes as 0.0 and sometimes as less. In both cases the range includes 0.
            let zero = n == 0.0 && n.is_sign_negative();
            let comparison = match comparison {
                Comparison::Gt if zero => Comparison::GtEq,
                Comparison::NotEq if zero => return None,
                other => other,
            };
            (spans(comparison, n.floor() as i128, n.fract() == 0.0), Precision::Inclusive)
        }
        Number::Whole(_) | Number::Float(_) => return None,
    };
    let json = |n: i128| match i64::try_from(n) {
        Ok(n) => json!(n),
        Err(_) => json!(n as u64),
    };
    let query = in_spans(spans, limits, |low, high| match (low, high) {
        (None, None) => Query::Exists(field.to_owned()),
        (Some(low), Some(high)) if low == high => term(field, json(low)),
        (low, high) => range(field, Value::Object(bounds(low.map(json), high.map(json)))),
    });
    Some(Translation { query, precision })
}

/// Compares a floating-point field. The server rounds a bound to the precision of the field. Rounding keeps the
/// order, and a value of the field rounds to itself, so `x >= b` implies `x >= round(b)`. No row is lost as long
/// as bounds are inclusive, so `x > b` becomes `x >= b`. Zero has two signs; the range includes both.
pub(super) fn float(
    field_type: &FieldType,
    field: &str,
    comparison: Comparison,
    value: &ScalarValue,
) -> Option<Translation> {
    let bound = match number(value)? {
        Number::Float(n) => n,
        Number::Whole(n) if n.unsigned_abs() < 1 << 53 => n as f64,
        Number::Whole(_) => return None,
    };
    let most = match field_type {
        FieldType::HalfFloat => 65_504.0,
        FieldType::Float => f64::from(f32::MAX),
        FieldType::Double | FieldType::ScaledFloat => f64::MAX,
        _ => return None,
    };
    // A scaled value is a whole number times the inverse of its factor: two roundings of half a unit each. The
    // server multiplies the bound by the factor again.
    let slack = if *field_type == FieldType::ScaledFloat { bound.abs() / 2f64.powi(48) } else { 0.0 };
    let low = if bound == 0.0 { -0.0 } else { bound - slack };
    let high = if bound == 0.0 { 0.0 } else { bound + slack };
    let (low, high) = match comparison {
        Comparison::Eq => (Some(low), Some(high)),
        Comparison::Lt | Comparison::LtEq => (None, Some(high)),
        Comparison::Gt | Comparison::GtEq => (Some(low), None),
        // The query could exclude only the values that round to `b`.
        Comparison::NotEq => return None,
    };
    if low.is_some_and(|low| low > most) || high.is_some_and(|high| high < -most) {
        return Some(Translation::inclusive(Query::Nothing));
    }
    let low = low.filter(|low| *low > -most);
    let high = high.filter(|high| *high < most);
    if low.is_none() && high.is_none() {
        return None;
    }
    let bounds = bounds(low.map(|n| json!(n)), high.map(|n| json!(n)));
    Some(Translation::inclusive(range(field, Value::Object(bounds))))
}

/// Returns nanoseconds since 1970.
pub(super) fn nanos(value: &ScalarValue) -> Option<i128> {
    let (count, unit, zone) = match value {
        ScalarValue::TimestampSecond(Some(n), zone) => (*n, 1_000_000_000, zone),
        ScalarValue::TimestampMillisecond(Some(n), zone) => (*n, 1_000_000, zone),
        ScalarValue::TimestampMicrosecond(Some(n), zone) => (*n, 1000, zone),
        ScalarValue::TimestampNanosecond(Some(n), zone) => (*n, 1, zone),
        _ => return None,
    };
    zone.as_deref().is_none_or(is_utc).then(|| i128::from(count) * unit)
}

/// Compares a `date` field. Its values are whole milliseconds, so bounds are whole milliseconds and inclusive, and
/// the server has nothing to round. Bounds are text, because Elasticsearch 8.8 rounds an upper bound in
/// `epoch_millis` before 1970 down by a millisecond.
pub(super) fn date(field: &str, comparison: Comparison, value: &ScalarValue) -> Option<Translation> {
    let nanos = nanos(value)?;
    let (floor, rest) = (nanos.div_euclid(1_000_000), nanos.rem_euclid(1_000_000));
    if !DATES.contains(&floor) {
        return None;
    }
    let spans = spans(comparison, floor, rest == 0);
    let text = |n: i128| {
        let time = i64::try_from(n).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
        json!(time.to_rfc3339_opts(SecondsFormat::Millis, true))
    };
    // Clips bounds to years of four digits. Only dates outside these years compare differently then.
    let spans = spans
        .into_iter()
        .map(|span| Span {
            low: span.low.map(|n| n.min(*DATES.end())),
            high: span.high.map(|n| n.max(*DATES.start())),
        })
        .collect();
    let query = in_spans(spans, (i64::MIN.into(), i64::MAX.into()), |low, high| {
        let mut bounds = bounds(low.map(text), high.map(text));
        if bounds.is_empty() {
            return Query::Exists(field.to_owned());
        }
        bounds.insert("format".into(), json!("strict_date_optional_time"));
        range(field, Value::Object(bounds))
    });
    // At either end a bound may have been clipped to a year of four digits.
    let within = *DATES.start() < floor && floor < *DATES.end();
    Some(if within { Translation::strict(query) } else { Translation::inclusive(query) })
}

/// Compares a `date_nanos` field. Its values are whole nanoseconds from 1970. A bound is text with all nine
/// digits; the server would round up an upper bound in milliseconds by a whole millisecond.
pub(super) fn date_nanos(field: &str, comparison: Comparison, value: &ScalarValue) -> Option<Translation> {
    let spans = spans(comparison, nanos(value)?, true);
    let text = |n: i128| {
        let nanos = i64::try_from(n).unwrap_or(i64::MAX);
        json!(DateTime::from_timestamp_nanos(nanos).to_rfc3339_opts(SecondsFormat::Nanos, true))
    };
    Some(Translation::strict(in_spans(spans, (0, i64::MAX.into()), |low, high| {
        let mut bounds = bounds(low.map(text), high.map(text));
        if bounds.is_empty() {
            return Query::Exists(field.to_owned());
        }
        bounds.insert("format".into(), json!("strict_date_optional_time_nanos"));
        range(field, Value::Object(bounds))
    })))
}
