//! Columns of type `ip` compare as addresses, in whatever process they are compared.

use crate::golden::{alone, assert_nothing_open, options, registry, servers};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::error::Result;
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{EsTable, open_contexts};
use elastic_client::{Connection, Method, Request};
use flowsigma_tests::cluster::{Cluster, embedded_context, remote_context};
use flowsigma_tests::golden::load;
use serde_json::{Value, json};
use std::sync::Arc;

/// In the order of servers, `n` of each being its place: IPv4 addresses are IPv6 addresses of `::ffff:0:0/96`.
const ADDRESSES: [&str; 12] = [
    "::",
    "::1",
    "::a00:1",
    "2.0.0.1",
    "10.0.0.2",
    "10.0.0.10",
    "147.32.80.9",
    "147.32.84.165",
    "200.0.0.1",
    "2001:db8::2",
    "2001:db8:0:1::",
    "fe80::1:0:0:1",
];

fn documents() -> Vec<Value> {
    let spelled = |n: usize| match n {
        4 => "::ffff:10.0.0.2".to_owned(),
        9 => "2001:0DB8:0:0:0::2".to_owned(),
        _ => ADDRESSES[n].to_owned(),
    };
    let one = |n: usize| {
        let flow = json!({ "ipv4_src_addr": spelled(n), "ipv4_dst_addr": spelled(11 - n), "bytes": n });
        json!({ "@timestamp": 0, "src_addr_space": ADDRESSES[n], "netflow": flow })
    };
    // The last one has no address.
    (0..ADDRESSES.len()).map(one).chain([json!({ "@timestamp": 0, "netflow": { "bytes": 12 } })]).collect()
}

async fn remake(connection: &Connection, index: &str) {
    let delete = Request::new(Method::Delete, format!("/{index}"), "delete a test index");
    connection.send(&delete.with_param("ignore_unavailable", "true")).await.unwrap();
    load(connection, index, 3, "ip", &documents()).await.unwrap();
}

async fn ask(ctx: &SessionContext, sql: &str) -> Result<String> {
    let (plan, open) = open_contexts(ctx.state().create_logical_plan(sql).await?).await?;
    let rows = async { ctx.execute_logical_plan(plan).await?.collect().await }.await;
    open.close().await?;
    let table = pretty_format_batches(&rows?)?.to_string();
    let rows = table.lines().skip(3).filter(|line| line.starts_with('|'));
    let cells = |row: &str| {
        let cells = row.trim_matches('|').split('|').map(str::trim);
        cells.collect::<Vec<_>>().join(" ")
    };
    Ok(rows.map(cells).collect::<Vec<_>>().join(", "))
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_compare_as_addresses_on_every_node() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "addresses").await;
        let config = format!("[connections.test]\nnodes = [\"{url}\"]\n");
        let cluster = Cluster::start(2, 1, &config).await.unwrap();
        for (embedded, pushdown) in [(true, "true"), (false, "true"), (false, "false")] {
            let ctx = match embedded {
                true => embedded_context(Arc::clone(&registry)).await.unwrap(),
                false => remote_context(Arc::clone(&registry), &cluster.scheduler_url).await.unwrap(),
            };
            let with = options(&[("pushdown", pushdown)]);
            let table = EsTable::try_new(Arc::clone(&registry), "test", "addresses", &with).await.unwrap();
            ctx.register_table("t", Arc::new(table)).unwrap();
            let view = "CREATE VIEW v AS SELECT \"netflow.ipv4_src_addr\" AS src, src_addr_space AS text, \
                        \"netflow.ipv4_dst_addr\" AS dst, \"netflow.bytes\" AS n FROM t";
            ctx.sql(view).await.unwrap();
            let how = format!("{url} embedded {embedded} pushdown {pushdown}");
            for (sql, expected) in [
                ("SELECT count(*) FROM v WHERE src BETWEEN '147.32.0.0' AND '147.32.255.255'", "2"),
                ("SELECT count(*) FROM v WHERE cidr(src, '147.32.0.0/16')", "2"),
                ("SELECT count(*) FROM v WHERE src < '10.0.0.10' AND dst >= '::1'", "5"),
                ("SELECT count(*) FROM v WHERE NOT src <= '::ffff:10.0.0.10'", "6"),
                (
                    "SELECT n FROM v WHERE src = '2001:0db8:0::2' OR src = '::ffff:10.0.0.2' ORDER BY n",
                    "4, 9",
                ),
                ("SELECT count(*) FROM v WHERE src <> '::ffff:10.0.0.2'", "11"),
                ("SELECT count(*) FROM v WHERE src > dst", "6"),
                // The texts of the documents are the canonical ones.
                ("SELECT count(*) FROM v WHERE src = text", "12"),
                ("SELECT n FROM v ORDER BY src", "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12"),
                (
                    "SELECT src, n FROM v WHERE n > 1 ORDER BY src DESC NULLS LAST LIMIT 2",
                    "fe80::1:0:0:1 11, 2001:db8:0:1:: 10",
                ),
                ("SELECT min(src), max(src) FROM v WHERE n > 2", "2.0.0.1 fe80::1:0:0:1"),
                (
                    "SELECT n % 2 AS odd, max(src) AS most FROM v WHERE n < 9 GROUP BY 1 HAVING max(src) > '147.32.80.9' ORDER BY most DESC",
                    "0 200.0.0.1, 1 147.32.84.165",
                ),
                (
                    "SELECT n FROM (SELECT n, max(src) OVER (ORDER BY n) AS most, src FROM v WHERE n < 12) WHERE most <> src",
                    "",
                ),
                (
                    "WITH c AS (SELECT src AS a, count(*) AS c FROM v GROUP BY src) SELECT a, c FROM c WHERE a >= '2.0.0.1' ORDER BY a LIMIT 2",
                    "2.0.0.1 1, 10.0.0.2 1",
                ),
                ("SELECT count(*) FROM v AS a JOIN v AS b ON a.src = b.dst WHERE a.src < '10.0.0.2'", "4"),
                ("SELECT count(*) FROM v WHERE src < (SELECT max(dst) FROM v WHERE dst < '10.0.0.10')", "4"),
            ] {
                let rows = ask(&ctx, sql).await.unwrap_or_else(|e| panic!("{how}: {sql}: {e}"));
                assert_eq!(rows, expected, "{how}: {sql}");
            }
            for (condition, said) in [
                ("src = '10.0.0.0/8'", "write cidr(\"src\", '10.0.0.0/8')"),
                ("src IN ('10.0.0.1', '10.0.0.0/8')", "write cidr(\"src\", '10.0.0.0/8')"),
                ("src > 'nothing'", "\"nothing\", which is no address"),
            ] {
                let error = ask(&ctx, &format!("SELECT n FROM v WHERE {condition}")).await;
                let error = error.expect_err(condition).to_string();
                assert!(error.contains(said), "{how}: {condition}: {error}");
            }
        }
        assert_nothing_open(&connection).await;
    }
}
