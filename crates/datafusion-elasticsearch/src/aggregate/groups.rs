//! The groups of a slice, from the responses.
//!
//! Owns: reading them, and the proof that they are exact. Must not know: requests, or Arrow.
//!
//! A document without a value is in the group of missing values, and a document with different values is in several
//! groups. So if the counts of all groups add up to the documents of the slice, every document is in one group, and none
//! is missing. Several values of one group, such as two dates of a month, are found by the number of values.
//!
//! A response is parsed one bucket at a time. The memory for it is its text, and a [`Group`] for each bucket.

use super::keys::Key;
use super::measures::Measure;
use super::plan::AggregatePlan;
use super::request::Form;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

/// A double holds every integer below this exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A group of documents.
#[derive(Debug, PartialEq)]
pub(crate) struct Group {
    /// The value of each key of the grouping set.
    pub(crate) keys: Box<[KeyValue]>,
    /// The number of documents.
    pub(crate) documents: u64,
    /// A number for each measure.
    pub(crate) numbers: Box<[Number]>,
}

/// The value of a key, as servers print it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub(crate) enum KeyValue {
    Missing,
    Truth(bool),
    Integer(i64),
    Text(Box<str>),
}

impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("null"),
            Self::Truth(truth) => write!(f, "{truth}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// What the server computed of a measure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Number {
    /// The number of values.
    pub(crate) values: u64,
    /// The result, an integer; `None` if there is no value, or the result is the number of values.
    pub(crate) result: Option<i64>,
}

/// The groups of one set.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Groups {
    pub(crate) groups: Vec<Group>,
    /// Where the next page begins; `None` if there is none.
    pub(crate) after: Option<Value>,
}

impl Groups {
    /// Returns the number of documents of all groups.
    pub(crate) fn documents(&self) -> u64 {
        self.groups.iter().fold(0, |sum, group| sum.saturating_add(group.documents))
    }
}

/// An object of a response. Its values are not parsed.
type Object<'a> = BTreeMap<&'a str, &'a RawValue>;

/// Returns the groups of each set from the first response for a slice with this many documents. `Err` says why they
/// are not proved.
pub(crate) fn read_first(
    plan: &AggregatePlan,
    forms: &[Form],
    documents: u64,
    aggregations: &[u8],
) -> Result<Vec<Groups>, String> {
    let aggregations: Object<'_> = serde_json::from_slice(aggregations).map_err(|_| malformed())?;
    check_columns(plan, documents, &aggregations)?;
    let mut all = Vec::with_capacity(plan.sets.len());
    for (set, (keys, form)) in plan.sets.iter().zip(forms).enumerate() {
        let groups = match form {
            Form::Total => {
                let total = group(plan, Box::default(), documents, &aggregations)?;
                Groups { groups: vec![total], after: None }
            }
            Form::Whole { .. } => Groups { groups: read_whole(plan, set, &aggregations)?, after: None },
            Form::Pages { size } => page(plan, set, *size, &aggregations)?,
        };
        if groups.after.is_none() {
            prove(plan, keys, groups.documents(), documents)?;
        }
        all.push(groups);
    }
    Ok(all)
}

/// Returns the groups of a page of a composite aggregation for `size` groups.
pub(crate) fn read_page(
    plan: &AggregatePlan,
    set: usize,
    size: usize,
    aggregations: &[u8],
) -> Result<Groups, String> {
    let aggregations: Object<'_> = serde_json::from_slice(aggregations).map_err(|_| malformed())?;
    page(plan, set, size, &aggregations)
}

/// Fails unless the groups of a set have every document of the slice once. They have `counted` documents together.
pub(crate) fn prove(plan: &AggregatePlan, keys: &[Key], counted: u64, documents: u64) -> Result<(), String> {
    if counted == documents {
        return Ok(());
    }
    let names: Vec<&str> = keys.iter().map(|key| plan.name(key.column)).collect();
    Err(format!(
        "the groups by {} have {counted} documents of {documents}: a document has several values",
        names.join(", ")
    ))
}

fn page(plan: &AggregatePlan, set: usize, size: usize, aggregations: &Object<'_>) -> Result<Groups, String> {
    let response: Object<'_> = part(aggregations, &format!("s{set}"))?;
    let buckets: Vec<&RawValue> = part(&response, "buckets")?;
    let mut groups = Vec::with_capacity(buckets.len());
    for bucket in buckets {
        let bucket: Object<'_> = parse(bucket)?;
        let by_place: Object<'_> = part(&bucket, "key")?;
        let keys = (0..plan.sets[set].len()).map(|place| part(&by_place, &place.to_string()));
        let keys = keys.collect::<Result<Box<[KeyValue]>, String>>()?;
        groups.push(group(plan, keys, count(&part(&bucket, "doc_count")?)?, &bucket)?);
    }
    let after = if groups.len() < size { None } else { Some(part(&response, "after_key")?) };
    if after == Some(Value::Null) {
        return Err(malformed());
    }
    Ok(Groups { groups, after })
}

fn read_whole(plan: &AggregatePlan, set: usize, aggregations: &Object<'_>) -> Result<Vec<Group>, String> {
    let response: Object<'_> = part(aggregations, &format!("s{set}"))?;
    // Of a date histogram, both are missing.
    let others: Value = optional(&response, "sum_other_doc_count")?;
    let error: Value = optional(&response, "doc_count_error_upper_bound")?;
    let buckets: Vec<&RawValue> = part(&response, "buckets")?;
    if others.as_u64().unwrap_or(0) != 0 || error.as_i64().unwrap_or(0) != 0 {
        return Err(format!("there are more than {} groups", buckets.len()));
    }
    let mut groups = Vec::with_capacity(buckets.len() + 1);
    for bucket in buckets {
        let bucket: Object<'_> = parse(bucket)?;
        let key = part(&bucket, "key")?;
        groups.push(group(plan, Box::new([key]), count(&part(&bucket, "doc_count")?)?, &bucket)?);
    }
    let missing: Object<'_> = part(aggregations, &format!("m{set}"))?;
    let documents = count(&part(&missing, "doc_count")?)?;
    if documents > 0 {
        groups.push(group(plan, Box::new([KeyValue::Missing]), documents, &missing)?);
    }
    Ok(groups)
}

fn group(
    plan: &AggregatePlan,
    keys: Box<[KeyValue]>,
    documents: u64,
    bucket: &Object<'_>,
) -> Result<Group, String> {
    let mut numbers = Vec::with_capacity(plan.measures.len());
    for (place, measure) in plan.measures.iter().enumerate() {
        if measure.column().is_none() {
            numbers.push(Number { values: documents, result: None });
            continue;
        }
        let values = count(&value(bucket, &format!("c{place}"))?)?;
        let result = match measure {
            Measure::Rows | Measure::Count(_) => None,
            Measure::Sum(_) | Measure::Avg(_) | Measure::Min(_) | Measure::Max(_) if values == 0 => None,
            Measure::Sum(_) | Measure::Avg(_) | Measure::Min(_) | Measure::Max(_) => {
                Some(integer(&value(bucket, &format!("x{place}"))?)?)
            }
        };
        numbers.push(Number { values, result });
    }
    Ok(Group { keys, documents, numbers: numbers.into() })
}

/// Fails unless each counted column has at most one value in each document, and sums of it are exact.
fn check_columns(plan: &AggregatePlan, documents: u64, aggregations: &Object<'_>) -> Result<(), String> {
    for column in plan.counted() {
        let values = count(&value(aggregations, &format!("v{column}"))?)?;
        let missing: Object<'_> = part(aggregations, &format!("n{column}"))?;
        let missing = count(&part(&missing, "doc_count")?)?;
        if values.checked_add(missing) != Some(documents) {
            let name = plan.name(column);
            return Err(format!("a document has several values of \"{name}\""));
        }
    }
    for column in plan.summed() {
        let mut greatest: f64 = 0.0;
        for end in ["l", "h"] {
            let value = value(aggregations, &format!("{end}{column}"))?;
            match value.as_f64() {
                Some(value) => greatest = greatest.max(value.abs()),
                None if value.is_null() => {}
                None => return Err(malformed()),
            }
        }
        if greatest * documents as f64 >= EXACT {
            return Err(format!("the sum of \"{}\" may be too great for the server", plan.name(column)));
        }
    }
    Ok(())
}

/// Returns the value of a metric.
fn value(aggregations: &Object<'_>, name: &str) -> Result<Value, String> {
    part(&part::<Object<'_>>(aggregations, name)?, "value")
}

/// Returns a part of an object; an error if it is missing.
fn part<'a, T: Deserialize<'a>>(of: &Object<'a>, name: &str) -> Result<T, String> {
    parse(of.get(name).copied().ok_or_else(malformed)?)
}

/// Returns a part of an object; the default if it is missing.
fn optional<'a, T: Deserialize<'a> + Default>(of: &Object<'a>, name: &str) -> Result<T, String> {
    of.get(name).copied().map_or(Ok(T::default()), parse)
}

fn parse<'a, T: Deserialize<'a>>(text: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(text.get()).map_err(|_| malformed())
}

fn count(value: &Value) -> Result<u64, String> {
    // Elasticsearch prints a `value_count` as an integer, OpenSearch as well; the number type is not documented.
    let float = || value.as_f64().filter(|v| v.fract() == 0.0 && (0.0..EXACT).contains(v)).map(|v| v as u64);
    value.as_u64().or_else(float).ok_or_else(malformed)
}

fn integer(value: &Value) -> Result<i64, String> {
    match value.as_f64() {
        Some(value) if value.fract() == 0.0 && value.abs() < EXACT => Ok(value as i64),
        Some(value) => Err(format!("the server computed {value}, which may be rounded")),
        None => Err(malformed()),
    }
}

fn malformed() -> String {
    "the response has no such aggregation".to_owned()
}
