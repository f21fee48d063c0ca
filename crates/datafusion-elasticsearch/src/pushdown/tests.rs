#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::*;
use datafusion::common::ToDFSchema;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{col, lit};
use datafusion::optimizer::simplify_expressions::{ExprSimplifier, SimplifyContext};
use elastic_arrow::{IndexMapping, MetaField, SchemaOptions, plan_columns, to_schema};
use serde_json::json;
use std::sync::Arc;

fn columns() -> Vec<Column> {
    let mapping = json!({ "properties": {
        "k": { "type": "keyword" },
        "short": { "type": "keyword", "ignore_above": 3 },
        "lower": { "type": "keyword", "normalizer": "lowercase" },
        "hidden": { "type": "keyword", "index": false },
        "stored": { "type": "keyword", "doc_values": false },
        "text": { "type": "text", "fields": { "raw": { "type": "keyword" } } },
        "wild": { "type": "wildcard" },
        "prose": { "type": "text" },
        "dynamic": { "type": "text", "fields": { "keyword": { "type": "keyword", "ignore_above": 5 } } },
        "ip": { "type": "ip" },
        "n": { "type": "long" }, "b": { "type": "byte" }, "u": { "type": "unsigned_long" },
        "d": { "type": "double" }, "f": { "type": "float" }, "h": { "type": "half_float" },
        "s": { "type": "scaled_float", "scaling_factor": 100 },
        "t": { "type": "date" }, "tn": { "type": "date_nanos" },
        "flag": { "type": "boolean" },
        "list": { "type": "keyword" },
    } });
    let mappings = [IndexMapping { index: "i".into(), mapping: mapping.into() }];
    let options = SchemaOptions {
        arrays: ["list".to_owned()].into(),
        metadata: vec![MetaField::Id],
        ..SchemaOptions::default()
    };
    plan_columns(&mappings, &options).unwrap()
}

/// Returns the filter as DataFusion's parser and type coercion produce it.
fn parse(sql: &str, columns: &[Column]) -> Expr {
    let ctx = SessionContext::new();
    for function in crate::functions::functions() {
        ctx.register_udf(function.as_ref().clone());
    }
    let schema = to_schema(columns).to_dfschema().unwrap();
    let expr = ctx.parse_sql_expr(sql, &schema).unwrap();
    let info = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
    let simplifier = ExprSimplifier::new(info);
    let expr = simplifier.coerce(expr, &schema).unwrap();
    simplifier.simplify(expr).unwrap()
}

fn pushed(sql: &str) -> Option<Pushed> {
    let columns = columns();
    translate(&parse(sql, &columns), &columns, Ignored::Null)
}

fn check(sql: &str, expected: Value) {
    let pushed = pushed(sql).unwrap_or_else(|| panic!("{sql} is not pushed"));
    assert_eq!(pushed.query, expected, "{sql}");
}

fn check_all(sql: &str) {
    if let Some(pushed) = pushed(sql) {
        panic!("{sql} is pushed: {}", pushed.query);
    }
}

fn exists(field: &str) -> Value {
    json!({ "exists": { "field": field } })
}

fn any(parts: &[Value]) -> Value {
    json!({ "bool": { "should": parts, "minimum_should_match": 1 } })
}

#[test]
fn a_negation_asks_for_another_value_never_for_no_such_value() {
    let other = any(&[json!({ "range": { "n": { "lte": 0 } } }), json!({ "range": { "n": { "gte": 2 } } })]);
    check("n <> 1", other.clone());
    check("NOT (n = 1)", other.clone());
    check("NOT (n = 1 OR k IS NULL)", json!({ "bool": { "filter": [other, exists("k")] } }));
}

#[test]
fn what_is_not_known_of_one_side_restricts_nothing() {
    check("n = 1 AND prose = 'x'", json!({ "term": { "n": { "value": 1 } } }));
    check_all("n = 1 OR prose = 'x'");
    check_all("NOT (n = 1 AND prose = 'x')");
    check_all("prose LIKE 'a%'");
    check_all("NOT (n >= 5 AND prose = 'x' AND n < 9)");
}

#[test]
fn null_is_what_has_no_doc_values() {
    check("k IS NULL", json!({ "bool": { "must_not": exists("k") } }));
    check("hidden IS NULL", json!({ "bool": { "must_not": exists("hidden") } }));
    check("hidden = 'x'", exists("hidden"));
    check("k IS DISTINCT FROM NULL", exists("k"));
    check("n = NULL OR n = 1", json!({ "term": { "n": { "value": 1 } } }));
    check("n NOT IN (1, NULL)", json!({ "match_none": {} }));
    check_all("stored IS NULL");
    check_all("stored IS NOT NULL");
    check_all("text IS NULL");
}

#[test]
fn what_is_read_from_source_may_be_older_than_its_field() {
    let is_missing = json!({ "bool": { "must_not": exists("text.raw") } });
    check("text = 'x'", any(&[json!({ "term": { "text.raw": { "value": "x" } } }), is_missing.clone()]));
    let wild = |query: Value| any(&[query, json!({ "bool": { "must_not": exists("wild") } })]);
    check("wild = 'x'", wild(json!({ "term": { "wild": { "value": "x" } } })));
    check("wild LIKE '%x%'", wild(json!({ "wildcard": { "wild": { "value": "*x*" } } })));
    for sql in
        ["wild = ''", "wild = 'a*'", "wild LIKE '%?'", "wild <> 'x'", "wild NOT LIKE 'x%'", "wild LIKE '%_'"]
    {
        check_all(sql);
    }
    check("text LIKE 'x%'", any(&[json!({ "prefix": { "text.raw": { "value": "x" } } }), is_missing]));
}

#[test]
fn a_list_is_terms_and_many_are_not_excluded_one_by_one() {
    let numbers: Vec<i64> = (0..500).collect();
    let list: Vec<String> = numbers.iter().map(i64::to_string).collect();
    let list = list.join(", ");
    check(&format!("n IN ({list})"), json!({ "terms": { "n": numbers } }));
    check(&format!("n NOT IN ({list})"), exists("n"));
    check("k = 'a' OR k = 'b' OR k = 'c'", json!({ "terms": { "k": ["a", "b", "c"] } }));
}

#[test]
fn no_query_is_deeper_or_larger_than_servers_take() {
    // Longer than the parser takes: as a program may build it.
    let chain = |length: i64| -> Expr {
        let part = |i: i64| col("n").eq(lit(i)).and(col("k").gt(lit(i.to_string())));
        (1..length).map(part).fold(part(0), Expr::or)
    };
    let sent = translate(&chain(60), &columns(), Ignored::Null).unwrap();
    assert_eq!(sent.clauses, 120);
    assert!(translate(&chain(300), &columns(), Ignored::Null).is_none());
    let mut nested = col("n").eq(lit(1_i64));
    for i in 0..12 {
        nested = col("k").eq(lit(i.to_string())).and(col("flag").or(nested));
    }
    assert!(translate(&nested, &columns(), Ignored::Null).is_none());
}

#[test]
fn bounds_are_what_the_field_can_hold() {
    check("b > 300", json!({ "match_none": {} }));
    check("b < 300", exists("b"));
    check("n > 1.5", json!({ "range": { "n": { "gte": 2 } } }));
    check("n = 1.5", json!({ "match_none": {} }));
    check("n > 9007199254740993.0", exists("n"));
    check("n <= -0.0", json!({ "range": { "n": { "lte": 0 } } }));
    check("n > -0.0", json!({ "range": { "n": { "gte": 0 } } }));
    check("n <> -0.0", exists("n"));
    check("u >= 18446744073709551615", json!({ "range": { "u": { "gte": u64::MAX } } }));
    check("h > 70000.0", json!({ "match_none": {} }));
    check("h < 70000.0", exists("h"));
}

#[test]
fn a_float_bound_is_within_and_zero_has_both_signs() {
    check("d > 0.1", json!({ "range": { "d": { "gte": 0.1 } } }));
    check("f < 0.1", json!({ "range": { "f": { "lte": 0.1 } } }));
    check("d = 0.0", json!({ "range": { "d": { "gte": -0.0, "lte": 0.0 } } }));
    assert!(pushed("d = 0.0").unwrap().query.to_string().contains("-0.0"));
    check("d <> 1.5", exists("d"));
    let scaled = pushed("s = 0.29").unwrap().query;
    let bounds = &scaled["range"]["s"];
    assert!(bounds["gte"].as_f64().unwrap() < 0.29 && bounds["lte"].as_f64().unwrap() > 0.29, "{scaled}");
}

#[test]
fn dates_are_whole_units_of_their_field() {
    let at = "2023-11-14T22:13:20.123Z";
    let millis = "strict_date_optional_time";
    let day = "TIMESTAMP '2023-11-14T22:13:20.123'";
    let range = |bounds: Value| json!({ "range": { "t": bounds } });
    check(&format!("t = {day}"), range(json!({ "gte": at, "lte": at, "format": millis })));
    check(&format!("t > {day}"), range(json!({ "gte": "2023-11-14T22:13:20.124Z", "format": millis })));
    check(
        "t < '1969-12-31T23:59:59.999'",
        range(json!({ "lte": "1969-12-31T23:59:59.998Z", "format": millis })),
    );
    let format = "strict_date_optional_time_nanos";
    check(
        &format!("tn > {day}"),
        json!({ "range": { "tn": { "gte": "2023-11-14T22:13:20.123000001Z", "format": format } } }),
    );
    check("tn < '1969-12-31T00:00:00'", json!({ "match_none": {} }));
}

#[test]
fn like_is_spelled_as_the_server_spells_it() {
    let wildcard = |value: &str| json!({ "wildcard": { "k": { "value": value } } });
    check("k LIKE 'a%'", json!({ "prefix": { "k": { "value": "a" } } }));
    check(r"k LIKE 'a\%%'", json!({ "prefix": { "k": { "value": "a%" } } }));
    check("k LIKE '%a*b?c_'", wildcard(r"*a\*b\?c?"));
    check(r"k LIKE '%\\'", wildcard(r"*\\"));
    check("k LIKE '%________'", wildcard("*????*"));
    check(
        "k NOT LIKE 'a%'",
        any(&[json!({ "range": { "k": { "lt": "a" } } }), json!({ "range": { "k": { "gte": "b" } } })]),
    );
    check("k NOT LIKE '%a'", exists("k"));
    check("k NOT LIKE '\u{10ffff}%'", json!({ "range": { "k": { "lt": "\u{10ffff}" } } }));
    let regexp = |value: &str| json!({ "regexp": { "k": { "value": value, "flags": "NONE" } } });
    check("k ILIKE 'as.k%'", regexp("[aA][sS\u{17f}]\\.[kK\u{212a}].*"));
    check("k ILIKE 'é1_'", regexp(".1."));
    check("lower LIKE 'a%'", exists("lower"));
    check("ip LIKE '10.%'", exists("ip"));
}

#[test]
fn an_address_is_text_unless_it_is_canonical() {
    check("ip = '10.0.0.1'", json!({ "term": { "ip": { "value": "10.0.0.1" } } }));
    check("ip = '::ffff:10.0.0.1'", json!({ "term": { "ip": { "value": "10.0.0.1" } } }));
    check("ip = '10.0.0.0/8'", json!({ "match_none": {} }));
    check("ip <> '0:0::1'", exists("ip"));
    check("ip > '10.0.0.1'", exists("ip"));
    let beyond = |lt: &str, gt: &str| {
        any(&[json!({ "range": { "ip": { "lt": lt } } }), json!({ "range": { "ip": { "gt": gt } } })])
    };
    check("ip <> '10.0.0.1'", beyond("10.0.0.1", "10.0.0.1"));
    check("cidr(ip, '10.1.2.3/8')", json!({ "term": { "ip": { "value": "10.0.0.0/8" } } }));
    check("NOT cidr(ip, '10.0.0.0/8')", beyond("10.0.0.0", "10.255.255.255"));
    check("cidr(ip, '::ffff:10.0.0.0/104')", json!({ "term": { "ip": { "value": "10.0.0.0/8" } } }));
    check("cidr(k, '10.0.0.0/8')", exists("k"));
}

#[test]
fn the_order_of_addresses_is_asked_of_their_keys() {
    let key = crate::functions::AddressKey::of;
    let range = |bounds: Value| json!({ "range": { "ip": bounds } });
    let (low, high) = (key("10.0.0.2"), key("2001:db8::1"));
    check(&format!("ip_key(ip) < '{low}'"), range(json!({ "lt": "10.0.0.2" })));
    check(&format!("NOT '{low}' <= ip_key(ip)"), range(json!({ "lt": "10.0.0.2" })));
    check(&format!("ip_key(ip) > '{high}'"), range(json!({ "gt": "2001:db8::1" })));
    let both = [range(json!({ "gte": "10.0.0.2" })), range(json!({ "lte": "2001:db8::1" }))];
    check(&format!("ip_key(ip) BETWEEN '{low}' AND '{high}'"), json!({ "bool": { "filter": both } }));
    check(
        "ip_key(ip) IS NULL OR ip_key(ip) = 'no key'",
        any(&[json!({ "bool": { "must_not": exists("ip") } }), exists("ip")]),
    );
    check("ip_key(ip) < ip_key(ip)", exists("ip"));
    check_all(&format!("ip_key(k) < '{low}'"));
    check_all("ip_key(ip) LIKE '0%'");
    for sql in [
        format!("ip_key(ip) < '{low}'"),
        "ip = '10.0.0.1'".into(),
        "ip <> '10.0.0.1'".into(),
        "NOT cidr(ip, '10.0.0.0/8') OR ip IN ('::1', '10.0.0.1')".into(),
    ] {
        assert_eq!(pushed(&sql).unwrap().precision, Precision::Strict, "{sql}");
    }
    for sql in ["ip = '::ffff:10.0.0.1'", "ip_key(ip) < 'no key'", "cidr(ip, '10.0.0.0/8') OR ip > '10'"] {
        assert_eq!(pushed(sql).unwrap().precision, Precision::Inclusive, "{sql}");
    }
}

#[test]
fn booleans_stand_alone() {
    let is = |truth: bool| json!({ "term": { "flag": { "value": truth } } });
    let is_missing = json!({ "bool": { "must_not": exists("flag") } });
    check("flag", is(true));
    check("NOT flag", is(false));
    check("flag <> true", is(false));
    check("flag IS TRUE", is(true));
    check("flag IS NOT TRUE", any(&[is(false), is_missing.clone()]));
    check("flag IS NOT FALSE", any(&[is(true), is_missing]));
}

#[test]
fn only_what_no_document_can_contradict_is_exact() {
    for sql in ["list IS NULL", "list IS NOT NULL", "_id = 'x'", "_id IN ('x', 'y')", "NOT list IS NULL"] {
        assert_eq!(pushed(sql).unwrap().precision, Precision::Exact, "{sql}");
    }
    for sql in ["k IS NULL", "k = 'x'", "n > 1", "array_has(list, 'x')", "list IS NULL OR n = 1"] {
        assert!(pushed(sql).unwrap().precision < Precision::Exact, "{sql}");
    }
    // If the server may have dropped values, the column must be read.
    let columns = columns();
    for sql in ["list IS NULL", "list IS NOT NULL", "NOT list IS NULL AND _id = 'x'"] {
        let pushed = translate(&parse(sql, &columns), &columns, Ignored::Error).unwrap();
        assert!(pushed.precision < Precision::Exact, "{sql}");
    }
    check("short = 'abcd'", json!({ "term": { "short": { "value": "abcd" } } }));
}

/// The mapping that dynamic mapping creates for a text by default.
#[test]
fn a_short_text_is_searched_in_a_keyword_that_lacks_long_ones() {
    let is_missing = json!({ "bool": { "must_not": exists("dynamic.keyword") } });
    let has = json!({ "term": { "dynamic.keyword": { "value": "short" } } });
    check("dynamic = 'short'", any(&[has, is_missing.clone()]));
    let either = json!({ "terms": { "dynamic.keyword": ["a", "b"] } });
    check("dynamic IN ('a', 'b')", any(&[either, is_missing]));
    // The longer text has no term, and a list with a longer text has terms only for some of its values.
    check_all("dynamic = 'longer'");
    check_all("dynamic IN ('a', 'longer')");
    for other in ["dynamic <> 'a'", "dynamic > 'a'", "dynamic LIKE 'a%'", "NOT dynamic = 'a'"] {
        check_all(other);
    }
    // Five letters of two bytes each, which is over the limit of five bytes.
    check_all("dynamic = 'ééééé'");
}

#[test]
fn dates_that_are_cut_are_ranges() {
    let between = |from: &str, to: &str| {
        let format = "strict_date_optional_time";
        let from = json!({ "range": { "t": { "gte": from, "format": format } } });
        let to = json!({ "range": { "t": { "lte": to, "format": format } } });
        json!({ "bool": { "filter": [from, to] } })
    };
    let day = between("2024-02-29T00:00:00.000Z", "2024-02-29T23:59:59.999Z");
    check("date_trunc('day', t) = '2024-02-29'", day.clone());
    check("CAST(t AS DATE) = DATE '2024-02-29'", day);
    let month = between("2024-02-01T00:00:00.000Z", "2024-02-29T23:59:59.999Z");
    check("date_trunc('month', t) = '2024-02-01'", month);
    let week = between("1969-12-29T00:00:00.000Z", "1970-01-04T23:59:59.999Z");
    check("date_trunc('week', t) = '1969-12-29'", week);
    // No quarter starts on that date.
    check("date_trunc('quarter', t) = '2024-02-01'", json!({ "match_none": {} }));
    check_all("date_trunc('decade', t) = '2020-01-01'");
    for (sql, bound, at) in [
        ("date_trunc('year', t) > '2023-06-01'", "gte", "2024-01-01T00:00:00.000Z"),
        ("date_trunc('year', t) >= '2023-01-01'", "gte", "2023-01-01T00:00:00.000Z"),
        ("date_trunc('year', t) <= '2023-01-01'", "lte", "2023-12-31T23:59:59.999Z"),
        ("date_trunc('hour', t) < '2023-01-01T00:30:00'", "lte", "2023-01-01T00:59:59.999Z"),
    ] {
        check(sql, json!({ "range": { "t": { bound: at, "format": "strict_date_optional_time" } } }));
    }
}

/// A strict query must find no extra document: a top-N above it would return too few rows.
#[test]
fn a_filter_that_the_server_knows_in_part_is_not_strict() {
    let columns = columns();
    let precision = |expr: &Expr| translate(expr, &columns, Ignored::Error).map(|pushed| pushed.precision);
    for sql in [
        "k = 'a'",
        "n IN (1, 2, 3, 4, 5)",
        "k = 'a' OR n > 3 AND t < '2024-01-01'",
        "k IS NULL",
        "b < 300",
        "flag IS NOT TRUE",
        "k IS DISTINCT FROM 'a'",
        "NOT (n BETWEEN 1 AND 5 OR flag)",
        "k IN ('a', 'b', 'c', 'd', NULL) OR n = 1",
    ] {
        assert_eq!(precision(&parse(sql, &columns)), Some(Precision::Strict), "{sql}");
    }
    let list = |count: usize| (0..count).map(|n| format!("'w{n}'")).collect::<Vec<_>>().join(", ");
    for sql in [
        "lower = 'a'".to_owned(),
        "text = 'a'".to_owned(),
        "d = 1.5".to_owned(),
        "n = 1.5".to_owned(),
        "n <> -0.0".to_owned(),
        "k LIKE 'a%'".to_owned(),
        "k = 'a' OR d = 1.5".to_owned(),
        "k < lower".to_owned(),
        "array_has(list, 'x') AND k = 'a'".to_owned(),
        "CAST(t AS DATE) = DATE '2024-02-29'".to_owned(),
        // Too many values to exclude or to send.
        format!("(k NOT IN ({}) AND n = 1) OR n = 2", list(65)),
        format!("(k IN ({}) AND n = 1) OR n = 2", list(10_001)),
        format!("((k IN ({}) OR k IN ({})) AND n = 1) OR n = 2", list(6_000), list(6_000).replace('w', "v")),
    ] {
        let shown = &sql[..sql.len().min(60)];
        assert!(precision(&parse(&sql, &columns)) <= Some(Precision::Inclusive), "{shown}");
    }
    let many = InList::new(Box::new(col("k")), (0..65).map(lit).collect(), false);
    assert!(precision(&Expr::Not(Box::new(Expr::InList(many)))) <= Some(Precision::Inclusive));
    // The literal is not a text, so nothing is sent to the server.
    let odd = Expr::BinaryExpr(BinaryExpr::new(Box::new(col("_id")), Operator::Eq, Box::new(lit(5))));
    assert!(translate(&odd.or(col("list").is_null()), &columns, Ignored::Null).is_none());
}

/// The negation of an exact query is exact only if its own query is.
#[test]
fn a_negated_match_beside_an_id_finds_what_it_claims() {
    let columns = columns();
    let words = crate::functions::functions().into_iter().find(|f| f.name() == "match").unwrap();
    let words = |field: &str| words.call(vec![col(field), lit("fox")]);
    let pushed = |expr: Expr| translate(&expr, &columns, Ignored::Error);
    let found = json!({ "match": { "prose": { "query": "fox" } } });
    let other = json!({ "bool": { "must_not": found, "filter": exists("prose") } });
    let no_id = json!({ "bool": { "must_not": { "ids": { "values": ["x"] } } } });
    let neither = pushed(Expr::Not(Box::new(col("_id").eq(lit("x")).or(words("prose"))))).unwrap();
    assert_eq!(neither.precision, Precision::Exact);
    assert_eq!(neither.query, json!({ "bool": { "filter": [no_id, other] } }));
    for beside in [col("_id").gt(lit("x")), col("k").eq(lit("x")), col("prose").eq(lit("x")), words("n")] {
        let either = beside.or(words("prose"));
        for expr in [either.clone(), Expr::Not(Box::new(either))] {
            let exact = pushed(expr.clone()).is_some_and(|pushed| pushed.precision == Precision::Exact);
            assert!(!exact, "{expr}");
        }
    }
}

/// `NOT IN` a list that contains a null is never true.
#[test]
fn a_null_in_a_list_is_no_value() {
    check("k IN ('a', 'b', 'c', 'd', NULL)", json!({ "terms": { "k": ["a", "b", "c", "d"] } }));
    check("k NOT IN ('a', 'b', 'c', 'd', NULL)", json!({ "match_none": {} }));
}
