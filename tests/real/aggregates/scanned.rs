//! Slices whose groups are not proved: they are scanned, or the statement fails.

use super::{BY_SOURCE, ask, ask_mode, is_grouping, make};
use crate::golden::{alone, assert_nothing_open, registry, remake, servers};
use flowsigma_tests::proxy::{Fault, Proxy, Seen};
use serde_json::{Value, json};

/// Requires that `auto` scans and is exact, and that `always` is an error that names the slice, this reason and the
/// next step.
async fn assert_scanned(url: &str, index: &str, sql: &str, reason: &str) {
    let never = ask_mode(url, index, "never", sql).await.unwrap();
    let auto = ask_mode(url, index, "auto", sql).await.unwrap_or_else(|e| panic!("{url} {sql}: {e}"));
    assert!(auto.is_pushed() && !never.is_pushed(), "{url} {sql}\n{}\n{}", auto.plan, never.plan);
    assert_eq!(auto.rows, never.rows, "{url} {sql}");
    assert_eq!((auto.aggregated, auto.slices), (0, never.slices), "{url} {sql}");
    assert_eq!((auto.documents, auto.matched), (never.documents, never.matched), "{url} {sql}");
    let error = ask_mode(url, index, "always", sql).await.err();
    let error = error.unwrap_or_else(|| panic!("{url} {sql}: always is no error")).to_string();
    for part in [
        format!("index \"{index}\" slice "),
        reason.into(),
        "set the table option aggregate = \"auto\"".into(),
    ] {
        assert!(error.contains(&part), "{url} {sql}: {part:?} is missing: {error}");
    }
}

/// Requires the same error with each value of the option.
async fn assert_same_error(url: &str, index: &str, sql: &str, part: &str) {
    for mode in ["never", "auto"] {
        let error = ask_mode(url, index, mode, sql).await.err();
        let error = error.unwrap_or_else(|| panic!("{url} {sql}: {mode} is no error")).to_string();
        assert!(error.contains(part), "{url} {sql}: {mode}: {part:?} is missing: {error}");
    }
    assert!(ask_mode(url, index, "always", sql).await.is_err(), "{url} {sql}: always is no error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_with_several_values_is_an_error_as_of_a_scan() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        let properties = json!({
            "k": { "type": "keyword" }, "n": { "type": "long" }, "at": { "type": "date" },
            "one": { "type": "keyword" },
        });
        for (field, value) in [
            ("k", json!(["a", "b"])),
            ("n", json!([5, 6])),
            // Servers count such a document once in its group.
            ("n", json!([5, 5])),
            ("at", json!(["2024-02-01", "2024-02-15"])),
        ] {
            let documents = [
                json!({ "k": "a", "n": 1, "at": "2024-01-01", "one": "x" }),
                json!({ "one": "x", field: value }),
            ];
            make(&connection, "agg_several", properties.clone(), &documents).await;
            let key = if field == "at" { "date_trunc('month', at)" } else { field };
            for sql in [
                format!("SELECT {key} AS key, count(*) AS n FROM t GROUP BY key"),
                format!("SELECT one, {key} AS key, count(*) AS n FROM t GROUP BY one, key"),
                format!("SELECT one, max(n) AS most, count({field}) AS n FROM t GROUP BY one"),
                format!("SELECT count({field}) AS n FROM t"),
            ] {
                assert_same_error(&url, "agg_several", &sql, &format!("\"{field}\"")).await;
            }
            let sql = "SELECT one, count(*) AS n FROM t GROUP BY one";
            let never = ask_mode(&url, "agg_several", "never", sql).await.unwrap();
            let always = ask_mode(&url, "agg_several", "always", sql).await.unwrap();
            assert_eq!((always.rows, always.aggregated), (never.rows, 1), "{url}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_groups_than_a_response_holds_are_scanned_or_paged() {
    const GROUPS: usize = 70_000;
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        let documents: Vec<Value> =
            (0..GROUPS).map(|i| json!({ "k": format!("v{i}"), "g": i % 3, "few": i % 7 })).collect();
        let properties = json!({
            "k": { "type": "keyword" }, "g": { "type": "byte" }, "few": { "type": "integer" },
        });
        make(&connection, "agg_many", properties, &documents).await;
        let over = |keys: &str| {
            format!(
                "SELECT count(*) AS groups, sum(n) AS documents, max(least) AS most FROM \
                 (SELECT {keys}, count(*) AS n, min(few) AS least FROM t GROUP BY {keys})"
            )
        };
        let keys = "SELECT count(*) AS groups FROM (SELECT k FROM t GROUP BY k)";
        assert_scanned(&url, "agg_many", keys, "there are more than 60000 groups").await;
        assert_scanned(&url, "agg_many", &over("k"), "there are more than 60000 groups").await;
        let never = ask_mode(&url, "agg_many", "never", &over("k, g")).await.unwrap();
        assert!(never.rows.contains("| 70000  | 70000     | 6    |"), "{}", never.rows);
        for (mode, aggregated, requests) in [("auto", 0, 1), ("always", 1, 8)] {
            let proxy = Proxy::start(&url, |_| Fault::None).await.unwrap();
            let ran = ask_mode(&proxy.url, "agg_many", mode, &over("k, g")).await.unwrap();
            assert!(ran.is_pushed(), "{url}\n{}", ran.plan);
            assert_eq!(ran.rows, never.rows, "{url} {mode}");
            assert_eq!((ran.aggregated, ran.documents), (aggregated, GROUPS), "{url} {mode}");
            let asked = proxy.seen().iter().filter(|seen| is_grouping(seen)).count();
            assert_eq!(asked, requests, "{url} {mode}");
        }
        // One group in two pages less: the sum of the groups shows it.
        let proxy = Proxy::start(&url, |seen| match is_grouping(seen) {
            true => Fault::Rewrite(remove_last_bucket_of_an_end),
            false => Fault::None,
        });
        let proxy = proxy.await.unwrap();
        let error =
            ask_mode(&proxy.url, "agg_many", "always", &over("k, g")).await.err().unwrap().to_string();
        assert!(error.contains("have 69999 documents of 70000"), "{url}: {error}");
    }
}

/// Removes a group of the last page, which has fewer groups than the others or none.
fn remove_last_bucket_of_an_end(body: &mut Value) {
    let buckets = body["aggregations"]["s0"]["buckets"].as_array_mut().unwrap();
    let is_end = buckets.last().is_some_and(|b| b["key"]["0"] == "v9999");
    if is_end {
        buckets.pop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_to_aggregate_is_scanned() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        remake(&connection, "agg_refused", 2, "keyword").await;
        for (status, kind) in [
            (400, "too_many_buckets_exception"),
            (429, "circuit_breaking_exception"),
            (503, "too_many_buckets_exception"),
        ] {
            let refuse = move |seen: &Seen| match is_grouping(seen) {
                true => Fault::status(status, kind),
                false => Fault::None,
            };
            let proxy = Proxy::start(&url, refuse).await.unwrap();
            assert_scanned(&proxy.url, "agg_refused", BY_SOURCE, kind).await;
        }
        // What forbids to aggregate forbids to read.
        let proxy = Proxy::start(&url, |seen| match is_grouping(seen) {
            true => Fault::status(403, "security_exception"),
            false => Fault::None,
        });
        let proxy = proxy.await.unwrap();
        let error = ask_mode(&proxy.url, "agg_refused", "auto", BY_SOURCE).await.err().unwrap().to_string();
        assert!(error.contains("403") && error.contains("security_exception"), "{url}: {error}");
    }
}

/// A change of a response, and why the slice is scanned then.
type Tampered = (fn(&mut Value), &'static str);

fn buckets(body: &mut Value) -> &mut Vec<Value> {
    body["aggregations"]["s0"]["buckets"].as_array_mut().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_does_not_add_up_is_not_used() {
    const BY_PAIR: &str = r#"SELECT "netflow.ipv4_src_addr" AS a, "netflow.ipv4_dst_addr" AS b, count(*) AS n,
        sum("netflow.bytes") AS s FROM t GROUP BY a, b ORDER BY a, b"#;
    let whole: [Tampered; 10] = [
        (|body| body["terminated_early"] = json!(true), "ended the search early"),
        (|body| drop(buckets(body).remove(0)), "a document has several values"),
        (|body| buckets(body)[0]["doc_count"] = json!(1_000_000), "a document has several values"),
        (|body| body["aggregations"]["s0"]["sum_other_doc_count"] = json!(5), "there are more than"),
        (|body| body["aggregations"]["s0"]["doc_count_error_upper_bound"] = json!(-1), "there are more than"),
        (|body| body["aggregations"]["s0"] = Value::Null, "no such aggregation"),
        (|body| body["aggregations"]["m0"]["doc_count"] = json!(1), "a document has several values"),
        (|body| drop(body["aggregations"].take()), "no such aggregation"),
        (|body| buckets(body)[0]["key"] = json!(7), "has the key 7"),
        (|body| buckets(body)[0]["x1"]["value"] = json!(0.5), "which may be rounded"),
    ];
    let pairs: [Tampered; 2] = [
        (|body| drop(buckets(body).remove(0)), "a document has several values"),
        (|body| buckets(body)[0]["doc_count"] = json!(1_000_000), "a document has several values"),
    ];
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        remake(&connection, "agg_tampered", 1, "keyword").await;
        let cases = whole.iter().map(|case| (BY_SOURCE, case)).chain(pairs.iter().map(|c| (BY_PAIR, c)));
        for (sql, (change, reason)) in cases {
            let change = *change;
            let rule = move |seen: &Seen| match is_grouping(seen) {
                true => Fault::Rewrite(change),
                false => Fault::None,
            };
            let proxy = Proxy::start(&url, rule).await.unwrap();
            assert_scanned(&proxy.url, "agg_tampered", sql, reason).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_its_counter_early_is_asked_to_count_each_document() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        remake(&connection, "agg_counter", 2, "keyword").await;
        let counts_each = |seen: &Seen| String::from_utf8_lossy(&seen.body).contains("\"post_filter\"");
        let rule = move |seen: &Seen| match is_grouping(seen) && !counts_each(seen) {
            true => Fault::Rewrite(|body| body["terminated_early"] = json!(true)),
            false => Fault::None,
        };
        let proxy = Proxy::start(&url, rule).await.unwrap();
        let never = ask_mode(&url, "agg_counter", "never", BY_SOURCE).await.unwrap();
        let ran = ask_mode(&proxy.url, "agg_counter", "auto", BY_SOURCE).await.unwrap();
        assert_eq!((ran.rows, ran.aggregated, ran.pages), (never.rows, 2, 0), "{url}");
        let counted = proxy.seen().iter().filter(|seen| is_grouping(seen) && counts_each(seen)).count();
        assert_eq!(counted, 2, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_value_is_an_error_unless_it_is_read_as_null() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        let properties = json!({
            "k": { "type": "keyword", "ignore_above": 3 }, "n": { "type": "long", "ignore_malformed": true },
        });
        let documents =
            [json!({ "k": "a", "n": 1 }), json!({ "k": "too long", "n": 2 }), json!({ "k": "b", "n": "x" })];
        make(&connection, "agg_dropped", properties, &documents).await;
        for (sql, field) in [
            ("SELECT k, count(*) AS n FROM t GROUP BY k ORDER BY k", "k"),
            ("SELECT n, count(*) AS c FROM t GROUP BY n ORDER BY n", "n"),
            ("SELECT sum(n) AS s, count(*) AS c FROM t", "n"),
        ] {
            // A server that does not list long keywords in `_ignored` is asked for `_source`, which has them.
            match ask_mode(&url, "agg_dropped", "never", sql).await {
                Err(_) => assert_same_error(&url, "agg_dropped", sql, &format!("\"{field}\"")).await,
                Ok(never) => {
                    let auto = ask_mode(&url, "agg_dropped", "auto", sql).await.unwrap();
                    assert!(field == "k" && !auto.is_pushed(), "{url} {sql}\n{}", auto.plan);
                    assert_eq!(auto.rows, never.rows, "{url} {sql}");
                }
            }
            let null = |mode| [("ignored", "null"), ("aggregate", mode)];
            let never = ask(&url, "agg_dropped", &null("never"), sql).await.unwrap();
            let always = ask(&url, "agg_dropped", &null("always"), sql).await.unwrap();
            assert_eq!((always.rows, always.aggregated), (never.rows, 1), "{url} {sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sum_that_a_double_cannot_hold_is_scanned() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        let documents = [
            json!({ "k": "a", "n": (1i64 << 53) + 1 }),
            json!({ "k": "a", "n": 2 }),
            json!({ "k": "b", "n": -((1i64 << 53) + 3) }),
            json!({ "k": "b" }),
        ];
        let properties = json!({ "k": { "type": "keyword" }, "n": { "type": "long" } });
        make(&connection, "agg_great", properties, &documents).await;
        for (sql, reason) in [
            ("SELECT k, sum(n) AS s FROM t GROUP BY k ORDER BY k", "may be too great"),
            ("SELECT sum(n) AS s FROM t", "may be too great"),
            ("SELECT k, max(n) AS h, min(n) AS l FROM t GROUP BY k ORDER BY k", "may be rounded"),
        ] {
            assert_scanned(&url, "agg_great", sql, reason).await;
        }
        let rows = ask_mode(&url, "agg_great", "auto", "SELECT sum(n) AS s FROM t WHERE k = 'a'")
            .await
            .unwrap()
            .rows;
        assert!(rows.contains("| 9007199254740995 |"), "{url}\n{rows}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_of_a_scroll_are_scanned() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        remake(&connection, "agg_scroll", 2, "keyword").await;
        let with = |mode| [("read", "scroll"), ("aggregate", mode)];
        let never = ask(&url, "agg_scroll", &with("never"), BY_SOURCE).await.unwrap();
        let auto = ask(&url, "agg_scroll", &with("auto"), BY_SOURCE).await.unwrap();
        assert_eq!((auto.rows, auto.documents), (never.rows, never.documents), "{url}");
        assert_eq!((auto.aggregated, auto.slices), (0, never.slices), "{url}");
        let error = ask(&url, "agg_scroll", &with("always"), BY_SOURCE).await.err().unwrap().to_string();
        assert!(error.contains("a slice of a scroll can only be read"), "{url}: {error}");
        assert_nothing_open(&connection).await;
    }
}
