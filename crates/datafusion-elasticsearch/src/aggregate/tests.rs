//! Which aggregates are pushed down.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::keys::{Key, KeyBy};
use super::measures::Measure;
use super::plan::AggregatePlan;
use super::*;
use crate::spec::TableSpec;
use crate::table::EsTable;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};
use elastic_arrow::{IndexMapping, MetaField, SchemaOptions, plan_columns};
use elastic_client::{ConnectionConfig, ConnectionRegistry, Cut, Slice, SliceSource, Tiebreaker};
use serde_json::json;

fn spec() -> TableSpec {
    let mapping = json!({ "properties": {
        "k": { "type": "keyword" }, "k2": { "type": "keyword" },
        "stored": { "type": "keyword", "doc_values": false },
        "text": { "type": "text", "fields": { "raw": { "type": "keyword" } } },
        "wild": { "type": "wildcard" }, "ip": { "type": "ip" },
        "n": { "type": "long" }, "i": { "type": "integer" }, "b": { "type": "byte" },
        "u": { "type": "unsigned_long" }, "d": { "type": "double" }, "h": { "type": "half_float" },
        "s": { "type": "scaled_float", "scaling_factor": 100 },
        "at": { "type": "date" }, "nanos": { "type": "date_nanos" }, "flag": { "type": "boolean" },
        "list": { "type": "keyword" },
    } });
    let options = SchemaOptions {
        arrays: ["list".to_owned()].into(),
        metadata: vec![MetaField::Id],
        ..SchemaOptions::default()
    };
    let slice = |ordinal| Slice {
        ordinal,
        of: 2,
        index: "flows".into(),
        source: SliceSource::Pit { id: "p".into(), tiebreaker: Tiebreaker::ShardDoc },
        cut: Some(Cut { id: ordinal, max: 2 }),
        filter: None,
    };
    TableSpec {
        connection: "prod".into(),
        index: "flows".into(),
        columns: plan_columns(&[IndexMapping { index: "flows".into(), mapping: mapping.into() }], &options)
            .unwrap(),
        query: json!({ "match_all": {} }),
        slices: None,
        read: Default::default(),
        pushdown: Default::default(),
        aggregate: Default::default(),
        ignored: Default::default(),
        single: Vec::new(),
        ignored_checked: false,
        open_slices: Some(vec![slice(0), slice(1)]),
    }
}

/// Plans a statement over a table `t`. Nothing is sent.
async fn physical_over(spec: TableSpec, partitions: usize, sql: &str) -> Arc<dyn ExecutionPlan> {
    let registry = ConnectionRegistry::default();
    registry.insert("prod", &ConnectionConfig::from_url("http://127.0.0.1:1").unwrap()).unwrap();
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(SessionConfig::new().with_target_partitions(partitions))
        .with_physical_optimizer_rule(Arc::new(PushAggregates))
        .build();
    let context = SessionContext::new_with_state(state);
    context.register_table("t", Arc::new(EsTable::from_spec(Arc::new(registry), spec))).unwrap();
    let plan = context.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    plan.create_physical_plan().await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}

fn shown(plan: &Arc<dyn ExecutionPlan>) -> String {
    displayable(plan.as_ref()).indent(false).to_string()
}

fn find_pushed(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if plan.is::<EsAggregateExec>() {
        return Some(Arc::clone(plan));
    }
    plan.children().into_iter().find_map(find_pushed)
}

/// Returns the plan of an aggregate that is pushed down, and the schema of its rows.
pub(super) async fn pushed(sql: &str) -> (AggregatePlan, SchemaRef) {
    let physical = physical_over(spec(), 2, sql).await;
    let node = find_pushed(&physical).unwrap_or_else(|| panic!("{sql} is not pushed\n{}", shown(&physical)));
    let input = Arc::clone(node.children()[0]);
    let aggregate = input.downcast_ref::<AggregateExec>().unwrap();
    let columns = &find_scan(aggregate.input()).unwrap().spec().columns;
    (plan::plan(aggregate, columns).unwrap().unwrap(), input.schema())
}

/// Requires that the server does not compute the aggregate, for this reason.
async fn refuse(sql: &str, reason: &str) {
    let physical = physical_over(spec(), 2, sql).await;
    let shown = shown(&physical);
    assert!(!shown.contains("EsAggregateExec"), "{sql}\n{shown}");
    assert!(shown.contains(&format!("not aggregated by the server: {reason}")), "{sql}\n{shown}");
}

async fn key(expr: &str) -> (String, KeyBy) {
    let (plan, _) = pushed(&format!("SELECT {expr}, count(*) FROM t GROUP BY 1")).await;
    let [keys] = plan.sets.as_slice() else { panic!("{expr}: {:?}", plan.sets) };
    let [key] = keys.as_slice() else { panic!("{expr}: {keys:?}") };
    (plan.name(key.column).to_owned(), key.by)
}

#[tokio::test]
async fn a_group_is_a_value_of_a_column_or_finer() {
    for column in ["k", "ip", "n", "i", "b", "at", "flag"] {
        assert_eq!(key(column).await, (column.to_owned(), KeyBy::Value));
    }
    for (expr, column) in
        [("CAST(n AS VARCHAR)", "n"), ("CAST(at AS DATE)", "at"), ("CAST(k AS BIGINT)", "k")]
    {
        assert_eq!(key(expr).await, (column.to_owned(), KeyBy::Value), "{expr}");
    }
}

#[tokio::test]
async fn a_group_by_a_unit_of_time_is_a_date_histogram() {
    for unit in ["minute", "hour", "day", "week", "month", "quarter", "year"] {
        assert_eq!(key(&format!("date_trunc('{unit}', at)")).await, ("at".to_owned(), KeyBy::Calendar(unit)));
    }
    for (expr, millis) in [
        ("date_trunc('second', at)", 1_000),
        ("date_bin(INTERVAL '1 day', at)", 86_400_000),
        ("date_bin(INTERVAL '90 minutes', at)", 5_400_000),
        ("date_bin(INTERVAL '13 milliseconds', at)", 13),
    ] {
        assert_eq!(key(expr).await, ("at".to_owned(), KeyBy::Millis(millis)), "{expr}");
    }
}

#[tokio::test]
async fn what_has_other_groups_on_the_server_is_not_pushed() {
    for (expr, reason) in [
        ("lower(k)", "the server does not group by lower"),
        ("n + 1", "the server does not group by"),
        ("d", "the server does not group by \"d\" of the type double"),
        ("h", "the server does not group by \"h\" of the type half_float"),
        ("u", "the server does not group by \"u\" of the type unsigned_long"),
        ("nanos", "the server does not group by \"nanos\" of the type date_nanos"),
        ("date_trunc('day', nanos)", "the server does not group by \"nanos\""),
        ("stored", "\"stored\" is not read from doc values"),
        ("text", "\"text\" is not read from doc values"),
        ("list", "\"list\" is a list"),
        ("date_trunc('millisecond', at)", "the server does not group by date_trunc"),
        ("date_bin(INTERVAL '1 month', at)", "the server does not group by date_bin"),
        ("date_bin(INTERVAL '1 month 1 day', at)", "the server does not group by date_bin"),
        ("date_bin(INTERVAL '1500 microseconds', at)", "the server does not group by date_bin"),
        (
            "date_bin(INTERVAL '1 hour', at, TIMESTAMP '2020-01-01T00:10:00')",
            "the server does not group by date_bin",
        ),
    ] {
        refuse(&format!("SELECT {expr}, count(*) FROM t GROUP BY 1"), reason).await;
    }
}

/// Of the first moment of an interval, a cast may be in another interval than of the others.
#[tokio::test]
async fn an_interval_of_a_cast_that_changes_the_moment_is_not_pushed() {
    for cast in [
        "CAST(at AS DATE)",
        // A moment after the year 2262 is an error.
        "CAST(at AS TIMESTAMP)",
        "arrow_cast(at, 'Timestamp(Second, None)')",
        "arrow_cast(at, 'Timestamp(Millisecond, Some(\"+05:30\"))')",
        "arrow_cast(arrow_cast(at, 'Timestamp(Millisecond, Some(\"UTC\"))'), 'Timestamp(Millisecond, Some(\"+05:30\"))')",
        "CAST(CAST(at AS DATE) AS TIMESTAMP)",
    ] {
        for expr in [format!("date_trunc('hour', {cast})"), format!("date_bin(INTERVAL '7 hours', {cast})")] {
            let physical =
                physical_over(spec(), 2, &format!("SELECT {expr}, count(*) FROM t GROUP BY 1")).await;
            assert!(find_pushed(&physical).is_none(), "{expr}\n{}", shown(&physical));
        }
    }
}

#[tokio::test]
async fn aggregate_functions_over_integers_and_dates_are_pushed() {
    let sql = "SELECT k, count(*), count(1), count(k2), count(h), sum(n), sum(b), avg(i), min(at), max(n) \
               FROM t GROUP BY k";
    let (plan, _) = pushed(sql).await;
    let place = |name: &str| plan.columns.iter().position(|column| column.name == name).unwrap();
    let expected = [
        Measure::Rows,
        Measure::Count(place("k2")),
        Measure::Count(place("h")),
        Measure::Sum(place("n")),
        Measure::Sum(place("b")),
        Measure::Avg(place("i")),
        Measure::Min(place("at")),
        Measure::Max(place("n")),
    ];
    // DataFusion computes count(*) and count(1) once.
    assert_eq!(plan.measures, expected);
    let mut counted = ["k2", "h", "n", "b", "i", "at"].map(place).to_vec();
    counted.sort_unstable();
    assert_eq!(plan.counted(), counted);
    let mut summed = ["n", "b", "i"].map(place).to_vec();
    summed.sort_unstable();
    assert_eq!(plan.summed(), summed);
}

#[tokio::test]
async fn what_the_server_computes_otherwise_is_not_pushed() {
    for measure in [
        "sum(d)",
        "sum(h)",
        "avg(d)",
        "min(d)",
        "sum(u)",
        "max(u)",
        "min(k)",
        "max(ip)",
        "max(nanos)",
        "max(flag)",
        "sum(n + 1)",
        "median(n)",
        "array_agg(n)",
        "count(stored)",
        "count(list)",
        "count(s)",
        "count(CAST(NULL AS INT))",
        "count(DISTINCT n), count(*)",
        "sum(n), max(d)",
    ] {
        let physical = physical_over(spec(), 2, &format!("SELECT k, {measure} FROM t GROUP BY k")).await;
        assert!(find_pushed(&physical).is_none(), "{measure}\n{}", shown(&physical));
    }
    refuse("SELECT k, count(*) FILTER (WHERE n > 1) FROM t GROUP BY k", "an aggregate function has a FILTER")
        .await;
}

/// A cast may fail, or change the value that is counted, added up or averaged.
#[tokio::test]
async fn an_aggregate_of_a_cast_that_may_change_a_value_is_not_pushed() {
    for measure in [
        "sum(CAST(n AS TINYINT))",
        "sum(CAST(n AS INT))",
        "avg(CAST(n AS SMALLINT))",
        "avg(CAST(n AS REAL))",
        "avg(CAST(n AS BIGINT UNSIGNED))",
        "count(CAST(k AS INT))",
        "count(CAST(k AS BIGINT))",
        "count(CAST(k AS DOUBLE))",
        "count(CAST(n AS TINYINT))",
        "count(TRY_CAST(k AS INT))",
    ] {
        let physical = physical_over(spec(), 2, &format!("SELECT {measure} FROM t")).await;
        assert!(find_pushed(&physical).is_none(), "{measure}\n{}", shown(&physical));
    }
    for measure in [
        "sum(CAST(b AS BIGINT))",
        "avg(CAST(i AS BIGINT))",
        "avg(CAST(n AS DOUBLE))",
        "count(CAST(b AS BIGINT))",
    ] {
        pushed(&format!("SELECT {measure} FROM t")).await;
    }
}

#[tokio::test]
async fn each_grouping_set_has_its_keys_and_the_finer_of_two_over_a_column() {
    let names = |plan: &AggregatePlan| -> Vec<Vec<String>> {
        let names = |keys: &Vec<Key>| keys.iter().map(|key| plan.name(key.column).to_owned()).collect();
        plan.sets.iter().map(names).collect()
    };
    for (group_by, expected) in [
        ("GROUP BY k, n", vec![vec!["k", "n"]]),
        ("GROUP BY GROUPING SETS ((k), (n), ())", vec![vec!["k"], vec!["n"], vec![]]),
        ("GROUP BY ROLLUP (k, n)", vec![vec![], vec!["k"], vec!["k", "n"]]),
    ] {
        let (plan, _) = pushed(&format!("SELECT k, n, count(*) FROM t {group_by}")).await;
        let mut found = names(&plan);
        if group_by.contains("ROLLUP") {
            found.sort_by_key(Vec::len);
        }
        assert_eq!(found, expected, "{group_by}");
    }
    let (plan, _) = pushed("SELECT count(*), sum(n) FROM t").await;
    assert_eq!(plan.sets, [vec![]]);
    let two = "SELECT date_trunc('month', at), date_trunc('day', at), count(*) FROM t GROUP BY 1, 2";
    let (plan, _) = pushed(two).await;
    assert!(matches!(plan.sets[0].as_slice(), [Key { by: KeyBy::Value, .. }]), "{:?}", plan.sets);
    let (plan, _) = pushed("SELECT k AS a, upper(k) AS b FROM t GROUP BY k").await;
    assert_eq!(names(&plan), [["k"]]);
}

#[tokio::test]
async fn nothing_is_pushed_over_a_filter_a_limit_or_against_the_options() {
    let sql = "SELECT k, count(*) FROM t WHERE n > 1 GROUP BY k";
    assert!(find_pushed(&physical_over(spec(), 2, sql).await).is_none());
    let single = TableSpec { single: vec!["n".into()], ..spec() };
    assert!(find_pushed(&physical_over(single, 2, sql).await).is_some());
    let limited = "SELECT k, count(*) FROM (SELECT k FROM t LIMIT 5) GROUP BY k";
    assert!(find_pushed(&physical_over(spec(), 2, limited).await).is_none());
    let plain = "SELECT k, count(*) FROM t GROUP BY k";
    for spec in
        [TableSpec { aggregate: Aggregate::Never, ..spec() }, TableSpec { pushdown: Pushdown::Off, ..spec() }]
    {
        let physical = physical_over(spec, 2, plain).await;
        assert!(find_pushed(&physical).is_none() && !shown(&physical).contains("not aggregated"));
    }
}

#[tokio::test]
async fn a_pushed_aggregate_is_merged_whatever_the_number_of_partitions() {
    let one = || TableSpec { open_slices: spec().open_slices.map(|slices| slices[..1].to_vec()), ..spec() };
    for sql in ["SELECT k, count(*) FROM t GROUP BY k", "SELECT count(*), sum(n) FROM t"] {
        for (spec, partitions) in [(one(), 1), (one(), 4), (spec(), 1), (spec(), 4)] {
            let physical = physical_over(spec, partitions, sql).await;
            let shown = shown(&physical);
            assert!(find_pushed(&physical).is_some(), "{sql} {partitions}\n{shown}");
            let merged = shown.contains("mode=Final,") || shown.contains("mode=FinalPartitioned,");
            let spread = shown.contains("CoalescePartitionsExec") || shown.contains("RepartitionExec");
            let partitions =
                find_pushed(&physical).unwrap().properties().output_partitioning().partition_count();
            assert!(merged && (spread || partitions == 1), "{sql} {partitions}\n{shown}");
            assert!(!shown.contains("RoundRobin"), "{sql} {partitions}\n{shown}");
        }
    }
}
