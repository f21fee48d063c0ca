//! Which responses prove their groups, and the rows of a partial aggregate that they become.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::groups::{Group, Groups, KeyValue, Number, prove, read_first, read_page};
use super::plan::AggregatePlan;
use super::request::{Form, forms};
use super::state;
use super::tests::pushed;
use datafusion::arrow::util::pretty::pretty_format_batches;
use serde_json::{Value, json};

fn read(plan: &AggregatePlan, documents: u64, response: &Value) -> Result<Vec<Groups>, String> {
    read_first(plan, &forms(plan), documents, response.to_string().as_bytes())
}

fn keys<const N: usize>(printed: [Value; N]) -> Box<[KeyValue]> {
    printed.map(|key| serde_json::from_value(key).unwrap()).into()
}

const BY_NAME: &str = "SELECT k, count(*), sum(n) FROM t GROUP BY k";

/// Seven documents: three with `a`, two with `b`, two without a value.
fn by_name() -> Value {
    json!({
        "v1": { "value": 4 }, "n1": { "doc_count": 3 }, "l1": { "value": -2.0 }, "h1": { "value": 5.0 },
        "s0": { "sum_other_doc_count": 0, "doc_count_error_upper_bound": 0, "buckets": [
            { "key": "a", "doc_count": 3, "c1": { "value": 2 }, "x1": { "value": 8.0 } },
            { "key": "b", "doc_count": 2, "c1": { "value": 0 }, "x1": { "value": 0.0 } },
        ] },
        "m0": { "doc_count": 2, "c1": { "value": 2 }, "x1": { "value": -4.0 } },
    })
}

#[tokio::test]
async fn groups_that_add_up_to_the_documents_are_read() {
    let (plan, schema) = pushed(BY_NAME).await;
    let sets = read(&plan, 7, &by_name()).unwrap();
    let group = |key: Value, documents, values, result| Group {
        keys: keys([key]),
        documents,
        numbers: Box::new([Number { values: documents, result: None }, Number { values, result }]),
    };
    let expected = vec![
        group(json!("a"), 3, 2, Some(8)),
        group(json!("b"), 2, 0, None),
        group(Value::Null, 2, 2, Some(-4)),
    ];
    assert_eq!(sets, [Groups { groups: expected, after: None }]);
    let rows = state::rows(&plan, &schema, 0, &sets[0].groups).unwrap();
    let shown = pretty_format_batches(&[rows]).unwrap().to_string();
    let values: Vec<Vec<&str>> = shown
        .lines()
        .skip(3)
        .filter(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(values, [vec!["a", "3", "8"], vec!["b", "2"], vec!["2", "-4"]], "{shown}");
}

#[tokio::test]
async fn a_response_that_proves_nothing_says_why() {
    let (plan, _) = pushed(BY_NAME).await;
    for (pointer, value, reason) in [
        (
            "/s0/buckets/0/doc_count",
            json!(4),
            "the groups by k have 8 documents of 7: a document has several values",
        ),
        ("/s0/buckets/1/doc_count", json!(1), "the groups by k have 6 documents of 7"),
        ("/m0/doc_count", json!(0), "the groups by k have 5 documents of 7"),
        ("/s0/sum_other_doc_count", json!(1), "there are more than 2 groups"),
        ("/s0/doc_count_error_upper_bound", json!(-1), "there are more than 2 groups"),
        ("/v1/value", json!(5), "a document has several values of \"n\""),
        ("/n1/doc_count", json!(4), "a document has several values of \"n\""),
        ("/h1/value", json!(2f64.powi(53)), "the sum of \"n\" may be too great"),
        ("/l1/value", json!(-(2f64.powi(53)) / 7.0 - 1.0), "the sum of \"n\" may be too great"),
        ("/h1/value", json!("much"), "no such aggregation"),
        ("/s0", Value::Null, "no such aggregation"),
        ("/m0", Value::Null, "no such aggregation"),
        ("/v1", Value::Null, "no such aggregation"),
        ("/s0/buckets/0/c1", Value::Null, "no such aggregation"),
        ("/s0/buckets/0/x1/value", Value::Null, "no such aggregation"),
        ("/s0/buckets/0/x1/value", json!(0.5), "the server computed 0.5, which may be rounded"),
        ("/s0/buckets/0/doc_count", json!(-3), "no such aggregation"),
        ("/s0/buckets/0/doc_count", json!(3.5), "no such aggregation"),
        ("/s0/buckets/0/key", json!(1.5), "no such aggregation"),
        ("/s0/buckets/0/key", json!(u64::MAX), "no such aggregation"),
        ("/s0/buckets/0/key", json!({ "0": "a" }), "no such aggregation"),
        ("/s0/buckets/0", json!(["a", 3]), "no such aggregation"),
        ("/s0/buckets", json!({ "a": { "doc_count": 7 } }), "no such aggregation"),
    ] {
        let mut response = by_name();
        *response.pointer_mut(pointer).unwrap() = value.clone();
        let error = read(&plan, 7, &response).err();
        let error = error.unwrap_or_else(|| panic!("{pointer} = {value} is taken"));
        assert!(error.contains(reason), "{pointer} = {value}: {error}");
    }
    read(&plan, 8, &by_name()).unwrap_err();
    read(&plan, 7, &Value::Null).unwrap_err();
    // A count may be printed as a double.
    let mut double = by_name();
    double["s0"]["buckets"][0]["c1"]["value"] = json!(2.0);
    read(&plan, 7, &double).unwrap();
}

#[tokio::test]
async fn a_sum_is_exact_while_every_partial_sum_is() {
    let (plan, _) = pushed("SELECT sum(n) FROM t").await;
    let response = |least: f64, sum: f64| {
        json!({ "v0": { "value": 2 }, "n0": { "doc_count": 0 }, "l0": { "value": least }, "h0": { "value": 0.0 },
            "c0": { "value": 2 }, "x0": { "value": sum } })
    };
    let half = 2f64.powi(52);
    read(&plan, 2, &response(-half, -half)).unwrap_err();
    let sets = read(&plan, 2, &response(1.0 - half, 1.0 - half)).unwrap();
    assert_eq!(sets[0].groups[0].numbers.as_ref(), [Number { values: 2, result: Some(1 - (1 << 52)) }]);
}

/// DataFusion takes a count that is not null for a group with a value, and divides by it.
#[tokio::test]
async fn a_group_without_a_value_has_a_null_state() {
    for sql in ["SELECT k, avg(n) FROM t GROUP BY k", "SELECT k, min(n), max(n), sum(n) FROM t GROUP BY k"] {
        let (plan, schema) = pushed(sql).await;
        let numbers = vec![Number { values: 0, result: None }; plan.measures.len()].into();
        let groups = [Group { keys: keys([json!("a")]), documents: 3, numbers }];
        let rows = state::rows(&plan, &schema, 0, &groups).unwrap();
        for state in &rows.columns()[1..] {
            assert_eq!(state.null_count(), 1, "{sql}: {rows:?}");
        }
    }
    let (plan, schema) = pushed("SELECT k, count(n) FROM t GROUP BY k").await;
    let numbers = Box::new([Number { values: 0, result: None }]);
    let groups = [Group { keys: keys([json!("a")]), documents: 3, numbers }];
    assert_eq!(state::rows(&plan, &schema, 0, &groups).unwrap().column(1).null_count(), 0);
}

#[tokio::test]
async fn keys_become_values_of_their_column() {
    let group = |keys| Group { keys, documents: 1, numbers: Box::default() };
    let text = |rows| pretty_format_batches(&[rows]).unwrap().to_string();
    for (column, printed, expected) in [
        ("flag", vec![json!(0), json!(1), json!(true), json!(false), Value::Null], "false true true false"),
        ("b", vec![json!(-128), json!(127)], "-128 127"),
        ("at", vec![json!(-1), json!(0)], "1969-12-31T23:59:59.999 1970-01-01T00:00:00"),
        ("ip", vec![json!("::1"), json!("10.0.0.1")], "::1 10.0.0.1"),
        ("k", vec![json!(""), json!("ä")], "ä"),
        ("date_trunc('month', at)", vec![json!(1_709_251_200_000i64)], "2024-03-01T00:00:00"),
        ("CAST(at AS DATE)", vec![json!(1_709_251_200_123i64)], "2024-03-01"),
        ("upper(k), k", vec![json!("a")], "a"),
    ] {
        let expr = column.rsplit(", ").next().filter(|_| column.starts_with("upper")).unwrap_or(column);
        let (plan, schema) = pushed(&format!("SELECT {column} FROM t GROUP BY {expr}")).await;
        let groups: Vec<Group> = printed.into_iter().map(|key| group(keys([key]))).collect();
        let rows = state::rows(&plan, &schema, 0, &groups).unwrap();
        assert_eq!(rows.num_rows(), groups.len());
        let shown = text(rows);
        let values: Vec<&str> =
            shown.lines().skip(3).flat_map(|line| line.split('|')).map(str::trim).collect();
        let values: Vec<&str> = values.into_iter().filter(|v| !v.is_empty() && !v.starts_with('+')).collect();
        assert_eq!(values.join(" "), expected, "{column}\n{shown}");
    }
    for (column, key) in [
        ("b", json!(128)),
        ("b", json!("1")),
        ("n", json!(true)),
        ("flag", json!(2)),
        ("flag", json!("true")),
        ("k", json!(1)),
        ("at", json!("2024-01-01")),
    ] {
        let (plan, schema) = pushed(&format!("SELECT {column} FROM t GROUP BY 1")).await;
        let groups = [group(keys([key.clone()]))];
        assert!(state::rows(&plan, &schema, 0, &groups).is_err(), "{column} {key}");
    }
}

#[tokio::test]
async fn the_rows_of_a_grouping_set_have_nulls_for_the_other_keys() {
    let (plan, schema) = pushed("SELECT k, n, count(*) FROM t GROUP BY GROUPING SETS ((k), (n), ())").await;
    let numbers = [Number { values: 4, result: None }];
    let group = |keys| [Group { keys, documents: 4, numbers: Box::new(numbers) }];
    let ids = [(keys([json!("a")]), 0), (keys([json!(7)]), 1), (keys([]), 2)].map(|(keys, set)| {
        let rows = state::rows(&plan, &schema, set, &group(keys)).unwrap();
        let nulls: Vec<usize> = rows.columns()[..2].iter().map(|column| column.null_count()).collect();
        let expected = [[0, 1], [1, 0], [1, 1]][set];
        assert_eq!(nulls, expected, "{set}");
        format!("{:?}", rows.column(2))
    });
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
}

#[tokio::test]
async fn a_full_page_has_a_next_one() {
    let (plan, _) = pushed("SELECT k, n, count(*) FROM t GROUP BY k, n").await;
    let size = forms(&plan)[0];
    let Form::Pages { size } = size else { panic!("{size:?}") };
    let page = |count: usize, after: Value| {
        let buckets = (0..count).map(|n| json!({ "key": { "0": null, "1": n }, "doc_count": 1 }));
        json!({ "s0": { "buckets": buckets.collect::<Vec<_>>(), "after_key": after } })
    };
    let read_page = |page: &Value| read_page(&plan, 0, size, page.to_string().as_bytes());
    let after = json!({ "0": null, "1": 9_999 });
    let full = read_page(&page(size, after.clone())).unwrap();
    assert_eq!((full.groups.len(), &full.after), (size, &Some(after.clone())));
    assert_eq!(full.groups[3].keys.as_ref(), [KeyValue::Missing, KeyValue::Integer(3)]);
    assert_eq!(read_page(&page(size - 1, after)).unwrap().after, None);
    assert_eq!(read_page(&page(0, Value::Null)).unwrap(), Groups::default());
    read_page(&page(size, Value::Null)).unwrap_err();
    read_page(&Value::Null).unwrap_err();
    // Pages are proved together, so a first page that is full is not yet.
    let mut first = page(size, json!({ "0": null, "1": 1 }));
    first["v1"] = json!({ "value": 50_000 });
    first["n1"] = json!({ "doc_count": 0 });
    let sets = read(&plan, 50_000, &first).unwrap();
    let error = prove(&plan, &plan.sets[0], sets[0].documents(), 50_000).unwrap_err();
    assert!(error.contains("the groups by k, n have 10000 documents of 50000"), "{error}");
}

/// With measures, a page is full with fewer groups than without.
#[tokio::test]
async fn a_page_is_as_full_as_it_was_requested() {
    let (plan, _) = pushed("SELECT k, n, max(n) FROM t GROUP BY k, n").await;
    let form = forms(&plan)[0];
    let Form::Pages { size } = form else { panic!("{form:?}") };
    let page = |count: usize| {
        let bucket = |n| json!({ "key": { "0": "a", "1": n }, "doc_count": 1, "c0": { "value": 1 }, "x0": { "value": 2.0 } });
        let buckets: Vec<Value> = (0..count).map(bucket).collect();
        json!({ "v1": { "value": count }, "n1": { "doc_count": 0 },
            "s0": { "buckets": buckets, "after_key": { "0": "a", "1": count } } })
    };
    let sets = read(&plan, size as u64, &page(size)).unwrap();
    assert!(sets[0].after.is_some());
    assert_eq!(read(&plan, 3, &page(3)).unwrap()[0].after, None);
}
