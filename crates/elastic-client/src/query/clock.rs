//! Queries that read the clock outside of the bounds of a range.
//!
//! Owns: refusing such a query after its ranges are pinned. Must not know: how ranges are pinned.
//!
//! A `now` in a text in Lucene's syntax cannot be pinned, because only the mapping of the field defines how it is read.
//! A script cannot be pinned, because it may read the clock in any line. A `now` alone that is not a bound counts as a
//! word, because as a date it would match only a single millisecond.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

use super::QueryError;
use super::pin::{BOUNDS, pin_ranges};
use super::walk::{kind_and_body, map_children};
use crate::date_math::{is_math, math_length};

/// Kinds of queries whose values are not dates, or are pinned.
const WITHOUT_DATES: &[&str] = &[
    "range",
    "ids",
    "exists",
    "prefix",
    "wildcard",
    "regexp",
    "fuzzy",
    "type",
    "parent_id",
    "match_all",
    "match_none",
    "rank_feature",
    "more_like_this",
    "percolate",
];
/// Kinds of queries in which a key such as `to` is the name of a field, not a bound.
const BY_FIELD: &[&str] = &["term", "match", "match_phrase", "match_phrase_prefix", "match_bool_prefix"];
/// Kinds of queries that contain scripts.
const WITH_SCRIPTS: &[&str] = &["script", "script_score", "function_score", "terms_set", "intervals"];
const SCRIPT_KEYS: &[&str] = &["script", "minimum_should_match_script"];
/// Parts of a script without white space that read the clock.
const CLOCKS: &[&str] = &[
    "currentTimeMillis",
    "nanoTime",
    ".now(",
    "::now",
    "newDate()",
    "Date::new",
    "newGregorianCalendar()",
    "GregorianCalendar::new",
    "Calendar.getInstance",
    "Calendar::getInstance",
    "Clock.",
    "Clock::",
    "dateNow",
];
const DECAYS: &[&str] = &["gauss", "linear", "exp"];
/// Keys whose texts are not values of a field.
const NO_VALUES: &[&str] = &["_name", "format"];

/// Whether the score decides which documents a query finds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scores {
    Ignored,
    Decide,
}

/// Refuses a query that finds other documents at another time.
pub(super) fn refuse_clock(query: &Value) -> Result<(), QueryError> {
    refuse(query, Scores::Ignored)
}

fn refuse(query: &Value, scores: Scores) -> Result<(), QueryError> {
    let Some((kind, body)) = kind_and_body(query) else { return Ok(()) };
    let children = std::cell::RefCell::new(Vec::new());
    let own = map_children(kind, body, &|child| {
        children.borrow_mut().push(child.clone());
        Value::Null
    });
    let scores = if own.get("min_score").is_some() { Scores::Decide } else { scores };
    refuse_own(kind, &own, scores)?;
    children.take().iter().try_for_each(|child| refuse(child, scores))
}

/// Checks a query without the queries inside it.
fn refuse_own(kind: &str, own: &Value, scores: Scores) -> Result<(), QueryError> {
    if WITH_SCRIPTS.contains(&kind) {
        refuse_scripts(own)?;
    }
    let reads_clock = match kind {
        "query_string" | "simple_query_string" => {
            let text = own.get("query").and_then(Value::as_str).unwrap_or_default();
            if text_reads_clock(text) {
                return Err(QueryError::Clock { place: "the text of a query_string" });
            }
            false
        }
        "wrapper" => return refuse_wrapped(own, scores),
        "function_score" => scores == Scores::Decide && has_decay_from_now(own),
        "distance_feature" => scores == Scores::Decide && holds_now(kind, own),
        kind if WITHOUT_DATES.contains(&kind) || WITH_SCRIPTS.contains(&kind) => false,
        kind => holds_now(kind, own),
    };
    if reads_clock { Err(QueryError::Clock { place: "a query other than a range" }) } else { Ok(()) }
}

/// Returns whether a value contains `now` with date math, or `now` alone as a bound.
fn holds_now(kind: &str, value: &Value) -> bool {
    let is_now = |key: &str, text: &str| match text.strip_prefix("now") {
        Some("") => BOUNDS.contains(&key) && !BY_FIELD.contains(&kind),
        Some(math) => is_math(math),
        None => false,
    };
    match value {
        Value::String(text) => is_now("", text),
        Value::Array(values) => values.iter().any(|value| holds_now(kind, value)),
        Value::Object(object) => object.iter().any(|(key, value)| match value {
            _ if NO_VALUES.contains(&key.as_str()) => false,
            Value::String(text) => is_now(key, text),
            value => holds_now(kind, value),
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Returns whether a decay function has its origin at `now`. The origin of dates is `now` by default.
fn has_decay_from_now(own: &Value) -> bool {
    let decays_from_now = |function: &Map<String, Value>| {
        let decays = function.iter().filter(|(key, _)| DECAYS.contains(&key.as_str()));
        let mut fields = decays.filter_map(|(_, decay)| decay.as_object()).flat_map(Map::values);
        fields.any(|field| match field {
            Value::Object(field) => match field.get("origin") {
                None | Some(Value::Null) => true,
                Some(origin) => origin.as_str().is_some_and(|origin| origin.starts_with("now")),
            },
            _ => false,
        })
    };
    let functions = own.get("functions").and_then(Value::as_array);
    let functions = functions.into_iter().flatten().chain([own]);
    functions.filter_map(Value::as_object).any(decays_from_now)
}

/// Checks a `wrapper`, which contains a query in base64. Refuses one that cannot be decoded or needs pinning.
fn refuse_wrapped(own: &Value, scores: Scores) -> Result<(), QueryError> {
    let text = own.get("query").and_then(Value::as_str).and_then(|text| BASE64.decode(text).ok());
    let query = text.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    match query {
        Some(query) if pin_ranges(&query, "") == query => refuse(&query, scores),
        Some(_) | None => Err(QueryError::Clock { place: "a wrapper" }),
    }
}

fn refuse_scripts(value: &Value) -> Result<(), QueryError> {
    match value {
        Value::Array(values) => values.iter().try_for_each(refuse_scripts),
        Value::Object(object) => object.iter().try_for_each(|(key, value)| {
            if SCRIPT_KEYS.contains(&key.as_str()) { refuse_script(value) } else { refuse_scripts(value) }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn refuse_script(script: &Value) -> Result<(), QueryError> {
    let source = match script {
        Value::Object(object) => object.get("source").or_else(|| object.get("inline")),
        other => Some(other),
    };
    let Some(source) = source.and_then(Value::as_str) else { return Err(QueryError::StoredScript) };
    let code: String = source.chars().filter(|c| !c.is_whitespace()).collect();
    match CLOCKS.iter().any(|clock| code.contains(clock)) {
        true => Err(QueryError::Clock { place: "a script" }),
        false => Ok(()),
    }
}

/// Returns whether a text has `now` with date math anywhere, or `now` as a bound: `[now TO …]`, `[… TO now]`, `>now`.
fn text_reads_clock(text: &str) -> bool {
    let text = text.replace('\\', "");
    text.match_indices("now").any(|(at, now)| {
        let (before, after) = (&text[..at], &text[at + now.len()..]);
        let begins = |c: char| c.is_whitespace() || "()[]{}\":^<>=!+-|&,".contains(c);
        if !before.chars().next_back().is_none_or(begins) {
            return false;
        }
        let math = math_length(after);
        let after = &after[math..];
        if after.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            return false;
        }
        let before = before.trim_end_matches('"').trim_end();
        let after = after.trim_start_matches('"').trim_start();
        math > 0
            || before.ends_with(['[', '{', '<', '>', '='])
            || before.ends_with(" TO")
            || after.starts_with("TO ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_in_lucenes_syntax() {
        let clocks = [
            "@timestamp:[now-1h TO now]",
            "t:[2026-01-01 TO now]",
            "t:[now TO *]",
            "t:{now TO *}",
            "t:{* TO now}",
            "t:>now-1h",
            "t:>=now",
            "t:(>now-1d AND a:b)",
            "t:now/d",
            "now-1h",
            "t:\"now-1h\"",
            "t:now\\-1h",
            "t:now\\/d",
            "a:b AND t:[\"now\" TO \"2027\"]",
            "-now-1d",
            "t:[2026 TO\tnow-5m/m]",
            "t:[ now TO *]",
            "é t:now+1M",
        ];
        let words = [
            "now",
            "message:now",
            "right now",
            "now and then",
            "knows",
            "nowhere",
            "snow-1h",
            "now-famous",
            "now-1hx",
            "www.now-1d.example",
            "now_-1h",
            "t:[2026-01-01 TO 2026-01-02]",
            "TO now",
            "know-1d",
            "a:now OR b:c",
        ];
        for kind in ["query_string", "simple_query_string"] {
            let query = |text| json!({ "bool": { "filter": [{ kind: { "query": text } }] } });
            for text in clocks {
                assert_eq!(
                    refuse_clock(&query(text)),
                    Err(QueryError::Clock { place: "the text of a query_string" }),
                    "{text}"
                );
            }
            for text in words {
                assert_eq!(refuse_clock(&query(text)), Ok(()), "{text}");
            }
        }
    }

    #[test]
    fn scripts() {
        let holders: [fn(Value) -> Value; 6] = [
            |script| json!({ "script": { "script": script } }),
            |script| json!({ "script_score": { "query": { "match_all": {} }, "script": script } }),
            |script| json!({ "function_score": { "functions": [{ "script_score": { "script": script } }] } }),
            |script| json!({ "function_score": { "script_score": { "script": script } } }),
            |script| json!({ "terms_set": { "a": { "terms": ["x"], "minimum_should_match_script": script } } }),
            |script| json!({ "intervals": { "a": { "match": { "query": "x", "filter": { "script": script } } } } }),
        ];
        let clocks = [
            "System.currentTimeMillis() - doc['t'].value.millis < 5",
            "new Date().getTime() > 1",
            "new  Date ( ).getTime() > 1",
            "Instant.now().toEpochMilli() > 1",
            "System . nanoTime() > 1",
            "Calendar.getInstance().getTimeInMillis() > 1",
        ];
        let fixed = [
            "doc['t'].value.toInstant().toEpochMilli() > params.now",
            "new Date(params.t).getTime() > 1",
            "1",
        ];
        for holder in holders {
            for source in clocks {
                for script in [
                    json!(source),
                    json!({ "source": source }),
                    json!({ "inline": source, "lang": "painless" }),
                ] {
                    let query = json!({ "bool": { "must": holder(script) } });
                    assert_eq!(refuse_clock(&query), Err(QueryError::Clock { place: "a script" }), "{query}");
                }
            }
            for source in fixed {
                let query = holder(json!({ "source": source, "params": { "now": 1 } }));
                assert_eq!(refuse_clock(&query), Ok(()), "{query}");
            }
            for stored in [json!({ "id": "s" }), json!({ "stored": "s" }), json!(1)] {
                assert_eq!(refuse_clock(&holder(stored)), Err(QueryError::StoredScript));
            }
        }
        // Here `script` is the name of a field.
        assert_eq!(refuse_clock(&json!({ "term": { "script": "new Date()" } })), Ok(()));
    }

    #[test]
    fn other_queries() {
        let decay = |origin: Value, min_score: Value| {
            json!({ "function_score": { "functions": [{ "gauss": { "t": { "origin": origin, "scale": "1d" } } }],
                "min_score": min_score } })
        };
        let mut without_min_score = decay(json!("now-1d"), json!(1));
        without_min_score["function_score"].as_object_mut().unwrap().remove("min_score");
        let wrapped = |query: Value| json!({ "wrapper": { "query": BASE64.encode(query.to_string()) } });
        let clocks = [
            json!({ "term": { "t": "now/d" } }),
            json!({ "term": { "t": { "value": "now-1h" } } }),
            json!({ "terms": { "t": ["a", "now-1d/d"] } }),
            json!({ "match": { "t": { "query": "now-1h" } } }),
            json!({ "multi_match": { "query": "now/d", "fields": ["*"] } }),
            json!({ "nested": { "path": "p", "query": { "match_phrase": { "p.t": "now/d" } } } }),
            json!({ "unheard_of": { "t": { "gte": "now" } } }),
            decay(json!("now"), json!(0.5)),
            decay(json!(null), json!(0.5)),
            json!({ "script_score": { "query": decay(json!("now-1d"), json!(1)), "script": "_score", "min_score": 1 } }),
            wrapped(json!({ "range": { "t": { "gte": "now-1h" } } })),
            wrapped(json!({ "term": { "t": "now/d" } })),
            json!({ "wrapper": { "query": "not base64" } }),
        ];
        for query in clocks {
            assert!(matches!(refuse_clock(&query), Err(QueryError::Clock { .. })), "{query}");
        }
        let plain = [
            json!({ "term": { "word": "now" } }),
            json!({ "term": { "to": "now" } }),
            json!({ "terms": { "to": ["now"] } }),
            json!({ "term": { "t": { "value": "a", "_name": "now-1d" } } }),
            json!({ "prefix": { "word": "now-1h" } }),
            json!({ "ids": { "values": ["now-1d"] } }),
            json!({ "match": { "text": "now or never" } }),
            without_min_score,
            decay(json!("2026-01-01"), json!(0.5)),
            wrapped(json!({ "term": { "a": 1 } })),
        ];
        for query in plain {
            assert_eq!(refuse_clock(&query), Ok(()), "{query}");
        }
    }
}
