//! The aggregations that compute the groups of a slice.
//!
//! Owns: their JSON, and their names in the response. Must not know: responses.
//!
//! | name | aggregation |
//! |---|---|
//! | `s0`, `s1`, … | the groups of a grouping set with keys |
//! | `m0`, `m1`, … | the documents without a value for a set with one key |
//! | `v3`, `n3` | the number of values of column 3, and of documents without one |
//! | `l3`, `h3` | the least and the greatest value of column 3 |
//! | `x0`, `x1`, … | within a group: a measure, and `c0`, `c1`, … its number of values |

use super::keys::{Key, KeyBy};
use super::measures::Measure;
use super::plan::AggregatePlan;
use serde_json::{Map, Value, json};

/// The most groups that one response may have. Servers return at most 65,535 by default (`search.max_buckets`).
pub(crate) const MAX_BUCKETS: usize = 60_000;
/// The most groups that a page of a composite aggregation may have.
pub(crate) const COMPOSITE_PAGE: usize = 10_000;

/// How the groups of a set are requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// All documents are one group.
    Total,
    /// All groups in one response, and the documents without a value beside them. `terms` returns at most `size`
    /// groups.
    Whole { size: usize },
    /// Groups in the order of their keys, in pages of `size` groups. Only the last page has fewer.
    Pages { size: usize },
}

/// Returns how the groups of each set are requested first.
pub(crate) fn forms(plan: &AggregatePlan) -> Vec<Form> {
    let grouped = plan.sets.iter().filter(|keys| !keys.is_empty()).count();
    let whole = MAX_BUCKETS / grouped.max(1);
    let form = |keys: &Vec<Key>| match keys.len() {
        0 => Form::Total,
        1 => Form::Whole { size: whole },
        _ => Form::Pages { size: whole.min(COMPOSITE_PAGE) },
    };
    plan.sets.iter().map(form).collect()
}

/// Returns the aggregations of the first request: the groups of all sets, and what proves them.
pub(crate) fn first(plan: &AggregatePlan, forms: &[Form]) -> Value {
    let mut all = Map::new();
    for column in plan.counted() {
        all.insert(format!("v{column}"), json!({ "value_count": field(plan, column) }));
        all.insert(format!("n{column}"), json!({ "missing": field(plan, column) }));
    }
    for column in plan.summed() {
        all.insert(format!("l{column}"), json!({ "min": field(plan, column) }));
        all.insert(format!("h{column}"), json!({ "max": field(plan, column) }));
    }
    for (set, (keys, form)) in plan.sets.iter().zip(forms).enumerate() {
        match (form, keys.as_slice()) {
            (Form::Whole { size }, [key]) => {
                let mut groups = values(plan, *key);
                if let Some(terms) = groups.get_mut("terms") {
                    terms["size"] = json!(size);
                    terms["shard_size"] = json!(size);
                } else {
                    groups["date_histogram"]["min_doc_count"] = json!(1);
                }
                all.insert(format!("s{set}"), with_measures(plan, groups));
                let missing = json!({ "missing": field(plan, key.column) });
                all.insert(format!("m{set}"), with_measures(plan, missing));
            }
            (Form::Pages { size }, keys) => {
                all.insert(format!("s{set}"), page(plan, keys, *size, None));
            }
            (Form::Total, _) | (Form::Whole { .. }, _) => all.extend(measures(plan)),
        }
    }
    Value::Object(all)
}

/// Returns the aggregation for the `size` groups of a set after those up to `after`.
pub(crate) fn next(plan: &AggregatePlan, set: usize, size: usize, after: &Value) -> Value {
    json!({ format!("s{set}"): page(plan, &plan.sets[set], size, Some(after)) })
}

/// Returns a [composite
/// aggregation](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/search-aggregations-bucket-composite-aggregation.html).
fn page(plan: &AggregatePlan, keys: &[Key], size: usize, after: Option<&Value>) -> Value {
    let sources = keys.iter().enumerate().map(|(place, key)| {
        let mut source = values(plan, *key);
        for settings in source.as_object_mut().into_iter().flat_map(Map::values_mut) {
            settings["missing_bucket"] = json!(true);
        }
        json!({ place.to_string(): source })
    });
    let mut composite = json!({ "size": size, "sources": sources.collect::<Vec<_>>() });
    if let Some(after) = after {
        composite["after"] = after.clone();
    }
    with_measures(plan, json!({ "composite": composite }))
}

/// Returns the aggregation that groups by a key.
fn values(plan: &AggregatePlan, key: Key) -> Value {
    let field = plan.name(key.column);
    match key.by {
        KeyBy::Value => json!({ "terms": { "field": field } }),
        KeyBy::Calendar(unit) => {
            json!({ "date_histogram": { "field": field, "calendar_interval": unit } })
        }
        KeyBy::Millis(millis) => {
            json!({ "date_histogram": { "field": field, "fixed_interval": format!("{millis}ms") } })
        }
    }
}

fn field(plan: &AggregatePlan, column: usize) -> Value {
    json!({ "field": plan.name(column) })
}

fn with_measures(plan: &AggregatePlan, mut groups: Value) -> Value {
    let measures = measures(plan);
    if !measures.is_empty() {
        groups["aggs"] = Value::Object(measures);
    }
    groups
}

/// Returns the aggregations within a group.
fn measures(plan: &AggregatePlan) -> Map<String, Value> {
    let mut all = Map::new();
    for (place, measure) in plan.measures.iter().enumerate() {
        let Some(column) = measure.column() else { continue };
        all.insert(format!("c{place}"), json!({ "value_count": field(plan, column) }));
        let kind = match measure {
            Measure::Rows | Measure::Count(_) => continue,
            Measure::Sum(_) | Measure::Avg(_) => "sum",
            Measure::Min(_) => "min",
            Measure::Max(_) => "max",
        };
        all.insert(format!("x{place}"), json!({ kind: field(plan, column) }));
    }
    all
}
