//! The base query a user gives, as text: reading it, bringing its old forms up to date, and pinning its `now`.
//!
//! Pure functions over JSON. They know no server, no mapping and no connection.

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

/// Keys of a search body that say how rows look, not which rows there are: the table decides that, so they are
/// ignored.
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

/// Keys of a search body that would change which rows there are or their order, and what to do instead.
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

/// The deepest query that is sent: whoever reads it from a plan, with the table's filters around it, reads 127
/// levels of JSON.
const MAX_LEVELS: usize = 100;

/// The query every row of a table has to match.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseQuery {
    /// The query itself, as it was given.
    pub query: Value,
    /// The fields its `_source` lists, wildcards as written; `None` if it lists none. Nothing here reads them.
    pub source_fields: Option<Vec<String>>,
}

/// Why a text is no base query. No message holds a value of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// No text.
    #[error("the base query is empty")]
    Empty,
    /// Not JSON.
    #[error("the base query is not valid JSON: line {line}, column {column}: {problem}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong there.
        problem: &'static str,
    },
    /// JSON or other text of another shape.
    #[error("the base query must be a JSON object or have the form ?q=...")]
    Shape,
    /// A query that is no object with one key.
    #[error("{place} must be a JSON object with exactly one key, the kind of query")]
    NotOneQuery {
        /// What was looked at.
        place: &'static str,
    },
    /// A query that could not be read from a plan.
    #[error(
        "the base query is nested too deep: {levels} levels with its old forms translated, at most {MAX_LEVELS} are read"
    )]
    TooDeep {
        /// Objects and arrays within each other.
        levels: usize,
    },
    /// A part of a search body that would change which rows there are, or their order.
    #[error("the base query must not have {key:?}, which changes the rows{}", hint(*instead))]
    Refused {
        /// The part.
        key: String,
        /// What to do instead.
        instead: Option<&'static str>,
    },
    /// A part of a search body that is not known here.
    #[error("the base query has an unknown part {key:?} beside its \"query\"")]
    UnknownKey {
        /// The part.
        key: String,
    },
    /// A `_source` that says nothing.
    #[error("\"_source\" of the base query must be true, false, a field, a list of fields or an object")]
    Source,
    /// A parameter of `?q=…` that is not known here.
    #[error("the base query ?q=... has an unknown parameter {parameter:?}")]
    UnknownParameter {
        /// The parameter.
        parameter: String,
    },
    /// A parameter of `?q=…` that stands twice.
    #[error("the base query ?q=... has the parameter {parameter:?} twice")]
    RepeatedParameter {
        /// The parameter.
        parameter: String,
    },
    /// A parameter of `?q=…` that must be true or false.
    #[error("the parameter {parameter:?} of the base query ?q=... must be true or false")]
    NotBoolean {
        /// The parameter.
        parameter: String,
    },
    /// Something that is another moment for each request, and is no bound of a range.
    #[error(
        "{place} of the base query reads the clock, which tells each page another time; write the time out, such as \
         2026-01-02T03:04:05Z, or ask by a range query, whose \"now\" is pinned to one moment"
    )]
    Clock {
        /// Where.
        place: &'static str,
    },
    /// A script whose text is only known to the server.
    #[error(
        "the base query names a stored script, which may read the clock and may change between two pages; write its \
         \"source\" in its place"
    )]
    StoredScript,
    /// `?…` without a `q`.
    #[error("the base query ?q=... has no \"q\", or an empty one")]
    NoQ,
}

/// Replaces the `now` of each `range` bound by the instant `now` (`2026-01-02T03:04:05.678Z`), however deep the range
/// stands: `now-1h/d` becomes `2026-01-02T03:04:05.678Z||-1h/d`, and `now` alone the instant alone.
///
/// A bound is read by the range's `format`, else by the field's own, which is not known here. So the range gets a
/// format that reads the instant:
///
/// | the other bounds | the range's `format` | becomes |
/// |---|---|---|
/// | none, or `now` too | any or none | `strict_date_optional_time` |
/// | dates or numbers | F | `F\|\|strict_date_optional_time`: F first, so that they are read as before |
/// | numbers that can only be milliseconds | none | `strict_date_optional_time\|\|epoch_millis` |
/// | other dates and numbers | none | `strict_date_optional_time` |
///
/// In the last row a date that only the field's own format reads is an error of the server, never another date; a
/// `format` in the range settles it.
///
/// # Errors
/// If the query reads the clock elsewhere: in a text of Lucene's syntax (`query_string`), in date math of a `term`
/// or a `match`, or in a script.
pub fn pin_now(query: &Value, now: &str) -> Result<Value, QueryError> {
    let pinned = pin_ranges(query, now);
    refuse_clock(&pinned)?;
    Ok(pinned)
}

/// Reads a base query: a search body (`{"query": …, "_source": …}`), a query on its own (`{"term": …}`) or the
/// form `?q=…`. An empty object matches everything, as it does on the servers.
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

/// How many objects and arrays stand within each other.
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

/// `q=…&df=…` → a `query_string` query.
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
