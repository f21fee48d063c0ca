//! Aggregates by the server: what is requested, and that the result is that of a scan. Random statements are in
//! `differential/aggregates.rs`.

mod scanned;

use crate::command::{assert_golden, flowsigma, stderr};
use crate::golden::{alone, assert_nothing_open, loaded, options, registry, remake, servers};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_elasticsearch::{EsScanExec, EsTable, PushAggregates, TopN, open_contexts, prove_filters};
use elastic_client::{Connection, Method, Request};
use flowsigma_tests::bulk::{self, Found};
use flowsigma_tests::cluster::Cluster;
use flowsigma_tests::golden::NOTEBOOK_QUERY;
use flowsigma_tests::proxy::{Fault, Proxy, Seen};
use serde_json::{Value, json};
use std::sync::Arc;

/// The values of the table option.
const MODES: [&str; 3] = ["never", "auto", "always"];

/// A statement that was run, and the metrics of its scans.
struct Ran {
    rows: String,
    plan: String,
    documents: usize,
    matched: usize,
    slices: usize,
    aggregated: usize,
    pages: usize,
}

impl Ran {
    fn is_pushed(&self) -> bool {
        self.plan.contains("EsAggregateExec")
    }
}

/// Runs a statement over the table `t` of an index, as the command line does.
async fn ask(url: &str, index: &str, with: &[(&str, &str)], sql: &str) -> Result<Ran> {
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(SessionConfig::new().with_target_partitions(2))
        .with_physical_optimizer_rule(Arc::new(PushAggregates))
        .with_physical_optimizer_rule(Arc::new(TopN))
        .build();
    let ctx = SessionContext::new_with_state(state);
    let table = EsTable::try_new(registry(url), "test", index, &options(with)).await?;
    ctx.register_table("t", Arc::new(table))?;
    let (plan, open) = open_contexts(ctx.state().create_logical_plan(sql).await?).await?;
    let ran = async {
        let plan = prove_filters(plan, &ctx.state()).await?;
        let physical = ctx.state().create_physical_plan(&plan).await?;
        let rows = collect(Arc::clone(&physical), ctx.task_ctx()).await?;
        let metric = |name: &str| sum_of_scans(&physical, name);
        Ok(Ran {
            rows: pretty_format_batches(&rows)?.to_string(),
            plan: displayable(physical.as_ref()).indent(false).to_string(),
            documents: metric("documents"),
            matched: metric("matched"),
            slices: metric("slices"),
            aggregated: metric("aggregated_slices"),
            pages: metric("pages"),
        })
    };
    let ran = ran.await;
    open.close().await?;
    ran
}

async fn ask_mode(url: &str, index: &str, mode: &str, sql: &str) -> Result<Ran> {
    ask(url, index, &[("aggregate", mode)], sql).await
}

fn sum_of_scans(plan: &Arc<dyn ExecutionPlan>, metric: &str) -> usize {
    let mut sum = 0;
    let all = Arc::clone(plan).apply(|node| {
        if node.is::<EsScanExec>() {
            sum += node.metrics().and_then(|m| m.sum_by_name(metric)).map_or(0, |value| value.as_usize());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    all.unwrap();
    sum
}

/// Creates an index with one shard, and loads the documents into it.
async fn make(connection: &Connection, index: &str, properties: Value, documents: &[Value]) {
    let delete = Request::new(Method::Delete, format!("/{index}"), "delete a test index")
        .with_param("ignore_unavailable", "true");
    connection.send(&delete).await.unwrap();
    let create = Request::new(Method::Put, format!("/{index}"), "create a test index").with_body(&json!({
        "settings": { "number_of_shards": 1, "number_of_replicas": 0 },
        "mappings": { "properties": properties },
    }));
    connection.send(&create).await.unwrap();
    for (chunk, documents) in documents.chunks(10_000).enumerate() {
        let ids = documents.iter().enumerate();
        let ids = ids.map(|(id, document)| (format!("{chunk}-{id}"), document));
        bulk::load(connection, index, ids, Found::AtOnce).await.unwrap();
    }
}

fn is_grouping(seen: &Seen) -> bool {
    String::from_utf8_lossy(&seen.body).contains("\"s0\"")
}

const BY_SOURCE: &str = r#"SELECT "netflow.ipv4_src_addr" AS a, count(*) AS n, sum("netflow.bytes") AS s,
    min("@timestamp") AS first, max("netflow.bytes") AS h, avg("netflow.bytes") AS m
    FROM t GROUP BY a ORDER BY a"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregated_slice_costs_one_request_and_no_page() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        remake(&connection, "agg_plain", 3, "ip").await;
        let never = ask_mode(&url, "agg_plain", "never", BY_SOURCE).await.unwrap();
        assert!(!never.is_pushed() && never.aggregated == 0, "{}", never.plan);
        for mode in ["auto", "always"] {
            let proxy = Proxy::start(&url, |_| Fault::None).await.unwrap();
            let ran = ask_mode(&proxy.url, "agg_plain", mode, BY_SOURCE).await.unwrap();
            assert!(ran.is_pushed(), "{url}\n{}", ran.plan);
            assert_eq!(ran.rows, never.rows, "{url} {mode}");
            let all = loaded() as usize;
            assert_eq!((ran.documents, ran.matched), (all, all), "{url} {mode}");
            assert_eq!((ran.slices, ran.aggregated, ran.pages), (3, 3, 0), "{url} {mode}");
            let seen = proxy.seen();
            assert_eq!(seen.iter().filter(|seen| is_grouping(seen)).count(), 3, "{url} {mode}");
            for seen in seen.iter().filter(|seen| seen.page.is_some()) {
                let body: Value = serde_json::from_slice(&seen.body).unwrap();
                assert_eq!(body["size"], 0, "{url} {mode}: a page was read: {body}");
            }
        }
        assert_nothing_open(&connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_with_several_grouping_sets_costs_one_request_for_each_slice() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        remake(&connection, "agg_sets", 2, "keyword").await;
        let (source, destination) = (r#""netflow.ipv4_src_addr""#, r#""netflow.ipv4_dst_addr""#);
        let sql = format!(
            "SELECT {source} AS a, {destination} AS b, grouping({source}) AS g, count(*) AS n FROM t \
             WHERE src_addr_space = 'private' GROUP BY GROUPING SETS (({source}), ({destination}), ()) \
             ORDER BY g, a, b"
        );
        let never = ask_mode(&url, "agg_sets", "never", &sql).await.unwrap();
        let proxy = Proxy::start(&url, |_| Fault::None).await.unwrap();
        let ran = ask_mode(&proxy.url, "agg_sets", "auto", &sql).await.unwrap();
        assert!(ran.is_pushed(), "{url}\n{}", ran.plan);
        assert_eq!(ran.rows, never.rows, "{url}");
        assert_eq!((ran.documents, ran.slices, ran.aggregated), (never.documents, 2, 2), "{url}");
        assert_eq!(proxy.seen().iter().filter(|seen| is_grouping(seen)).count(), 2, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_an_index_lacks_is_null_there_and_an_alias_keeps_its_filter() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        let documents: Vec<Value> = (0..20)
            .map(|i| json!({ "k": format!("v{}", i % 4), "n": i, "at": format!("2024-0{}-11", 1 + i % 3) }))
            .collect();
        let properties =
            json!({ "k": { "type": "keyword" }, "n": { "type": "long" }, "at": { "type": "date" } });
        make(&connection, "agg_lacks_a", properties, &documents).await;
        let other = [json!({ "k": "v1" }), json!({ "k": "w" })];
        make(&connection, "agg_lacks_b", json!({ "k": { "type": "keyword" } }), &other).await;
        let alias = json!({ "actions": [{ "add": {
            "index": "agg_lacks_a", "alias": "agg_lacks_filtered", "filter": { "range": { "n": { "lt": 7 } } },
        } }] });
        let alias = Request::new(Method::Post, "/_aliases", "alias").with_body(&alias);
        connection.send(&alias).await.unwrap();
        for index in ["agg_lacks_a,agg_lacks_b", "agg_lacks_filtered"] {
            for sql in [
                "SELECT k, count(*) AS c, sum(n) AS s, max(at) AS h FROM t GROUP BY k ORDER BY k",
                "SELECT n, count(*) AS c, count(k) AS k FROM t GROUP BY n ORDER BY n",
                "SELECT n, k, count(*) AS c FROM t GROUP BY n, k ORDER BY n, k",
                "SELECT k, date_trunc('month', at) AS m, count(*) AS c FROM t GROUP BY 1, 2 ORDER BY 1, 2",
                "SELECT date_trunc('month', at) AS m, count(*) AS c, avg(n) AS a FROM t GROUP BY 1 ORDER BY 1",
                "SELECT count(*) AS c, sum(n) AS s, min(at) AS l FROM t",
            ] {
                let never = ask_mode(&url, index, "never", sql).await.unwrap();
                let always = ask_mode(&url, index, "always", sql).await;
                let always = always.unwrap_or_else(|e| panic!("{url} {index} {sql}: {e}"));
                assert_eq!(always.rows, never.rows, "{url} {index} {sql}");
                assert_eq!((always.aggregated, always.pages), (always.slices, 0), "{url} {index} {sql}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detection_is_one_scan_and_the_same_with_each_option() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        remake(&connection, "agg_detect", 3, "ip").await;
        let proxy = Proxy::start(&url, |_| Fault::None).await.unwrap();
        let config = format!("[connections.prod]\nnodes = [\"{}\"]\n", proxy.url);
        let cluster = Cluster::start(2, 2, &config).await.unwrap();
        let file = cluster.folder.path().join("flowsigma.toml");
        let (file, scheduler) = (file.to_str().unwrap(), cluster.scheduler_url.as_str());
        let mut first: Option<Value> = None;
        for cluster in [&[][..], &["--scheduler", scheduler]] {
            for mode in MODES {
                let option = format!("aggregate={mode}");
                let before = proxy.seen().len();
                let to = ["--config", file, "--connection", "prod", "--index", "agg_detect"];
                let what = ["detect", "--format", "json", "--query", NOTEBOOK_QUERY, "--option", &option];
                let output = flowsigma(&[&what[..], &to, cluster].concat());
                assert!(output.status.success(), "{url} {mode} {cluster:?}: {}", stderr(&output));
                let mut response: Value = serde_json::from_slice(&output.stdout).unwrap();
                let how = format!("{url} {mode} {cluster:?}");
                assert_golden(&response, &how);
                let seen = proxy.seen().split_off(before);
                let bodies = seen.iter().filter(|seen| seen.page.is_some());
                let bodies: Vec<Value> =
                    bodies.map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect();
                let beginnings =
                    bodies.iter().filter(|body| body["size"] != 0 && body.get("search_after").is_none());
                let grouped = seen.iter().filter(|seen| is_grouping(seen)).count();
                // Each slice is read once, or aggregated once.
                let expected = if mode == "never" { (3, 0) } else { (0, 3) };
                assert_eq!((beginnings.count(), grouped), expected, "{how}");
                assert_eq!(response["coverage"]["slices"], 3, "{how}");
                response
                    .as_object_mut()
                    .unwrap()
                    .retain(|key, _| ["findings", "statistics"].contains(&key.as_str()));
                assert_eq!(first.get_or_insert_with(|| response.clone()), &response, "{how}");
            }
        }
        assert_nothing_open(&connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_document_gives_the_rows_of_a_scan() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        let properties = json!({ "k": { "type": "keyword" }, "n": { "type": "long" } });
        make(&connection, "agg_none", properties, &[json!({ "k": "a", "n": 1 })]).await;
        for sql in [
            "SELECT count(*) AS c, sum(n) AS s, avg(n) AS a FROM t WHERE k = 'b'",
            "SELECT k, count(*) AS c FROM t WHERE k = 'b' GROUP BY k",
            "SELECT k, n, count(*) AS c FROM t WHERE k = 'b' GROUP BY k, n",
            "SELECT k, count(*) AS c, avg(n) AS a FROM t WHERE k = 'b' GROUP BY GROUPING SETS ((k), ())",
        ] {
            let never = ask_mode(&url, "agg_none", "never", sql).await.unwrap();
            let always = ask_mode(&url, "agg_none", "always", sql).await.unwrap();
            assert!(always.is_pushed(), "{url} {sql}\n{}", always.plan);
            assert_eq!((always.rows, always.aggregated), (never.rows, 1), "{url} {sql}");
        }
    }
}
