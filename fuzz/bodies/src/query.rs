//! Base queries: reading them, translating `filtered`, pinning `now`.

use arbitrary::{Result, Unstructured};
use elastic_client::{parse_base_query, pin_now, translate_filtered};
use serde_json::{Map, Value, json};

use crate::json::{one_of, scalar, value};

const NOW: &str = "2026-01-02T03:04:05.678Z";

const WORDS: &[&str] = &[
    "query",
    "filter",
    "filters",
    "filtered",
    "bool",
    "must",
    "must_not",
    "mustNot",
    "should",
    "and",
    "or",
    "not",
    "missing",
    "exists",
    "existence",
    "null_value",
    "field",
    "fquery",
    "nested",
    "path",
    "function_score",
    "functions",
    "dis_max",
    "queries",
    "constant_score",
    "range",
    "term",
    "_cache",
    "_name",
    "boost",
    "strategy",
    "minimum_should_match",
    "minimumShouldMatch",
    "gte",
    "lt",
    "from",
    "to",
    "format",
    "_source",
    "size",
];
const LISTS: &[&str] = &["must", "must_not", "should", "filter"];
const BOUNDS: &[&str] = &["gte", "gt", "lte", "lt", "from", "to", "format", "boost"];

/// A text as a base query, and a query made of the forms that are rewritten.
pub fn query(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        check_text(text);
    }
    if let Ok(query) = make(&mut Unstructured::new(data), 12) {
        check_rewrites(&query);
        check_text(&query.to_string());
        check_text(&json!({ "query": query }).to_string());
    }
}

fn check_text(text: &str) {
    match parse_base_query(text) {
        Ok(base) => {
            assert!(base.query.as_object().is_some_and(|query| query.len() == 1), "{}", base.query);
            check_rewrites(&base.query);
            // A query that is accepted must be readable where it is sent, with other filters around it.
            let Some(ready) = ready(&base.query) else { return };
            let sent = json!({ "query": { "bool": { "filter": [ready] } } }).to_string();
            assert!(serde_json::from_str::<Value>(&sent).is_ok(), "nested too deep to be sent: {sent}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// None of a query that reads the clock.
fn ready(query: &Value) -> Option<Value> {
    pin_now(&translate_filtered(query), NOW).ok()
}

fn check_rewrites(query: &Value) {
    let text = query.to_string();
    let translated = translate_filtered(query);
    if !text.contains("\"filtered\"") {
        assert_eq!(translated.to_string(), text, "no filtered, and yet translated");
    }
    assert_eq!(
        translate_filtered(&translated).to_string(),
        translated.to_string(),
        "translated twice: {text}"
    );
    let Ok(pinned) = pin_now(query, NOW) else { return };
    if !text.contains("\"now") {
        assert_eq!(pinned.to_string(), text, "no now, and yet pinned");
    }
    let twice = pin_now(&pinned, NOW).map(|twice| twice.to_string());
    assert_eq!(twice, Ok(pinned.to_string()), "pinned twice: {text}");
    // A translation may bring to light what no server reads.
    if let Some(ready) = ready(query) {
        assert_eq!(translate_filtered(&pinned).to_string(), ready.to_string(), "order counts: {text}");
    }
}

/// A query, mostly of the right shape.
fn make(u: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    if depth == 0 || u.is_empty() {
        return Ok(json!({ "match_all": {} }));
    }
    let inner = depth - 1;
    Ok(match u.int_in_range(0..=11)? {
        0 => json!({ "term": { "a": scalar(u)? } }),
        1 => json!({ "range": { "when": parts(u, BOUNDS, &mut |u, _| scalar(u))? } }),
        2 | 3 => {
            let keys = ["query", "filter", "filter", "_cache", "_name", "strategy", "boost"];
            json!({ "filtered": parts(u, &keys, &mut |u, key| match key {
                "query" | "filter" => make(u, inner),
                _ => scalar(u),
            })? })
        }
        4 => {
            let kind = one_of(u, &["and", "or"])?;
            let clauses = list(u, inner)?;
            if u.arbitrary()? { json!({ kind: clauses }) } else { json!({ kind: { "filters": clauses } }) }
        }
        5 if u.arbitrary()? => json!({ "not": make(u, inner)? }),
        5 => json!({ "not": { "filter": make(u, inner)?, "_name": "n" } }),
        6 => {
            json!({ "missing": parts(u, &["field", "existence", "null_value", "_name"], &mut |u, _| scalar(u))? })
        }
        7 => json!({ one_of(u, &["query", "fquery"])?: make(u, inner)? }),
        8 => json!({ one_of(u, &["fquery", "nested", "constant_score"])?: { "query": make(u, inner)? } }),
        9 | 10 => {
            let keys = [LISTS, &["minimum_should_match", "minimumShouldMatch", "_cache"]].concat();
            json!({ "bool": parts(u, &keys, &mut |u, key| match key {
                key if !LISTS.contains(&key) => scalar(u),
                _ if u.arbitrary()? => list(u, inner),
                _ => make(u, inner),
            })? })
        }
        _ => value(u, WORDS, inner)?,
    })
}

fn list(u: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    let mut queries = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        queries.push(make(u, depth)?);
    }
    Ok(queries.into())
}

type MakePart<'a> = &'a mut dyn FnMut(&mut Unstructured<'_>, &str) -> Result<Value>;

/// An object of some of `keys`.
fn parts(u: &mut Unstructured<'_>, keys: &[&str], make_part: MakePart<'_>) -> Result<Value> {
    let mut object = Map::new();
    for _ in 0..u.int_in_range(0..=3)? {
        let key = one_of(u, keys)?;
        object.insert(key.to_owned(), make_part(u, key)?);
    }
    Ok(object.into())
}
