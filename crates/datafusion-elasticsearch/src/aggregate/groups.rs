//! The groups of a slice, from the responses.
//!
//! Owns: reading them, and the proof that they are exact. Must not know: requests, or Arrow.
//!
//! A document without a value is in the group of missing values, and a document with different values is in several
//! groups. So if the counts of all groups add up to the documents of the slice, every document is in one group, and none
//! is missing. Several values of one group, such as two dates of a month, are found by the number of values.

use super::keys::Key;
use super::measures::Measure;
use super::plan::AggregatePlan;
use super::request::{COMPOSITE_PAGE, Form};
use serde_json::Value;

/// A double holds every integer below this exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A group of documents.
#[derive(Debug, PartialEq)]
pub(crate) struct Group {
    /// The value of each key of the grouping set; null if it is missing.
    pub(crate) keys: Vec<Value>,
    /// The number of documents.
    pub(crate) documents: u64,
    /// A number for each measure.
    pub(crate) numbers: Vec<Number>,
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

/// Returns the groups of each set from the first response for a slice with this many documents. `Err` says why they
/// are not proved.
pub(crate) fn read_first(
    plan: &AggregatePlan,
    forms: &[Form],
    documents: u64,
    aggregations: &mut Value,
) -> Result<Vec<Groups>, String> {
    check_columns(plan, documents, aggregations)?;
    let mut all = Vec::with_capacity(plan.sets.len());
    for (set, (keys, form)) in plan.sets.iter().zip(forms).enumerate() {
        all.push(match form {
            Form::Total => {
                Groups { groups: vec![group(plan, Vec::new(), documents, aggregations)?], after: None }
            }
            Form::Whole { .. } => {
                let groups = read_whole(plan, set, aggregations)?;
                prove(plan, keys, &groups, documents)?;
                Groups { groups, after: None }
            }
            Form::Pages => {
                let page = read_page(plan, set, aggregations)?;
                if page.after.is_none() {
                    prove(plan, keys, &page.groups, documents)?;
                }
                page
            }
        });
    }
    Ok(all)
}

/// Returns the groups of a page of a composite aggregation.
pub(crate) fn read_page(
    plan: &AggregatePlan,
    set: usize,
    aggregations: &mut Value,
) -> Result<Groups, String> {
    let response = &mut aggregations[format!("s{set}")];
    let after = response["after_key"].take();
    let mut groups = Vec::new();
    for bucket in response["buckets"].as_array_mut().ok_or_else(malformed)? {
        let keys = (0..plan.sets[set].len()).map(|place| bucket["key"][place.to_string()].take()).collect();
        groups.push(group(plan, keys, count(&bucket["doc_count"])?, bucket)?);
    }
    let full = groups.len() >= COMPOSITE_PAGE;
    match (full, after) {
        (true, Value::Null) => Err(malformed()),
        (true, after) => Ok(Groups { groups, after: Some(after) }),
        (false, _) => Ok(Groups { groups, after: None }),
    }
}

/// Fails unless the groups have every document of the slice once.
pub(crate) fn prove(
    plan: &AggregatePlan,
    keys: &[Key],
    groups: &[Group],
    documents: u64,
) -> Result<(), String> {
    let counted: u64 = groups.iter().map(|group| group.documents).sum();
    if counted == documents {
        return Ok(());
    }
    let names: Vec<&str> = keys.iter().map(|key| plan.name(key.column)).collect();
    Err(format!(
        "the groups by {} have {counted} documents of {documents}: a document has several values",
        names.join(", ")
    ))
}

fn read_whole(plan: &AggregatePlan, set: usize, aggregations: &mut Value) -> Result<Vec<Group>, String> {
    let response = &mut aggregations[format!("s{set}")];
    // Of a date histogram, both are missing.
    let others = response["sum_other_doc_count"].as_u64().unwrap_or(0);
    let error = response["doc_count_error_upper_bound"].as_i64().unwrap_or(0);
    let buckets = response["buckets"].as_array_mut().ok_or_else(malformed)?;
    if others != 0 || error != 0 {
        return Err(format!("there are more than {} groups", buckets.len()));
    }
    let mut groups = Vec::with_capacity(buckets.len() + 1);
    for bucket in buckets {
        let key = bucket["key"].take();
        groups.push(group(plan, vec![key], count(&bucket["doc_count"])?, bucket)?);
    }
    let missing = &aggregations[format!("m{set}")];
    let documents = count(&missing["doc_count"])?;
    if documents > 0 {
        groups.push(group(plan, vec![Value::Null], documents, missing)?);
    }
    Ok(groups)
}

fn group(plan: &AggregatePlan, keys: Vec<Value>, documents: u64, bucket: &Value) -> Result<Group, String> {
    let mut numbers = Vec::with_capacity(plan.measures.len());
    for (place, measure) in plan.measures.iter().enumerate() {
        if measure.column().is_none() {
            numbers.push(Number { values: documents, result: None });
            continue;
        }
        let values = count(&bucket[format!("c{place}")]["value"])?;
        let result = match measure {
            Measure::Rows | Measure::Count(_) => None,
            Measure::Sum(_) | Measure::Avg(_) | Measure::Min(_) | Measure::Max(_) if values == 0 => None,
            Measure::Sum(_) | Measure::Avg(_) | Measure::Min(_) | Measure::Max(_) => {
                Some(integer(&bucket[format!("x{place}")]["value"])?)
            }
        };
        numbers.push(Number { values, result });
    }
    Ok(Group { keys, documents, numbers })
}

/// Fails unless each counted column has at most one value in each document, and sums of it are exact.
fn check_columns(plan: &AggregatePlan, documents: u64, aggregations: &Value) -> Result<(), String> {
    for column in plan.counted() {
        let values = count(&aggregations[format!("v{column}")]["value"])?;
        let missing = count(&aggregations[format!("n{column}")]["doc_count"])?;
        if values.checked_add(missing) != Some(documents) {
            let name = plan.name(column);
            return Err(format!("a document has several values of \"{name}\""));
        }
    }
    for column in plan.summed() {
        let mut greatest: f64 = 0.0;
        for end in ["l", "h"] {
            let value = &aggregations[format!("{end}{column}")]["value"];
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
