//! The places in a query that contain other queries.
//!
//! Owns: finding these places and changing the queries there. Must not know: the purpose of a change.
//!
//! A query is found by its position, never only by its name: in `{"term": {"range": "now"}}` the word `range` is a
//! field.

use serde_json::{Map, Value};

/// The kinds of queries that contain other queries, with the keys that contain them: one query or a list of queries.
const SLOTS: &[(&str, &[&str])] = &[
    ("bool", &["must", "should", "must_not", "mustNot", "filter"]),
    ("filtered", &["query", "filter"]),
    ("constant_score", &["filter", "query"]),
    ("function_score", &["query", "filter"]),
    ("script_score", &["query"]),
    ("nested", &["query", "filter"]),
    ("has_child", &["query", "filter"]),
    ("has_parent", &["query", "filter"]),
    ("top_children", &["query"]),
    ("dis_max", &["queries"]),
    ("hybrid", &["queries", "filter"]),
    ("boosting", &["positive", "negative"]),
    ("indices", &["query", "filter", "no_match_query", "no_match_filter"]),
    ("pinned", &["organic"]),
    ("rule", &["organic"]),
    ("rule_query", &["organic"]),
    ("knn", &["filter"]),
    ("and", &["filters"]),
    ("or", &["filters"]),
    ("fquery", &["query"]),
    ("span_multi", &["match"]),
    ("span_first", &["match"]),
    ("span_near", &["clauses"]),
    ("span_or", &["clauses"]),
    ("span_not", &["include", "exclude"]),
    ("span_containing", &["big", "little"]),
    ("span_within", &["big", "little"]),
    ("field_masking_span", &["query"]),
];

/// Returns the kind and the body of a query, which is an object with one key. Returns `None` for anything else, which
/// the server refuses.
pub(super) fn kind_and_body(query: &Value) -> Option<(&str, &Value)> {
    let object = query.as_object().filter(|object| object.len() == 1)?;
    object.iter().next().map(|(kind, body)| (kind.as_str(), body))
}

/// Returns a query of this kind.
pub(super) fn query_of(kind: &str, body: Value) -> Value {
    Value::Object(Map::from_iter([(kind.to_owned(), body)]))
}

/// Returns the body of a query of this kind, with `change` applied to each query directly inside it. Everything else is
/// unchanged, also the order of keys.
pub(super) fn map_children(kind: &str, body: &Value, change: &dyn Fn(&Value) -> Value) -> Value {
    match (kind, body) {
        ("query", Value::Object(_)) => change(body),
        ("and" | "or", Value::Array(_)) => map_slot(body, change),
        ("not", Value::Object(object)) if !object.contains_key("filter") => change(body),
        ("not", Value::Object(object)) => map_keys(object, &["filter"], change),
        (_, Value::Object(object)) => {
            let Some((_, slots)) = SLOTS.iter().find(|(name, _)| *name == kind) else {
                return body.clone();
            };
            let mut mapped = map_keys(object, slots, change);
            if kind == "function_score"
                && let Some(Value::Array(functions)) = mapped.get_mut("functions")
            {
                for function in functions {
                    if let Some(filter) = function.get_mut("filter") {
                        *filter = change(filter);
                    }
                }
            }
            mapped
        }
        _ => body.clone(),
    }
}

/// Returns one query or a list of queries, with `change` applied to each.
pub(super) fn map_slot(slot: &Value, change: &dyn Fn(&Value) -> Value) -> Value {
    match slot {
        Value::Array(queries) => queries.iter().map(change).collect(),
        one => change(one),
    }
}

fn map_keys(object: &Map<String, Value>, slots: &[&str], change: &dyn Fn(&Value) -> Value) -> Value {
    let mut mapped = Map::new();
    for (key, value) in object {
        let value = if slots.contains(&key.as_str()) { map_slot(value, change) } else { value.clone() };
        mapped.insert(key.clone(), value);
    }
    Value::Object(mapped)
}
