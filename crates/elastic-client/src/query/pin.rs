//! Pinning the `now` of ranges to one instant.
//!
//! Owns: the bounds and the format of a pinned range. Must not know: other places that read the clock.
//!
//! A server evaluates `now` for each request, so the pages and slices of one read would match different documents.

use serde_json::{Map, Value, json};

use super::walk::{kind_and_body, map_children, query_of};

pub(super) const BOUNDS: &[&str] = &["gte", "gt", "lte", "lt", "from", "to"];
/// The format of the pinned instant. Every server since Elasticsearch 2 supports it.
const PINNED_FORMAT: &str = "strict_date_optional_time";
/// A number from here on must be milliseconds: as seconds it would be a date after the year 5138.
const SURELY_MILLIS: f64 = 1e11;

/// Returns the query with its ranges pinned. Everything else is unchanged.
pub(super) fn pin_ranges(query: &Value, now: &str) -> Value {
    let Some((kind, body)) = kind_and_body(query) else {
        return query.clone();
    };
    let body = match (kind, body) {
        ("range", Value::Object(fields)) => pin_fields(fields, now),
        _ => map_children(kind, body, &|child| pin_ranges(child, now)),
    };
    query_of(kind, body)
}

fn pin_fields(fields: &Map<String, Value>, now: &str) -> Value {
    let mut pinned = Map::new();
    for (field, range) in fields {
        let range = match range {
            Value::Object(range) => pin_range(range, now).unwrap_or_else(|| range.clone()).into(),
            other => other.clone(),
        };
        pinned.insert(field.clone(), range);
    }
    Value::Object(pinned)
}

/// Returns the pinned range, or `None` if it has no `now`.
fn pin_range(range: &Map<String, Value>, now: &str) -> Option<Map<String, Value>> {
    let mut pinned = range.clone();
    let mut others = Vec::new();
    let mut has_now = false;
    for bound in BOUNDS {
        let Some(value) = pinned.get_mut(*bound).filter(|value| !value.is_null()) else {
            continue;
        };
        let Some(math) = value.as_str().and_then(math_after_now) else {
            others.push(value.clone());
            continue;
        };
        let instant = if math.is_empty() { now.to_owned() } else { format!("{now}||{math}") };
        *value = Value::String(instant);
        has_now = true;
    }
    if !has_now {
        return None;
    }
    let format = match range.get("format") {
        _ if others.is_empty() => PINNED_FORMAT.to_owned(),
        Some(Value::String(own)) => format!("{own}||{PINNED_FORMAT}"),
        // The format is invalid, so the server refuses the query.
        Some(_) => return None,
        None if others.iter().all(is_surely_millis) => format!("{PINNED_FORMAT}||epoch_millis"),
        None => PINNED_FORMAT.to_owned(),
    };
    pinned.insert("format".to_owned(), json!(format));
    Some(pinned)
}

/// Returns the date math after `now` in `now-1h/d`, or `None` if `now` is only the start of another word.
fn math_after_now(bound: &str) -> Option<&str> {
    let math = bound.strip_prefix("now")?;
    (math.is_empty() || math.starts_with(['+', '-', '/'])).then_some(math)
}

fn is_surely_millis(bound: &Value) -> bool {
    let number = bound.as_f64().or_else(|| {
        let digits = bound.as_str().filter(|text| text.chars().all(|c| c.is_ascii_digit()))?;
        digits.parse().ok()
    });
    number.is_some_and(|number| number >= SURELY_MILLIS)
}
