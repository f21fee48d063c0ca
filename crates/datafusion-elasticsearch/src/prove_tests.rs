#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::*;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::displayable;
use datafusion::prelude::SessionContext;
use elastic_arrow::{IndexMapping, SchemaOptions, plan_columns};
use elastic_client::{ConnectionConfig, ConnectionRegistry, Cut, Tiebreaker};
use serde_json::json;

fn slice(ordinal: u32, source: SliceSource) -> Slice {
    let cut = Some(Cut { id: ordinal, max: 4 });
    Slice { ordinal, of: 4, index: "flows".into(), source, cut, filter: None }
}

fn pit(id: &str) -> SliceSource {
    SliceSource::Pit { id: id.into(), tiebreaker: Tiebreaker::ShardDoc }
}

fn spec(open_slices: Option<Vec<Slice>>) -> TableSpec {
    let mapping = json!({ "properties": {
        "k": { "type": "keyword" }, "n": { "type": "long" }, "list": { "type": "long" },
        "stored": { "type": "keyword", "doc_values": false },
    } });
    let options = SchemaOptions { arrays: ["list".to_owned()].into(), ..SchemaOptions::default() };
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
        open_slices,
    }
}

/// A session with a table `t`. Its connection leads nowhere.
fn context(spec: TableSpec) -> SessionContext {
    let registry = ConnectionRegistry::default();
    registry.insert("prod", &ConnectionConfig::from_url("http://127.0.0.1:1").unwrap()).unwrap();
    let context = SessionContext::new_with_state(SessionStateBuilder::new().with_default_features().build());
    context.register_table("t", Arc::new(EsTable::from_spec(Arc::new(registry), spec))).unwrap();
    context
}

async fn scans_of(sql: &str, open_slices: Option<Vec<Slice>>) -> Vec<(EsTable, TableScan)> {
    let state = context(spec(open_slices)).state();
    let plan = state.create_logical_plan(sql).await.unwrap();
    scans(&state.optimize(&plan).unwrap()).unwrap()
}

#[test]
fn each_point_in_time_is_searched_once_and_whole() {
    let slices = [slice(0, pit("a")), slice(1, pit("a")), slice(2, pit("b")), slice(3, pit("b"))];
    let whole = points_in_time(&spec(Some(slices.to_vec())));
    let ids: Vec<(&SliceSource, Option<&Cut>)> =
        whole.iter().map(|slice| (&slice.source, slice.cut.as_ref())).collect();
    assert_eq!(ids, [(&pit("a"), None), (&pit("b"), None)]);
    assert!(points_in_time(&spec(None)).is_empty());
}

/// A scroll has no state that another request could search.
#[tokio::test]
async fn a_scan_without_a_point_in_time_is_not_proved() {
    let sql = "SELECT k FROM t WHERE n = 1";
    let scroll = vec![slice(0, pit("a")), slice(1, SliceSource::Scroll)];
    for open in [None, Some(scroll.clone())] {
        assert!(scans_of(sql, open.clone()).await.is_empty());
        // Nothing is sent, and the connection would fail.
        let state = context(spec(open)).state();
        let plan = state.create_logical_plan(sql).await.unwrap();
        assert_eq!(prove_filters(plan.clone(), &state).await.unwrap(), plan);
    }
    assert_eq!(scans_of(sql, Some(vec![slice(0, pit("a"))])).await.len(), 1);
}

#[tokio::test]
async fn scans_of_subqueries_are_found_and_equal_ones_are_one() {
    let pits = || Some(vec![slice(0, pit("a"))]);
    let sql = "SELECT k FROM t WHERE n = 1 UNION ALL SELECT k FROM t WHERE n = 1 UNION ALL SELECT k FROM t WHERE n = 2 \
               UNION ALL SELECT k FROM t WHERE n > (SELECT max(n) FROM t WHERE k = 'a')";
    let found = scans_of(sql, pits()).await;
    assert_eq!(found.len(), 5);
    let mut proved = Vec::new();
    for (table, scan) in &found {
        if find(&proved, table, scan).is_none() {
            proved.push(proof(table, scan));
        }
    }
    assert_eq!(proved.len(), 4);
}

fn proof(table: &EsTable, scan: &TableScan) -> Proved {
    let (before, spec) = (table.spec().clone(), table.spec().clone());
    Proved { before, projection: scan.projection.clone(), filters: scan.filters.clone(), spec }
}

/// As a view has over a table that was made again with other options.
#[tokio::test]
async fn a_proof_is_not_used_for_another_table_of_the_same_name() {
    let found = scans_of("SELECT k FROM t WHERE n = 1", Some(vec![slice(0, pit("a"))])).await;
    let (table, scan) = &found[0];
    let proved = [proof(table, scan)];
    assert!(find(&proved, table, scan).is_some());
    let spec = TableSpec { ignored: Ignored::Null, ..table.spec().clone() };
    let other = EsTable::from_spec(Arc::clone(table.registry()), spec);
    assert!(find(&proved, &other, scan).is_none());
}

#[tokio::test]
async fn the_columns_of_strict_filters_from_doc_values_are_candidates() {
    for (filter, expected) in [
        ("n = 1 AND k <> 'a'", &["k", "n"][..]),
        ("n + 1 = 2", &[]),
        ("stored = 'a'", &[]),
        ("n = 1 OR k = 'a'", &["k", "n"]),
        ("n = 1 AND list IS NOT NULL", &["n"]),
    ] {
        let found =
            scans_of(&format!("SELECT k FROM t WHERE {filter}"), Some(vec![slice(0, pit("a"))])).await;
        let (table, scan) = &found[0];
        let (query, columns) = table.filter_columns(&scan.filters);
        assert_eq!(columns.iter().collect::<Vec<_>>(), expected, "{filter}");
        assert_eq!(
            query == table.spec().query,
            expected.is_empty() && filter.contains('+'),
            "{filter}: {query}"
        );
    }
}

/// What a proof is for: no column of the filter is read, no filter is repeated, and the scan has the limit.
#[tokio::test]
async fn a_filter_over_single_columns_is_exact() {
    for (single, exact) in [(vec![], false), (vec!["n"], false), (vec!["k", "n"], true)] {
        let spec = TableSpec {
            single: single.iter().map(|name| (*name).to_owned()).collect(),
            ..spec(Some(vec![slice(0, pit("a"))]))
        };
        let sql = "SELECT stored FROM t WHERE n > 1 AND k = 'a' LIMIT 3";
        let plan = context(spec).sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        assert_eq!(!shown.contains("FilterExec"), exact, "{single:?}\n{shown}");
        assert_eq!(shown.contains(", limit=3"), exact, "{single:?}\n{shown}");
        assert_eq!(shown.contains("columns=[stored]"), exact, "{single:?}\n{shown}");
    }
}
