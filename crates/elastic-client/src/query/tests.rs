//! Base queries: reading, translating and pinning.

use super::*;

const NOTEBOOK: &str = r#"{"query": {"filtered": {"query": {"match_all": {}}, "filter": {"bool": {
   "must": {"range": {"@timestamp": {"gte": "now-1h", "lt": "now"}}},
   "should": [{"term": {"src_addr_space": "private"}}, {"term": {"dst_addr_space": "private"}}]}}}},
 "_source": ["netflow.ipv4_src_addr", "netflow.ipv4_dst_addr"]}"#;
const NOW: &str = "2026-01-02T03:04:05.678Z";

fn parse_error(text: &str) -> String {
    let error = parse_base_query(text).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    error.to_string()
}

/// Compares as text, so that the order of keys must be the same too.
fn assert_same(actual: &Value, expected: &Value, of: &Value) {
    assert_eq!(actual.to_string(), expected.to_string(), "{of}");
}

#[test]
fn the_notebook_query_from_text_to_pinned() {
    let base = parse_base_query(NOTEBOOK).unwrap();
    let fields = ["netflow.ipv4_src_addr", "netflow.ipv4_dst_addr"].map(str::to_owned);
    assert_eq!(base.source_fields, Some(fields.to_vec()));
    let translated = translate_filtered(&base.query);
    let expected = r#"{"bool":{"must":[{"match_all":{}}],"filter":[{"bool":{"must":{"range":{"@timestamp":{"gte":"now-1h","lt":"now"}}},"should":[{"term":{"src_addr_space":"private"}},{"term":{"dst_addr_space":"private"}}],"minimum_should_match":1}}]}}"#;
    assert_eq!(translated.to_string(), expected);
    let expected = expected.replace(
        r#"{"gte":"now-1h","lt":"now"}"#,
        r#"{"gte":"2026-01-02T03:04:05.678Z||-1h","lt":"2026-01-02T03:04:05.678Z","format":"strict_date_optional_time"}"#,
    );
    assert_eq!(pin_now(&translated, NOW).unwrap().to_string(), expected);
    let pinned = pin_now(&base.query, NOW).unwrap();
    assert_same(&translate_filtered(&pinned), &pin_now(&translated, NOW).unwrap(), &base.query);
}

#[test]
fn base_queries() {
    let term = json!({"term": {"a": 1}});
    let fields = |fields: &[&str]| Some(fields.iter().map(|&field| field.to_owned()).collect::<Vec<_>>());
    let cases = [
        (r#"{"term": {"a": 1}}"#, term.clone(), None),
        (r#" {"query": {"term": {"a": 1}}} "#, term.clone(), None),
        (r#"{"query": {"term": {"a": 1}}, "fields": ["x"], "track_total_hits": true}"#, term.clone(), None),
        (r#"{"query": {"term": {"a": 1}}, "_source": "a.*"}"#, term.clone(), fields(&["a.*"])),
        (r#"{"query": {"term": {"a": 1}}, "_source": false}"#, term.clone(), None),
        (r#"{"query": {"term": {"a": 1}}, "_source": {"includes": ["a"]}}"#, term.clone(), fields(&["a"])),
        (r#"{"query": {"term": {"a": 1}}, "_source": {"excludes": ["a"]}}"#, term, None),
        (r#"{"_source": ["a"]}"#, json!({"match_all": {}}), fields(&["a"])),
        ("{}", json!({"match_all": {}}), None),
        ("?q=a:1", json!({"query_string": {"query": "a:1"}}), None),
        ("?q=user%3Akim+AND%20b:%22x%22", json!({"query_string": {"query": "user:kim AND b:\"x\""}}), None),
        (
            "?q=kim&df=user&default_operator=AND&lenient=true&analyze_wildcard=false&analyzer=simple",
            json!({"query_string": {"query": "kim", "default_field": "user", "default_operator": "AND",
                "lenient": true, "analyze_wildcard": false, "analyzer": "simple"}}),
            None,
        ),
    ];
    for (text, query, source_fields) in cases {
        assert_eq!(parse_base_query(text), Ok(BaseQuery { query, source_fields }), "{text}");
    }
}

#[test]
fn texts_that_are_no_base_query() {
    let malformed = |place: &str| format!("the base query is not valid JSON: {place}");
    let refused = |key: &str, instead: &str| {
        format!("the base query must not have \"{key}\", which changes the rows{instead}")
    };
    let cases = [
        (" ", "the base query is empty".to_owned()),
        ("hunter2", "the base query must be a JSON object or have the form ?q=...".to_owned()),
        ("[1]", "the base query must be a JSON object or have the form ?q=...".to_owned()),
        ("{\"term\":\n {\"a\": hunter2}}", malformed("line 2, column 8: syntax error")),
        (r#"{"term": {"a": "hunter2"#, malformed("line 1, column 23: unexpected end of the text")),
        (
            r#"{"bool": {"must": {}, "must": {}}}"#,
            malformed("line 1, column 33: an object has the same key twice"),
        ),
        (
            r#"{"term": {"a": 1}, "match": {"b": "hunter2"}}"#,
            "the base query must be a JSON object with exactly one key, the kind of query".to_owned(),
        ),
        (
            r#"{"query": "hunter2"}"#,
            "\"query\" of the base query must be a JSON object with exactly one key, the kind of query"
                .to_owned(),
        ),
        (
            r#"{"query": {}}"#,
            "\"query\" of the base query must be a JSON object with exactly one key, the kind of query"
                .to_owned(),
        ),
        (r#"{"query": {"match_all": {}}, "size": 10}"#, refused("size", ", use LIMIT instead")),
        (r#"{"size": 10}"#, refused("size", ", use LIMIT instead")),
        (r#"{"query": {"match_all": {}}, "from": 10}"#, refused("from", ", use OFFSET instead")),
        (r#"{"query": {"match_all": {}}, "sort": ["a"]}"#, refused("sort", ", use ORDER BY instead")),
        (r#"{"query": {"match_all": {}}, "aggs": {}}"#, refused("aggs", ", use GROUP BY instead")),
        (
            r#"{"query": {"match_all": {}}, "post_filter": {}}"#,
            refused("post_filter", ", move it into the query instead"),
        ),
        (r#"{"query": {"match_all": {}}, "min_score": 1}"#, refused("min_score", "")),
        (r#"{"query": {"match_all": {}}, "collapse": {}}"#, refused("collapse", "")),
        (r#"{"query": {"match_all": {}}, "search_after": []}"#, refused("search_after", "")),
        (r#"{"query": {"match_all": {}}, "terminate_after": 1}"#, refused("terminate_after", "")),
        (
            r#"{"query": {"match_all": {}}, "hunter": 1}"#,
            "the base query has an unknown part \"hunter\" beside its \"query\"".to_owned(),
        ),
        (
            r#"{"_source": [1]}"#,
            "\"_source\" of the base query must be true, false, a field, a list of fields or an object"
                .to_owned(),
        ),
        ("?q=", "the base query ?q=... has no \"q\", or an empty one".to_owned()),
        ("?df=hunter2", "the base query ?q=... has no \"q\", or an empty one".to_owned()),
        ("?q=a&q=b", "the base query ?q=... has the parameter \"q\" twice".to_owned()),
        ("?q=a&size=10", "the base query ?q=... has an unknown parameter \"size\"".to_owned()),
        (
            "?q=a&lenient=hunter2",
            "the parameter \"lenient\" of the base query ?q=... must be true or false".to_owned(),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_error(text), expected, "{text}");
    }
}

#[test]
fn depth_is_bounded() {
    let text = format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500));
    assert!(matches!(parse_base_query(&text), Err(QueryError::Malformed { .. })));
}

#[test]
fn what_is_accepted_is_not_too_deep_to_be_sent() {
    // A `not` is one level, and its translation to `bool` is three. The text has 64 levels, the translation 185.
    let text = format!(
        r#"{{"filtered":{{"filter":{}{{"match_all":{{}}}}{}}}}}"#,
        r#"{"not":"#.repeat(60),
        "}".repeat(60)
    );
    assert_eq!(
        parse_error(&text),
        "the base query is nested too deep: it has 185 levels after its old forms are translated, \
         the limit is 100"
    );
    let text = format!(
        r#"{{"filtered":{{"filter":{}{{"match_all":{{}}}}{}}}}}"#,
        r#"{"not":"#.repeat(30),
        "}".repeat(30)
    );
    let sent = translate_filtered(&parse_base_query(&text).unwrap().query).to_string();
    assert!(serde_json::from_str::<Value>(&sent).is_ok());
}

#[test]
fn a_query_without_filtered_stays_byte_for_byte() {
    let texts = [
        r#"{"term":{"filtered":"x"}}"#,
        r#"{"match":{"filtered":{"query":"x","operator":"and"}}}"#,
        r#"{"bool":{"should":{"term":{"z":1}},"must":[{"bool":{"should":[{"term":{"a":1}}],"_cache":true}}],"filter":{"bool":{"must":[],"should":[{"exists":{"field":"q"}}]}}}}"#,
        r#"{"constant_score":{"boost":2.0,"filter":{"and":[{"not":{"term":{"a":1}}},{"missing":{"field":"b"}}]}}}"#,
        r#"{"term":{"a":1},"match":{"b":{"filtered":{}}}}"#,
        r#"{"range":{"z":{"lt":18446744073709551615,"gt":-9223372036854775808},"boost":1e300}}"#,
        "[]",
        "null",
    ];
    for text in texts {
        let query: Value = serde_json::from_str(text).unwrap();
        assert_eq!(translate_filtered(&query).to_string(), query.to_string());
        assert_eq!(pin_now(&query, NOW).unwrap().to_string(), query.to_string());
    }
}

/// `(filter of a filtered, its translation)`.
#[test]
fn the_filter_side() {
    let a = json!({"term": {"a": 1}});
    let b = json!({"term": {"b": 2}});
    let cases = [
        (a.clone(), a.clone()),
        (json!({"and": [a, b]}), json!({"bool": {"filter": [a, b]}})),
        (
            json!({"and": {"filters": [a, b], "_cache": true, "_name": "n"}}),
            json!({"bool": {"filter": [a, b], "_name": "n"}}),
        ),
        (json!({"or": [a, b]}), json!({"bool": {"should": [a, b], "minimum_should_match": 1}})),
        (json!({"or": {"filters": [a]}}), json!({"bool": {"should": [a], "minimum_should_match": 1}})),
        (json!({"not": a}), json!({"bool": {"must_not": [a]}})),
        (json!({"not": {"filter": a, "_cache": false}}), json!({"bool": {"must_not": [a]}})),
        (json!({"not": {"query": a}}), json!({"bool": {"must_not": [a]}})),
        (json!({"missing": {"field": "a"}}), json!({"bool": {"must_not": [{"exists": {"field": "a"}}]}})),
        (
            json!({"missing": {"field": "a", "existence": true, "null_value": false}}),
            json!({"bool": {"must_not": [{"exists": {"field": "a"}}]}}),
        ),
        (json!({"query": a}), a.clone()),
        (json!({"fquery": {"query": a, "_cache": true}}), a.clone()),
        (json!({"term": {"a": 1, "_cache": true, "_cache_key": "k"}}), a.clone()),
        (
            json!({"and": [{"or": [a, {"not": {"and": [b]}}]}, {"query": {"missing": {"field": "c"}}}]}),
            json!({"bool": {"filter": [
                {"bool": {"should": [a, {"bool": {"must_not": [{"bool": {"filter": [b]}}]}}], "minimum_should_match": 1}},
                {"bool": {"must_not": [{"exists": {"field": "c"}}]}}
            ]}}),
        ),
        // The old default of `bool` with one or several clauses, inside any clause, unless a minimum is explicit.
        (
            json!({"bool": {"must": a, "should": b, "_cache": true, "_name": "n"}}),
            json!({"bool": {"must": a, "should": b, "_name": "n", "minimum_should_match": 1}}),
        ),
        (json!({"bool": {"should": [a]}}), json!({"bool": {"should": [a], "minimum_should_match": 1}})),
        (json!({"bool": {"must": [a]}}), json!({"bool": {"must": [a]}})),
        (json!({"bool": {"must": [a], "should": []}}), json!({"bool": {"must": [a], "should": []}})),
        (
            json!({"bool": {"should": [a], "minimum_should_match": 0}}),
            json!({"bool": {"should": [a], "minimum_should_match": 0}}),
        ),
        (
            json!({"bool": {"minimum_number_should_match": "50%", "should": [a, b]}}),
            json!({"bool": {"minimum_should_match": "50%", "should": [a, b]}}),
        ),
        (
            json!({"bool": {"must_not": {"bool": {"must": [a], "should": [b]}}}}),
            json!({"bool": {"must_not": {"bool": {"must": [a], "should": [b], "minimum_should_match": 1}}}}),
        ),
        (
            json!({"nested": {"path": "p", "query": {"bool": {"must": [a], "should": [b]}}}}),
            json!({"nested": {"path": "p", "query": {"bool": {"must": [a], "should": [b], "minimum_should_match": 1}}}}),
        ),
        (
            json!({"query": {"filtered": {"query": {"bool": {"must": a, "should": b}}, "filter": {"not": a}}}}),
            json!({"bool": {
                "must": [{"bool": {"must": a, "should": b, "minimum_should_match": 1}}],
                "filter": [{"bool": {"must_not": [a]}}]
            }}),
        ),
        // There is no exact translation, so the server refuses these.
        (json!({"or": []}), json!({"or": []})),
        (json!({"and": {"filters": 1}}), json!({"and": {"filters": 1}})),
        (json!({"not": {}}), json!({"not": {}})),
        (
            json!({"missing": {"field": "a", "existence": false}}),
            json!({"missing": {"field": "a", "existence": false}}),
        ),
        (
            json!({"missing": {"field": "a", "null_value": true}}),
            json!({"missing": {"field": "a", "null_value": true}}),
        ),
        (json!({"limit": {"value": 100}}), json!({"limit": {"value": 100}})),
    ];
    for (filter, expected) in cases {
        let query = json!({"filtered": {"query": {"match": {"q": "x"}}, "filter": filter}});
        let expected = json!({"bool": {"must": [{"match": {"q": "x"}}], "filter": [expected]}});
        assert_same(&translate_filtered(&query), &expected, &query);
    }
}

#[test]
fn filtered_itself_and_where_it_stands() {
    let a = json!({"term": {"a": 1}});
    let old = json!({"filtered": {"filter": a}});
    let new = json!({"bool": {"must": [{"match_all": {}}], "filter": [a]}});
    let loose = json!({"bool": {"must": [a], "should": [a]}});
    let cases = [
        (old.clone(), new.clone()),
        (json!({"filtered": {"query": a}}), json!({"bool": {"must": [a]}})),
        (json!({"filtered": {}}), json!({"bool": {"must": [{"match_all": {}}]}})),
        (
            json!({"filtered": {"filter": a, "strategy": "leap_frog", "_cache": true, "boost": 2, "_name": "n"}}),
            json!({"bool": {"must": [{"match_all": {}}], "filter": [a], "boost": 2, "_name": "n"}}),
        ),
        // The query side keeps its default, but a `filtered` in it is translated.
        (
            json!({"filtered": {"query": loose, "filter": a}}),
            json!({"bool": {"must": [loose], "filter": [a]}}),
        ),
        (json!({"filtered": {"query": old}}), json!({"bool": {"must": [new]}})),
        (
            json!({"bool": {"must": old, "should": [old, a]}}),
            json!({"bool": {"must": new, "should": [new, a]}}),
        ),
        (json!({"bool": {"must_not": [old]}}), json!({"bool": {"must_not": [new]}})),
        (json!({"constant_score": {"filter": old}}), json!({"constant_score": {"filter": new}})),
        (
            json!({"function_score": {"query": old, "functions": [{"filter": old, "weight": 2}, {"weight": 1}]}}),
            json!({"function_score": {"query": new, "functions": [{"filter": new, "weight": 2}, {"weight": 1}]}}),
        ),
        (json!({"nested": {"path": "p", "query": old}}), json!({"nested": {"path": "p", "query": new}})),
        (json!({"dis_max": {"queries": [old, a]}}), json!({"dis_max": {"queries": [new, a]}})),
        (
            json!({"boosting": {"positive": old, "negative": old, "negative_boost": 0.5}}),
            json!({"boosting": {"positive": new, "negative": new, "negative_boost": 0.5}}),
        ),
        (
            json!({"has_child": {"type": "t", "query": old}}),
            json!({"has_child": {"type": "t", "query": new}}),
        ),
        (json!({"filtered": "x"}), json!({"filtered": "x"})),
    ];
    for (query, expected) in cases {
        assert_same(&translate_filtered(&query), &expected, &query);
        assert_same(&translate_filtered(&expected), &expected, &expected);
    }
}

/// `(range, pinned range)`.
#[test]
fn ranges_with_now() {
    let at = "2026-01-02T03:04:05.678Z";
    let cases = [
        (json!({"gte": "now"}), json!({"gte": at, "format": "strict_date_optional_time"})),
        (
            json!({"gte": "now-1h/d", "lt": "now/d"}),
            json!({"gte": format!("{at}||-1h/d"), "lt": format!("{at}||/d"), "format": "strict_date_optional_time"}),
        ),
        (
            json!({"gt": "now-1d+1h", "lte": "now+5m", "time_zone": "+01:00"}),
            json!({"gt": format!("{at}||-1d+1h"), "lte": format!("{at}||+5m"), "time_zone": "+01:00",
                "format": "strict_date_optional_time"}),
        ),
        (
            json!({"from": "now-1h", "to": null, "include_lower": true}),
            json!({"from": format!("{at}||-1h"), "to": null, "include_lower": true,
                "format": "strict_date_optional_time"}),
        ),
        (
            json!({"format": "yyyy", "gte": "now-1h"}),
            json!({"format": "strict_date_optional_time", "gte": format!("{at}||-1h")}),
        ),
        (
            json!({"gte": "2026", "lt": "now", "format": "yyyy"}),
            json!({"gte": "2026", "lt": at, "format": "yyyy||strict_date_optional_time"}),
        ),
        (
            json!({"gte": 1700000000, "lt": "now", "format": "epoch_second"}),
            json!({"gte": 1700000000, "lt": at, "format": "epoch_second||strict_date_optional_time"}),
        ),
        (
            json!({"gte": "2026-01-01", "lt": "now"}),
            json!({"gte": "2026-01-01", "lt": at, "format": "strict_date_optional_time"}),
        ),
        (
            json!({"gte": 1700000000000u64, "lt": "now"}),
            json!({"gte": 1700000000000u64, "lt": at, "format": "strict_date_optional_time||epoch_millis"}),
        ),
        (
            json!({"gte": "1700000000000", "lt": "now"}),
            json!({"gte": "1700000000000", "lt": at, "format": "strict_date_optional_time||epoch_millis"}),
        ),
        (
            json!({"gte": 1700000000, "lt": "now"}),
            json!({"gte": 1700000000, "lt": at, "format": "strict_date_optional_time"}),
        ),
        // Nothing to pin.
        (json!({"gte": "nowhere", "lt": "knows"}), json!({"gte": "nowhere", "lt": "knows"})),
        (json!({"gte": "2026-01-01||-1d", "lt": 5}), json!({"gte": "2026-01-01||-1d", "lt": 5})),
        (json!({"format": "now", "gte": "2026"}), json!({"format": "now", "gte": "2026"})),
    ];
    for (range, expected) in cases {
        for field in ["@timestamp", "range"] {
            let query = json!({"range": {field: range}});
            let expected = json!({"range": {field: expected}});
            assert_same(&pin_now(&query, NOW).unwrap(), &expected, &query);
            assert_same(&pin_now(&expected, NOW).unwrap(), &expected, &expected);
        }
    }
}

#[test]
fn ranges_are_found_by_where_they_stand() {
    let old = json!({"range": {"t": {"gte": "now"}}});
    let new = json!({"range": {"t": {"gte": NOW, "format": "strict_date_optional_time"}}});
    let inside: &[&dyn Fn(&Value) -> Value] = &[
        &|q| json!({"bool": {"must": q, "should": [q, {"term": {"a": 1}}], "must_not": [q], "filter": q}}),
        &|q| json!({"filtered": {"query": q, "filter": {"and": [q, {"or": {"filters": [q]}}, {"not": q}]}}}),
        &|q| json!({"filtered": {"filter": {"not": {"filter": q}}}}),
        &|q| json!({"filtered": {"filter": {"query": q}}}),
        &|q| json!({"constant_score": {"filter": {"nested": {"path": "p", "query": q}}}}),
        &|q| json!({"function_score": {"query": q, "functions": [{"filter": q, "weight": 1}]}}),
        &|q| json!({"dis_max": {"queries": [q]}}),
        &|q| json!({"boosting": {"positive": q, "negative": q}}),
    ];
    for wrap in inside {
        assert_same(&pin_now(&wrap(&old), NOW).unwrap(), &wrap(&new), &wrap(&old));
    }
    let untouched = [
        json!({"term": {"range": "now"}}),
        json!({"term": {"range": {"value": "now"}}}),
        json!({"match": {"range": {"query": "now", "gte": "now"}}}),
        json!({"terms": {"range": ["now"]}}),
        json!({"query_string": {"query": "range:now"}}),
        json!({"range": {"boost": 1, "_name": "now"}}),
    ];
    for query in untouched {
        assert_same(&pin_now(&query, NOW).unwrap(), &query, &query);
    }
}
