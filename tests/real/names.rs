//! A name reads what the server says it holds: aliases with filters, aliases with routing, samples.

use crate::golden::{alone, assert_nothing_open, count, options, registry, remake, servers};
use datafusion::arrow::array::AsArray;
use datafusion::error::Result;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{EsTable, open_contexts};
use elastic_client::{Connection, ConnectionRegistry, Method, Request};
use flowsigma_tests::cluster::embedded_context;
use serde_json::json;
use std::sync::Arc;

/// What the server itself counts behind a name.
async fn server_count(connection: &Connection, name: &str) -> i64 {
    let ask = Request::new(Method::Get, format!("/{name}/_count"), "count");
    connection.send(&ask).await.unwrap().json("count").unwrap()["count"].as_i64().unwrap()
}

async fn try_count(
    ctx: &SessionContext,
    registry: &Arc<ConnectionRegistry>,
    name: &str,
    with: &[(&str, &str)],
    condition: &str,
) -> Result<i64> {
    let table = EsTable::try_new(Arc::clone(registry), "test", name, &options(with)).await?;
    ctx.deregister_table("t")?;
    ctx.register_table("t", Arc::new(table))?;
    let counted = count(ctx, &format!("SELECT count(*) FROM t {condition}")).await?;
    // Every document has this field: by reading there are as many as the server counts.
    let read = count(ctx, &format!("SELECT count(src_addr_space) FROM t {condition}")).await?;
    assert_eq!(counted, read, "{name} {with:?} {condition}");
    Ok(read)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_reads_neither_more_nor_less_than_the_server_counts() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "named", 3, "keyword").await;
        let filter = json!({ "term": { "src_addr_space": "private" } });
        let actions = json!({ "actions": [
            { "add": { "index": "named", "alias": "filtered", "filter": filter } },
            { "add": { "index": "named", "alias": "routed", "routing": "1" } },
        ] });
        let add = Request::new(Method::Post, "/_aliases", "make aliases").with_body(&actions);
        connection.send(&add).await.unwrap();
        let ctx = embedded_context(Arc::clone(&registry)).await.unwrap();
        for read in ["scroll", "pit"] {
            let how = format!("{url} {read}");
            let with = [("read", read), ("page_size", "50"), ("slices", "4")];
            let filtered = try_count(&ctx, &registry, "filtered", &with, "").await.unwrap();
            let expected = server_count(&connection, "filtered").await;
            assert!(expected > 0 && expected < server_count(&connection, "named").await);
            assert_eq!(filtered, expected, "{how}");
            // Routing reaches one shard of three: exactly that one, or an error that says so.
            match try_count(&ctx, &registry, "routed", &with, "").await {
                Ok(rows) => assert_eq!(rows, server_count(&connection, "routed").await, "{how}"),
                Err(e) => assert!(e.to_string().contains("routing"), "{how}: {e}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_is_a_share_repeats_by_its_seed_and_keeps_under_a_filter() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "sampled", 3, "keyword").await;
        let all = server_count(&connection, "sampled").await;
        let ctx = embedded_context(Arc::clone(&registry)).await.unwrap();
        let mut by_seed = Vec::new();
        for seed in ["1", "2"] {
            let mut seen = Vec::new();
            for read in ["pit", "scroll"] {
                let with = [("sample", "0.2"), ("seed", seed), ("read", read), ("page_size", "50")];
                let pushed = "WHERE src_addr_space IS NOT NULL";
                for condition in ["", pushed, ""] {
                    seen.push(try_count(&ctx, &registry, "sampled", &with, condition).await.unwrap());
                }
            }
            let first = seen[0];
            assert!(seen.iter().all(|n| *n == first), "{url} seed {seed}: {seen:?}");
            // 20% of 1,730 with a standard deviation of 16.6: five of them either side.
            assert!((first - all / 5).abs() < 84, "{url} seed {seed}: {first} of {all}");
            by_seed.push(first);
        }
        let whole = try_count(&ctx, &registry, "sampled", &[("sample", "1")], "").await.unwrap();
        assert_eq!(whole, all, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_follow_from_how_many_documents_each_is_to_have() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "sliced", 2, "keyword").await;
        let all = server_count(&connection, "sliced").await;
        for (most, slices) in [("300", all.unsigned_abs().div_ceil(300)), ("1000000", 2)] {
            let with = options(&[("es.input.max.docs.per.partition", most)]);
            let table = EsTable::try_new(Arc::clone(&registry), "test", "sliced", &with).await.unwrap();
            let ctx = SessionContext::new();
            ctx.register_table("t", Arc::new(table)).unwrap();
            let plan = ctx.sql("SELECT src_addr_space FROM t").await.unwrap().into_unoptimized_plan();
            let (plan, open) = open_contexts(plan).await.unwrap();
            assert_eq!(open.slices() as u64, slices, "{url}: {most}");
            let rows = ctx.execute_logical_plan(plan).await.unwrap().count().await.unwrap();
            assert_eq!(rows as i64, all, "{url}: {most}");
            open.close().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_source_is_a_column_on_request() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "whole", 1, "keyword").await;
        let with = options(&[("metadata", "_id,_source")]);
        let table = EsTable::try_new(Arc::clone(&registry), "test", "whole", &with).await.unwrap();
        let ctx = SessionContext::new();
        ctx.register_table("t", Arc::new(table)).unwrap();
        let sql = "SELECT _source FROM t WHERE _id = 'flow-0'";
        let plan = ctx.state().create_logical_plan(sql).await.unwrap();
        let (plan, open) = open_contexts(plan).await.unwrap();
        let rows = ctx.execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
        open.close().await.unwrap();
        let source: serde_json::Value =
            serde_json::from_str(rows[0].column(0).as_string::<i32>().value(0)).unwrap();
        let get = Request::new(Method::Get, "/whole/_doc/flow-0", "get a document");
        let document = connection.send(&get).await.unwrap().json("get a document").unwrap();
        assert_eq!(source, document["_source"], "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_reads_few_rows_unless_a_filter_is_applied_after_it() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "limited", 3, "keyword").await;
        for read in ["pit", "scroll"] {
            let how = format!("{url} {read}");
            // Whether a list is null is known by the server alone only where nothing is left out.
            let list = [("arrays", "dst_addr_space"), ("ignored", "null")];
            let with = options(&[&[("read", read), ("page_size", "50")], &list[..]].concat());
            let table = EsTable::try_new(Arc::clone(&registry), "test", "limited", &with).await.unwrap();
            let ctx = SessionContext::new();
            ctx.register_table("t", Arc::new(table)).unwrap();
            let spaces = "src_addr_space = 'private'";
            for (condition, limit, rows, most) in [
                ("", 3, 3, 9),
                ("", 120, 120, 360),
                ("WHERE dst_addr_space IS NOT NULL", 3, 3, 9),
                (&format!("WHERE {spaces}"), 1000, 920, u64::MAX),
                ("", 5000, 1730, u64::MAX),
            ] {
                let sql = format!("SELECT src_addr_space FROM t {condition} LIMIT {limit}");
                let plan = ctx.state().create_logical_plan(&sql).await.unwrap();
                let (plan, open) = open_contexts(plan).await.unwrap();
                let plan =
                    ctx.execute_logical_plan(plan).await.unwrap().create_physical_plan().await.unwrap();
                let batches = collect(Arc::clone(&plan), ctx.task_ctx()).await.unwrap();
                open.close().await.unwrap();
                let found: usize = batches.iter().map(|b| b.num_rows()).sum();
                assert_eq!(found, rows, "{how} {sql}");
                let read = documents_read(&plan);
                assert!(read >= rows as u64 && read <= most, "{how} {sql}: {read} documents read");
            }
        }
        assert_nothing_open(&connection).await;
    }
}

/// What the scans of a plan read, by their metrics.
fn documents_read(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let own = plan.metrics().and_then(|m| m.sum_by_name("documents")).map_or(0, |m| m.as_usize() as u64);
    own + plan.children().into_iter().map(documents_read).sum::<u64>()
}
