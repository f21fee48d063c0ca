//! Tables over indices: which clauses they take, and what two of them share in one statement.

use crate::golden::{alone, assert_nothing_open, options, registry, remake, servers};
use ballista_elasticsearch::{Cluster, Job};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{EsTable, open_contexts};
use elastic_client::ConnectionRegistry;
use flowsigma_tests::cluster::embedded_context;
use flowsigma_tests::golden::count_open_contexts;
use flowsigma_tests::proxy::{Fault, Proxy, Seen};
use futures::TryStreamExt;
use std::sync::Arc;

async fn register(
    registry: &Arc<ConnectionRegistry>,
    ctx: &SessionContext,
    name: &str,
    with: &[(&str, &str)],
) {
    let table = EsTable::try_new(Arc::clone(registry), "test", "shared", &options(with)).await.unwrap();
    ctx.register_table(name, Arc::new(table)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_over_one_index_read_one_state_in_slices_of_their_own() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "shared", 3, "keyword").await;
        let cluster = Cluster::embedded(Arc::clone(&registry)).await.unwrap();
        let ctx = cluster.context();
        register(&registry, ctx, "by_shard", &[]).await;
        register(&registry, ctx, "eight", &[("slices", "8"), ("keep_alive", "2m")]).await;
        register(&registry, ctx, "counted", &[("docs_per_slice", "300"), ("read", "pit")]).await;
        register(&registry, ctx, "scrolled", &[("read", "scroll")]).await;
        let each = ["by_shard", "eight", "counted"].map(|table| {
            format!("(SELECT count(*) FROM {table} WHERE src_addr_space = 'private') AS {table}")
        });
        let sql = format!("SELECT {}", each.join(", "));
        let plan = ctx.state().create_logical_plan(&sql).await.unwrap();
        let before = count_open_contexts(&connection).await.unwrap();
        let (plan, open) = open_contexts(plan).await.unwrap();
        // One of each shard.
        assert_eq!(count_open_contexts(&connection).await.unwrap(), before + 3, "{url}");
        assert_eq!(open.reads(), 3 + 8 + 6, "{url}");
        let (job, rows) = Job::submit(&cluster, plan).await.unwrap();
        let rows = rows.try_collect::<Vec<_>>().await.unwrap();
        open.close().await.unwrap();
        let shown = pretty_format_batches(&rows).unwrap().to_string();
        assert!(shown.contains("| 920      | 920   | 920     |"), "{url}: {shown}");
        // What the scheduler's plan says that there is, and what executors say that they have read.
        assert_eq!(job.slices(), 17, "{url}");
        let mut slices: Vec<(u64, u64)> =
            job.scans().await.unwrap().iter().map(|scan| (scan.slices, scan.slices_read)).collect();
        slices.sort_unstable();
        assert_eq!(slices, [(3, 3), (6, 6), (8, 8)], "{url}");
        let sql = "SELECT count(*) FROM by_shard, scrolled";
        let plan = ctx.state().create_logical_plan(sql).await.unwrap();
        let error = open_contexts(plan).await.expect_err(sql).to_string();
        assert!(error.contains("over index \"shared\" read two states of it"), "{url}: {error}");
        assert_nothing_open(&connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_contexts_of_one_statement_are_opened_at_once() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        for index in ["opened_a", "opened_b"] {
            remake(&connection, index, 1, "keyword").await;
        }
        let opens = |seen: &Seen| seen.path.contains("_pit") || seen.path.contains("point_in_time");
        let rule = move |seen: &Seen| match seen.method == "POST" && opens(seen) {
            true => Fault::Hold,
            false => Fault::None,
        };
        let proxy = Proxy::start(&url, rule).await.unwrap();
        let registry = registry(&proxy.url);
        let ctx = SessionContext::new();
        for index in ["opened_a", "opened_b"] {
            let table = EsTable::try_new(Arc::clone(&registry), "test", index, &options(&[])).await.unwrap();
            ctx.register_table(index, Arc::new(table)).unwrap();
        }
        let sql = "SELECT (SELECT count(*) FROM opened_a) AS a, (SELECT count(*) FROM opened_b) AS b";
        let plan = ctx.state().create_logical_plan(sql).await.unwrap();
        let opening = tokio::spawn(open_contexts(plan));
        proxy.wait_for_held(2).await.unwrap();
        proxy.release();
        let (_, open) = opening.await.unwrap().unwrap();
        assert_eq!((open.reads(), open.slices()), (2, 2), "{url}");
        open.close().await.unwrap();
        assert_nothing_open(&connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clauses_that_an_index_cannot_have_are_errors() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "shared", 1, "keyword").await;
        remake(&connection, "other", 2, "ip").await;
        let ctx = embedded_context(Arc::clone(&registry)).await.unwrap();
        let location = "LOCATION 'elasticsearch://test/shared'";
        let stored = "STORED AS ELASTICSEARCH";
        for (sql, said) in [
            (
                format!("CREATE EXTERNAL TABLE t (n BIGINT) {stored} {location}"),
                "cannot have a list of columns",
            ),
            (
                format!("CREATE EXTERNAL TABLE t (n BIGINT, PRIMARY KEY (n)) {stored} {location}"),
                "cannot have",
            ),
            (
                format!("CREATE EXTERNAL TABLE t {stored} PARTITIONED BY (src_addr_space) {location}"),
                "PARTITIONED BY",
            ),
            (format!("CREATE UNBOUNDED EXTERNAL TABLE t {stored} {location}"), "cannot have UNBOUNDED"),
            (
                format!("CREATE EXTERNAL TEMPORARY TABLE t {stored} {location}"),
                "Temporary tables not supported",
            ),
            (format!("CREATE EXTERNAL TABLE t (n BIGINT) {stored} WITH ORDER (n) {location}"), "cannot have"),
        ] {
            let error = ctx.sql(&sql).await.expect_err(&sql).to_string();
            assert!(error.contains(said), "{sql}: {error}");
            assert!(!ctx.table_exist("t").unwrap(), "{sql}");
        }
        let create = |clauses: &str, index: &str| {
            let table = if clauses == "IF NOT EXISTS" { "TABLE IF NOT EXISTS" } else { "TABLE" };
            let replace = if clauses == "OR REPLACE" { "OR REPLACE " } else { "" };
            format!("CREATE {replace}EXTERNAL {table} t {stored} LOCATION 'elasticsearch://test/{index}'")
        };
        let index = async || {
            let provider = ctx.table_provider("t").await.unwrap();
            let table = (provider.as_ref() as &dyn std::any::Any).downcast_ref::<EsTable>().unwrap();
            table.spec().index.clone()
        };
        ctx.sql(&create("", "shared")).await.unwrap();
        let error = ctx.sql(&create("", "other")).await.expect_err("twice").to_string();
        assert!(error.contains("already exists"), "{error}");
        ctx.sql(&create("IF NOT EXISTS", "other")).await.unwrap();
        assert_eq!(index().await, "shared");
        ctx.sql(&create("OR REPLACE", "other")).await.unwrap();
        assert_eq!(index().await, "other");
    }
}
