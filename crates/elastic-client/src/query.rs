//! The user's base query: reading its text, translating its old forms, and pinning its `now`.
//!
//! Owns: pure functions over JSON. Must not know: servers, mappings and connections.

mod clock;
mod filtered;
mod pin;
mod strict;
mod walk;

use serde_json::{Map, Value, json};
use url::form_urlencoded;

use clock::refuse_clock;
pub use filtered::translate_filtered;
use pin::pin_ranges;

/// Keys of a search body that select the content of rows. They are ignored, because the columns of the table select it.
const IGNORED: &[&str] = &[
    "_source",
    "fields",
    "docvalue_fields",
    "stored_fields",
    "track_total_hits",
    "track_scores",
    "version",
    "explain",
    "profile",
];

/// Keys of a search body that would change the set of rows or their order, each with an alternative.
const REFUSED: &[(&str, Option<&str>)] = &[
    ("size", Some("use LIMIT")),
    ("from", Some("use OFFSET")),
    ("sort", Some("use ORDER BY")),
    ("aggs", Some("use GROUP BY")),
    ("aggregations", Some("use GROUP BY")),
    ("post_filter", Some("move it into the query")),
    ("filter", Some("move it into the query")),
    ("min_score", None),
    ("collapse", None),
    ("search_after", None),
    ("terminate_after", None),
    ("timeout", None),
    ("slice", None),
    ("pit", None),
    ("rescore", None),
    ("retriever", None),
    ("rank", None),
    ("indices_boost", None),
    ("runtime_mappings", None),
    ("script_fields", None),
    ("highlight", None),
    ("suggest", None),
];

/// The most levels of a base query. An executor reads at most 127 levels of JSON from a plan, and the table's filters
/// add levels around the query.
const MAX_LEVELS: usize = 100;

/// The query that every row of a table matches.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseQuery {
    /// The query in the server's DSL, as the user wrote it.
    pub query: Value,
    /// The fields that the `_source` of the search body lists, with wildcards. `None` if it lists none.
    pub source_fields: Option<Vec<String>>,
}

/// Why a base query is refused. No message contains a value of the query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The text is empty.
    #[error("the base query is empty")]
    Empty,
    /// The text is not valid JSON.
    #[error("the base query is not valid JSON: line {line}, column {column}: {problem}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong at that place.
        problem: &'static str,
    },
    /// The text is neither a JSON object nor `?q=…`.
    #[error("the base query must be a JSON object or have the form ?q=...")]
    Shape,
    /// The query is not an object with exactly one key.
    #[error("{place} must be a JSON object with exactly one key, the kind of query")]
    NotOneQuery {
        /// The part of the base query.
        place: &'static str,
    },
    /// The query has more levels than an executor can read from a plan.
    #[error(
        "the base query is nested too deep: it has {levels} levels after its old forms are translated, the \
         limit is {MAX_LEVELS}"
    )]
    TooDeep {
        /// The number of nested objects and arrays.
        levels: usize,
    },
    /// The search body has a key that would change the set of rows or their order.
    #[error("the base query must not have {key:?}, which changes the rows{}", hint(*instead))]
    Refused {
        /// The part.
        key: String,
        /// What to do instead.
        instead: Option<&'static str>,
    },
    /// The search body has an unknown key.
    #[error("the base query has an unknown part {key:?} beside its \"query\"")]
    UnknownKey {
        /// The part.
        key: String,
    },
    /// The value of `_source` has an invalid type.
    #[error("\"_source\" of the base query must be true, false, a field, a list of fields or an object")]
    Source,
    /// The form `?q=…` has an unknown parameter.
    #[error("the base query ?q=... has an unknown parameter {parameter:?}")]
    UnknownParameter {
        /// The parameter.
        parameter: String,
    },
    /// The form `?q=…` has the same parameter twice.
    #[error("the base query ?q=... has the parameter {parameter:?} twice")]
    RepeatedParameter {
        /// The parameter.
        parameter: String,
    },
    /// The parameter of `?q=…` must be true or false.
    #[error("the parameter {parameter:?} of the base query ?q=... must be true or false")]
    NotBoolean {
        /// The parameter.
        parameter: String,
    },
    /// The query reads the clock outside of the bounds of a range, so each request would find other documents.
    #[error(
        "{place} of the base query reads the clock, which differs for each page; write a fixed time such as \
         2026-01-02T03:04:05Z, or use a range query, whose \"now\" is pinned to one instant"
    )]
    Clock {
        /// The part of the base query that reads the clock.
        place: &'static str,
    },
    /// The query has a stored script, whose source only the server knows.
    #[error(
        "the base query uses a stored script, which may read the clock and may change between two pages; \
         write its \"source\" instead"
    )]
    StoredScript,
    /// The form `?…` has no `q`, or an empty one.
    #[error("the base query ?q=... has no \"q\", or an empty one")]
    NoQ,
}

/// Replaces the `now` of each `range` bound by the instant `now` (`2026-01-02T03:04:05.678Z`), at any depth of the
/// query. `now-1h/d` becomes `2026-01-02T03:04:05.678Z||-1h/d`, and `now` alone becomes the instant.
///
/// The server reads a bound by the `format` of the range, or else by the format of the field, which is unknown here. So
/// the range gets a format that reads the instant:
///
/// | the other bounds | the range's `format` | becomes |
/// |---|---|---|
/// | none, or `now` too | any or none | `strict_date_optional_time` |
/// | dates or numbers | F | `F\|\|strict_date_optional_time`. F is first, so it still reads the other bounds |
/// | numbers that can only be milliseconds | none | `strict_date_optional_time\|\|epoch_millis` |
/// | other dates and numbers | none | `strict_date_optional_time` |
///
/// In the last row, the server refuses a date that only the format of the field can read. It never reads it as another
/// date. A `format` in the range avoids the error.
///
/// # Errors
///
/// If the query reads the clock elsewhere: in a `query_string`, in date math of a `term` or a `match`, or in a script.
/// Stored scripts are refused because their source is unknown.
pub fn pin_now(query: &Value, now: &str) -> Result<Value, QueryError> {
    let pinned = pin_ranges(query, now);
    refuse_clock(&pinned)?;
    Ok(pinned)
}

/// Reads a base query: a search body (`{"query": …, "_source": …}`), a query alone (`{"term": …}`), or `?q=…`. An empty
/// object matches every document, as it does on the servers.
///
/// # Errors
///
/// If the text has none of these forms, is nested too deep, or has a key that would change the set of rows.
pub fn parse_base_query(text: &str) -> Result<BaseQuery, QueryError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(QueryError::Empty);
    }
    if let Some(parameters) = text.strip_prefix('?') {
        return Ok(BaseQuery { query: parse_uri(parameters)?, source_fields: None });
    }
    if !text.starts_with('{') {
        return Err(QueryError::Shape);
    }
    let Value::Object(object) = strict::parse_json(text)? else {
        return Err(QueryError::Shape);
    };
    if object.is_empty() || object.keys().any(|key| is_body_key(key)) {
        return parse_body(object);
    }
    let query = Value::Object(object);
    check_query(&query, "the base query")?;
    Ok(BaseQuery { query, source_fields: None })
}

fn is_body_key(key: &str) -> bool {
    key == "query" || IGNORED.contains(&key) || REFUSED.iter().any(|(refused, _)| *refused == key)
}

fn parse_body(body: Map<String, Value>) -> Result<BaseQuery, QueryError> {
    let mut base = BaseQuery { query: json!({"match_all": {}}), source_fields: None };
    for (key, value) in body {
        match key.as_str() {
            "query" => {
                check_query(&value, "\"query\" of the base query")?;
                base.query = value;
            }
            "_source" => base.source_fields = parse_source(&value)?,
            name if IGNORED.contains(&name) => {}
            name => {
                let Some((_, instead)) = REFUSED.iter().find(|(refused, _)| *refused == name) else {
                    return Err(QueryError::UnknownKey { key });
                };
                return Err(QueryError::Refused { key, instead: *instead });
            }
        }
    }
    Ok(base)
}

fn check_query(query: &Value, place: &'static str) -> Result<(), QueryError> {
    if query.as_object().is_none_or(|object| object.len() != 1) {
        return Err(QueryError::NotOneQuery { place });
    }
    let levels = levels(&translate_filtered(query));
    if levels > MAX_LEVELS { Err(QueryError::TooDeep { levels }) } else { Ok(()) }
}

/// Returns the depth of nested objects and arrays.
fn levels(value: &Value) -> usize {
    match value {
        Value::Object(object) => 1 + object.values().map(levels).max().unwrap_or_default(),
        Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn parse_source(source: &Value) -> Result<Option<Vec<String>>, QueryError> {
    match source {
        Value::Bool(_) => Ok(None),
        Value::String(field) => Ok(Some(vec![field.clone()])),
        Value::Array(fields) => {
            let fields: Option<Vec<_>> =
                fields.iter().map(|field| field.as_str().map(str::to_owned)).collect();
            fields.map(Some).ok_or(QueryError::Source)
        }
        Value::Object(sides) => match sides.get("includes").or_else(|| sides.get("include")) {
            Some(Value::Object(_) | Value::Bool(_)) => Err(QueryError::Source),
            Some(includes) => parse_source(includes),
            None => Ok(None),
        },
        Value::Null | Value::Number(_) => Err(QueryError::Source),
    }
}

/// Translates the parameters `q=…&df=…` to a `query_string` query.
fn parse_uri(parameters: &str) -> Result<Value, QueryError> {
    let mut query = Map::new();
    for (name, value) in form_urlencoded::parse(parameters.as_bytes()) {
        let parameter = name.to_string();
        let (key, value) = match name.as_ref() {
            "q" => ("query", Value::from(value.as_ref())),
            "df" => ("default_field", Value::from(value.as_ref())),
            "default_operator" | "analyzer" => (name.as_ref(), Value::from(value.as_ref())),
            "analyze_wildcard" | "lenient" => match value.as_ref() {
                "true" | "" => (name.as_ref(), Value::Bool(true)),
                "false" => (name.as_ref(), Value::Bool(false)),
                _ => return Err(QueryError::NotBoolean { parameter }),
            },
            _ => return Err(QueryError::UnknownParameter { parameter }),
        };
        if query.insert(key.to_owned(), value).is_some() {
            return Err(QueryError::RepeatedParameter { parameter });
        }
    }
    match query.get("query").and_then(Value::as_str) {
        Some(q) if !q.trim().is_empty() => Ok(json!({ "query_string": query })),
        _ => Err(QueryError::NoQ),
    }
}

fn hint(instead: Option<&str>) -> String {
    instead.map(|instead| format!(", {instead} instead")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
