//! The same exact answer on clusters of every shape, by every planner, in any number of slices.

use crate::golden::{
    alone, assert_golden, assert_nothing_open, count, detect, in_all_ways, loaded, options, registry, remake,
    run, servers,
};
use ballista_elasticsearch::Job;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::error::Result;
use datafusion_elasticsearch::{EsTable, open_contexts};
use flow_detect::{DetectSpec, counts_by_join_sql, counts_sql, plan_sql};
use flowsigma_node::Config;
use flowsigma_tests::cluster::{Cluster, Shape, remote_context};
use flowsigma_tests::golden::{NOTEBOOK_QUERY, load};
use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Executors, and vcores of each.
const SHAPES: [(usize, usize); 6] = [(1, 1), (1, 2), (1, 8), (2, 1), (2, 2), (2, 8)];
/// Whether the planner is adaptive, and how many partitions a task has at most.
const PLANNERS: [(&str, &str); 4] = [("true", "0"), ("true", "1"), ("false", "0"), ("false", "1")];
const SLICES: [&str; 3] = ["1", "3", "8"];

/// Each shape with each planner, and each of both with each number of slices; all three together in all ways.
#[tokio::test(flavor = "multi_thread")]
async fn counts_are_exact_on_clusters_of_every_shape() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        let mut all = 0;
        for (index, shards) in [("many_a", 3), ("many_b", 2), ("many_c", 1)] {
            remake(&connection, index, shards, "keyword").await;
            all += loaded();
        }
        let config = format!("[connections.test]\nnodes = [\"{url}\"]\n");
        for (at, (executors, vcores)) in SHAPES.into_iter().enumerate() {
            let cluster = Cluster::start(executors, vcores, &config).await.unwrap();
            let ctx = remote_context(Arc::clone(&registry), &cluster.scheduler_url).await.unwrap();
            for (planner, (adaptive, per_task)) in PLANNERS.into_iter().enumerate() {
                for set in [
                    format!("SET ballista.planner.adaptive.enabled = {adaptive}"),
                    format!("SET ballista.scheduler.max_partitions_per_task = {per_task}"),
                ] {
                    ctx.sql(&set).await.unwrap().collect().await.unwrap();
                }
                let chosen = (at + planner) % SLICES.len();
                for slices in if in_all_ways() { &SLICES[..] } else { &SLICES[chosen..=chosen] } {
                    let how = format!("{url} {executors}x{vcores} {adaptive} {per_task} {slices}");
                    let with = [("slices", *slices), ("page_size", "50")];
                    for (index, rows) in [("many_a", loaded()), ("many_*", all)] {
                        let options = options(&with);
                        let table = EsTable::try_new(Arc::clone(&registry), "test", index, &options);
                        ctx.deregister_table("t").unwrap();
                        ctx.register_table("t", Arc::new(table.await.unwrap())).unwrap();
                        // By the server's word, and by reading every row in small pages.
                        for counted in ["*", "src_addr_space"] {
                            let sql = format!("SELECT count({counted}) FROM t");
                            assert_eq!(count(&ctx, &sql).await.unwrap(), rows, "{how} {index} {sql}");
                        }
                    }
                    let with = [("query", NOTEBOOK_QUERY), ("slices", slices), ("page_size", "50")];
                    assert_golden(&detect(&ctx, &registry, "many_a", &with).await, &how);
                }
            }
        }
        assert_nothing_open(&connection).await;
    }
}

/// The first rows and the counts of each slice are asked of the server by executors, which are given
/// their tasks one by one or several at a time.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_the_server_is_exact_however_tasks_are_given_out() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        for (index, shards) in [("asked_a", 3), ("asked_b", 2)] {
            remake(&connection, index, shards, "keyword").await;
        }
        let config = format!("[connections.test]\nnodes = [\"{url}\"]\n");
        for policy in ["pull-staged", "push-staged"] {
            let cluster = Cluster::start_as(Shape {
                scheduler: &config,
                executors: &[&config, &config],
                vcores: 2,
                scheduler_args: &["--scheduler-policy", policy],
                executor_args: &["--task-scheduling-policy", policy],
                allow_anyone: policy == "push-staged",
                ..Shape::default()
            })
            .await
            .unwrap();
            let config = Config::default();
            let remote = ballista_elasticsearch::Cluster::remote(
                Arc::clone(&registry),
                &config,
                &cluster.scheduler_url,
            );
            let remote = remote.await.unwrap();
            let ctx = remote.context();
            ctx.sql("SET ballista.scheduler.max_partitions_per_task = 1")
                .await
                .unwrap()
                .collect()
                .await
                .unwrap();
            for (table, pushdown) in [("t", "true"), ("unpushed", "false")] {
                let with = options(&[("slices", "8"), ("page_size", "50"), ("pushdown", pushdown)]);
                let es = EsTable::try_new(Arc::clone(&registry), "test", "asked_*", &with).await.unwrap();
                ctx.register_table(table, Arc::new(es)).unwrap();
            }
            let keys = r#""netflow.ipv4_src_addr", "@timestamp""#;
            let private = "src_addr_space = 'private'";
            // 8 slices or some more, for each shard has as many as any other of its index.
            let first = 7 * 13;
            for (sql, most) in [
                ("SELECT count(*) AS n FROM t".to_owned(), 2 * loaded() as u64),
                (r#"SELECT count("netflow.ipv4_src_addr") AS n FROM t"#.to_owned(), 2 * loaded() as u64),
                (format!("SELECT {keys} FROM t ORDER BY {keys} LIMIT 7"), first),
                (format!("SELECT {keys} FROM t WHERE {private} ORDER BY {keys} DESC LIMIT 7"), first),
                ("SELECT count(*) AS n FROM t WHERE match(src_addr_space, 'private')".to_owned(), 2 * 920),
            ] {
                let how = format!("{url} {policy} {sql}");
                let (rows, read) = submitted(&remote, &sql).await.unwrap_or_else(|e| panic!("{how}: {e}"));
                let unpushed = sql.replace("FROM t", "FROM unpushed");
                let (expected, _) =
                    submitted(&remote, &unpushed).await.unwrap_or_else(|e| panic!("{how}: {e}"));
                assert_eq!(rows, expected, "{how}");
                assert!(read > 0 && read <= most, "{how}: {read} documents read");
            }
        }
        assert_nothing_open(&connection).await;
    }
}

/// The rows as text, and how many documents were read for them.
async fn submitted(cluster: &ballista_elasticsearch::Cluster, sql: &str) -> Result<(String, u64)> {
    let plan = cluster.context().state().create_logical_plan(sql).await?;
    let (plan, open) = open_contexts(plan).await?;
    let (job, rows) = Job::submit(cluster, plan).await?;
    let rows = rows.try_collect::<Vec<_>>().await;
    open.close().await?;
    let read = job.scans().await?.iter().map(|scan| scan.documents).sum();
    Ok((pretty_format_batches(&rows?)?.to_string(), read))
}

/// Random flows between few addresses, of which some only send and some only receive.
fn random_flows(seed: u64) -> Vec<Value> {
    let mut rng = StdRng::seed_from_u64(seed);
    let flows = (0..3_000).map(|i| {
        let source = rng.random_range(0..40u32).pow(2) / 40;
        let destination = 20 + rng.random_range(0..60u32).pow(3) / 3600;
        let mut netflow = json!({});
        // A flow may lack either address.
        if i % 17 != 0 {
            netflow["ipv4_src_addr"] = json!(format!("10.0.0.{source}"));
        }
        if i % 23 != 0 {
            netflow["ipv4_dst_addr"] = json!(format!("10.0.0.{destination}"));
        }
        json!({ "@timestamp": 1_767_265_200_000i64 + i64::from(i), "netflow": netflow })
    });
    flows.collect()
}

/// Outgoing and incoming, by address.
type Counts = BTreeMap<String, [i64; 2]>;

/// What the statement computes, without any of its means: counts, then the exact decision in
/// integers, by the definition of the standard deviation.
fn computed_here(flows: &[Value]) -> (Counts, Vec<(String, usize)>) {
    let mut counts: Counts = BTreeMap::new();
    for flow in flows {
        for (side, field) in ["ipv4_src_addr", "ipv4_dst_addr"].into_iter().enumerate() {
            if let Some(address) = flow["netflow"][field].as_str() {
                counts.entry(address.to_owned()).or_default()[side] += 1;
            }
        }
    }
    let n = counts.len() as i128;
    let mut found = Vec::new();
    for side in 0..2 {
        let sum: i128 = counts.values().map(|c| i128::from(c[side])).sum();
        // Sum of squared deviations times n, each deviation times n: n³ times the variance.
        let spread: i128 = counts.values().map(|c| (n * i128::from(c[side]) - sum).pow(2)).sum();
        for (address, c) in &counts {
            let deviation = n * i128::from(c[side]) - sum;
            if c[side] > 0 && deviation > 0 && deviation.pow(2) * n > 4 * spread {
                found.push((address.clone(), side));
            }
        }
    }
    (counts, found)
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_runs_on_two_executors_agree_to_the_bit_and_with_another_computation() {
    for (seed, url) in servers().iter().enumerate() {
        let _alone = alone(url).await;
        let registry = registry(url);
        let connection = registry.get("test").unwrap();
        let flows = random_flows(seed as u64);
        remake(&connection, "random", 1, "keyword").await;
        let delete = elastic_client::Request::new(elastic_client::Method::Delete, "/random", "delete");
        connection.send(&delete).await.unwrap();
        load(&connection, "random", 5, "ip", &flows).await.unwrap();
        let config = format!("[connections.test]\nnodes = [\"{url}\"]\n");
        let cluster = Cluster::start(2, 2, &config).await.unwrap();
        let ctx = remote_context(Arc::clone(&registry), &cluster.scheduler_url).await.unwrap();
        let options = options(&[("page_size", "97")]);
        let table = EsTable::try_new(Arc::clone(&registry), "test", "random", &options).await.unwrap();
        ctx.register_table("flows", Arc::new(table)).unwrap();
        let spec = DetectSpec {
            table: "flows".into(),
            time_field: "@timestamp".into(),
            source_field: "netflow.ipv4_src_addr".into(),
            destination_field: "netflow.ipv4_dst_addr".into(),
            since: None,
            until: None,
            filter: None,
            sigma: "2".parse().unwrap(),
        };
        let (counts, found) = computed_here(&flows);
        for sql in [counts_sql(&spec), counts_by_join_sql(&spec)] {
            let mut response = BTreeMap::new();
            for batch in run(&ctx, &sql).await.unwrap() {
                let text = datafusion::arrow::compute::cast(
                    batch.column(0),
                    &datafusion::arrow::datatypes::DataType::Utf8,
                );
                let text = text.unwrap();
                for row in 0..batch.num_rows() {
                    let number = |i: usize| batch.column(i).as_primitive::<Int64Type>().value(row);
                    let address = text.as_string::<i32>().value(row).to_owned();
                    assert_eq!(response.insert(address, [number(1), number(2)]), None, "{url}");
                }
            }
            assert_eq!(response, counts, "{url} {sql}");
        }
        let mut first: Option<String> = None;
        for round in 0..20 {
            let detection = flow_detect::read_detection(&run(&ctx, &plan_sql(&spec)).await.unwrap()).unwrap();
            let findings: Vec<(String, usize)> =
                detection.findings.iter().map(|f| (f.address.clone(), f.direction as usize)).collect();
            let mut sorted = findings.clone();
            sorted.sort();
            let mut expected = found.clone();
            expected.sort();
            assert_eq!(sorted, expected, "{url}");
            assert!(!found.is_empty(), "nothing stands out, so nothing is shown");
            // The shortest text that reads back as the same float: equal texts are equal bits.
            let text = serde_json::to_string(&detection).unwrap();
            assert_eq!(first.get_or_insert_with(|| text.clone()), &text, "{url} round {round}");
        }
        assert_nothing_open(&connection).await;
    }
}
