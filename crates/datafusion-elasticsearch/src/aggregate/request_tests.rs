//! What is requested for an aggregate.

use super::request::{COMPOSITE_PAGE, Form, MAX_BUCKETS, first, forms, next};
use super::tests::pushed;
use serde_json::{Value, json};

async fn requested(sql: &str) -> Value {
    let (plan, _) = pushed(sql).await;
    first(&plan, &forms(&plan))
}

#[tokio::test]
async fn one_key_is_requested_by_terms_and_the_documents_without_it() {
    let measures = json!({
        "c1": { "value_count": { "field": "n" } }, "x1": { "sum": { "field": "n" } },
    });
    let size = MAX_BUCKETS;
    let expected = json!({
        "v1": { "value_count": { "field": "n" } }, "n1": { "missing": { "field": "n" } },
        "l1": { "min": { "field": "n" } }, "h1": { "max": { "field": "n" } },
        "s0": { "terms": { "field": "k", "size": size, "shard_size": size }, "aggs": measures },
        "m0": { "missing": { "field": "k" }, "aggs": measures },
    });
    assert_eq!(requested("SELECT k, count(*), sum(n) FROM t GROUP BY k").await, expected);
    // Several equal numbers of a document are in one group, and so may be several dates.
    let by_day = requested("SELECT date_trunc('day', at) FROM t GROUP BY 1").await;
    let histogram = json!({ "field": "at", "calendar_interval": "day", "min_doc_count": 1 });
    assert_eq!(
        by_day,
        json!({
            "v0": { "value_count": { "field": "at" } }, "n0": { "missing": { "field": "at" } },
            "s0": { "date_histogram": histogram }, "m0": { "missing": { "field": "at" } },
        })
    );
    let by_number = requested("SELECT n FROM t GROUP BY n").await;
    assert_eq!(by_number["v0"], json!({ "value_count": { "field": "n" } }));
}

#[tokio::test]
async fn several_sets_share_the_buckets_of_a_response() {
    let (plan, _) = pushed("SELECT k, k2, count(*) FROM t GROUP BY GROUPING SETS ((k), (k2), ())").await;
    let size = MAX_BUCKETS / 2;
    assert_eq!(forms(&plan), [Form::Whole { size }, Form::Whole { size }, Form::Total]);
    let all = first(&plan, &forms(&plan));
    assert_eq!((&all["s0"]["terms"]["size"], &all["s1"]["terms"]["size"]), (&json!(size), &json!(size)));
    assert!(all.get("s2").is_none(), "{all}");
    let total = requested("SELECT max(n) FROM t").await;
    assert_eq!((&total["x0"], total.get("s0")), (&json!({ "max": { "field": "n" } }), None));
}

#[tokio::test]
async fn all_sets_together_have_no_more_groups_than_a_server_returns() {
    let pages = |size| Form::Pages { size };
    for (group_by, expected) in [
        ("k", vec![Form::Whole { size: MAX_BUCKETS }]),
        ("k, k2", vec![pages(COMPOSITE_PAGE)]),
        ("GROUPING SETS ((k), (k, k2))", vec![Form::Whole { size: MAX_BUCKETS / 2 }, pages(COMPOSITE_PAGE)]),
    ] {
        let (plan, _) = pushed(&format!("SELECT count(*), sum(n) FROM t GROUP BY {group_by}")).await;
        assert_eq!(forms(&plan), expected, "{group_by}");
    }
    let sets: Vec<&str> = (0..100).map(|n| if n % 2 == 0 { "(k)" } else { "(k, k2)" }).collect();
    let sql = format!("SELECT count(*) FROM t GROUP BY GROUPING SETS ({})", sets.join(", "));
    let sizes = forms(&pushed(&sql).await.0);
    let sum = sizes.iter().map(|form| match form {
        Form::Total => 1,
        Form::Whole { size } | Form::Pages { size } => *size,
    });
    assert!(sum.sum::<usize>() <= MAX_BUCKETS, "{sizes:?}");
}

#[tokio::test]
async fn several_keys_are_requested_page_by_page() {
    let (plan, _) =
        pushed("SELECT k, date_bin(INTERVAL '5 minutes', at), count(*) FROM t GROUP BY 1, 2").await;
    assert_eq!(forms(&plan), [Form::Pages { size: COMPOSITE_PAGE }]);
    let sources = json!([
        { "0": { "terms": { "field": "k", "missing_bucket": true } } },
        { "1": { "date_histogram": { "field": "at", "fixed_interval": "300000ms", "missing_bucket": true } } },
    ]);
    let mut composite = json!({ "size": COMPOSITE_PAGE, "sources": sources });
    assert_eq!(first(&plan, &forms(&plan))["s0"], json!({ "composite": composite }));
    let after = json!({ "0": null, "1": 300_000 });
    composite["after"] = after.clone();
    assert_eq!(next(&plan, 0, COMPOSITE_PAGE, &after), json!({ "s0": { "composite": composite } }));
}
