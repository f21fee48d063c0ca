//! Translation of the `filtered` query, which Elasticsearch 5 removed, to `bool`.
//!
//! Owns: the translation of the old forms. Must not know: which server gets the query.
//!
//! A form without an exact translation is left unchanged. Every server without `filtered` refuses the other old forms
//! too, and an error is better than a query with another meaning.

use serde_json::{Map, Value, json};

use super::walk::{kind_and_body, map_children, map_slot, query_of};

/// The side of a `filtered` query that contains a query.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Outside of it, or under its `query`. Only a nested `filtered` is translated here.
    Query,
    /// Under its `filter`, at any depth.
    Filter,
}

/// Hints for the filter cache, which newer servers do not accept.
const CACHE_KEYS: &[&str] = &["_cache", "_cache_key"];
const MINIMUM: &str = "minimum_should_match";
/// Other names of it that old servers accepted.
const OLD_MINIMUMS: &[&str] =
    &["minimumShouldMatch", "minimum_number_should_match", "minimumNumberShouldMatch"];

/// Translates each `filtered` query, at any depth, to a `bool` with the same meaning on current servers. Returns a
/// query without one unchanged.
///
/// On the filter side, `and`, `or`, `not`, `missing` and `query` are translated too. There each `bool` with `should`
/// gets `"minimum_should_match": 1`. That was the default for filters, but is not on Elasticsearch 7 and later or on
/// OpenSearch (<https://github.com/elastic/elasticsearch/issues/35354>). The default of the query side never changed.
pub fn translate_filtered(query: &Value) -> Value {
    translate(query, Side::Query)
}

fn translate(query: &Value, side: Side) -> Value {
    let Some((kind, body)) = kind_and_body(query) else {
        return query.clone();
    };
    if kind == "filtered" {
        return match body.as_object() {
            Some(body) => translate_one_filtered(body, side),
            None => query.clone(),
        };
    }
    if side == Side::Query {
        return query_of(kind, map_children(kind, body, &|child| translate(child, Side::Query)));
    }
    translate_filter(kind, body).unwrap_or_else(|| query.clone())
}

fn translate_one_filtered(body: &Map<String, Value>, side: Side) -> Value {
    let must = body.get("query").map_or_else(|| json!({"match_all": {}}), |query| translate(query, side));
    let mut bool_body = Map::new();
    bool_body.insert("must".to_owned(), json!([must]));
    if let Some(filter) = body.get("filter") {
        bool_body.insert("filter".to_owned(), json!([translate(filter, Side::Filter)]));
    }
    // `boost` and `_name` have the same meaning on a `bool`. The server refuses any unknown key.
    let gone = ["query", "filter", "strategy"];
    for (key, value) in body {
        if !gone.contains(&key.as_str()) && !CACHE_KEYS.contains(&key.as_str()) {
            bool_body.insert(key.clone(), value.clone());
        }
    }
    query_of("bool", bool_body.into())
}

/// Translates a query on the filter side. Returns `None` if it has no exact translation.
fn translate_filter(kind: &str, body: &Value) -> Option<Value> {
    let translate_child = |child: &Value| translate(child, Side::Filter);
    match kind {
        "and" => Some(named_bool(body, json!({ "filter": clauses(body)? }))),
        "or" => Some(named_bool(body, json!({ "should": clauses(body)?, MINIMUM: 1 }))),
        "not" => {
            let inner = without(body, &["_name"]);
            let inner = inner.get("filter").unwrap_or(&inner);
            kind_and_body(inner)?;
            Some(named_bool(body, json!({ "must_not": [translate_child(inner)] })))
        }
        "missing" => {
            // With `existence: false` or `null_value: true` it does not mean the negation of `exists`.
            let asks_plainly = body.get("existence").is_none_or(|existence| existence == true)
                && body.get("null_value").is_none_or(|null_value| null_value == false);
            let field = body.get("field").filter(|field| asks_plainly && field.is_string())?;
            Some(named_bool(body, json!({ "must_not": [{ "exists": { "field": field } }] })))
        }
        "query" => Some(translate_child(body)),
        "fquery" => Some(translate_child(body.get("query")?)),
        "bool" => Some(query_of("bool", translate_bool(body.as_object()?))),
        _ => Some(query_of(kind, map_children(kind, &without(body, &[]), &translate_child))),
    }
}

/// Returns the translated clauses of an `and` or `or`: its body, or the list in its `filters`. Returns `None` for an
/// empty list. It meant "no filter", which no `bool` expresses in every place.
fn clauses(body: &Value) -> Option<Value> {
    let list = body.get("filters").unwrap_or(body);
    list.as_array().filter(|list| !list.is_empty())?;
    Some(map_slot(list, &|child| translate(child, Side::Filter)))
}

/// Returns a `bool` that replaces an old form and keeps its `_name`.
fn named_bool(old_body: &Value, mut bool_body: Value) -> Value {
    if let (Some(name), Some(bool_body)) = (old_body.get("_name"), bool_body.as_object_mut()) {
        bool_body.insert("_name".to_owned(), name.clone());
    }
    query_of("bool", bool_body)
}

fn translate_bool(body: &Map<String, Value>) -> Value {
    let mut renamed = Map::new();
    for (key, value) in without_keys(body, &[]) {
        let key = if OLD_MINIMUMS.contains(&key.as_str()) { MINIMUM.to_owned() } else { key };
        renamed.insert(key, value);
    }
    // With an empty `should`, an explicit minimum would match nothing, but the old default matched everything.
    let has_should = match renamed.get("should") {
        Some(Value::Array(clauses)) => !clauses.is_empty(),
        Some(Value::Null) | None => false,
        Some(_) => true,
    };
    if has_should && !renamed.contains_key(MINIMUM) {
        renamed.insert(MINIMUM.to_owned(), json!(1));
    }
    map_children("bool", &Value::Object(renamed), &|child| translate(child, Side::Filter))
}

/// Returns the body without cache hints and without the given keys.
fn without(body: &Value, gone: &[&str]) -> Value {
    match body {
        Value::Object(object) => Value::Object(without_keys(object, gone)),
        other => other.clone(),
    }
}

fn without_keys(object: &Map<String, Value>, gone: &[&str]) -> Map<String, Value> {
    let keep = |key: &str| !CACHE_KEYS.contains(&key) && !gone.contains(&key);
    object.iter().filter(|(key, _)| keep(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}
