//! Statements beside queries: the same on the embedded cluster and on one of processes.

use crate::command::{flowsigma, stderr, stdout};
use crate::golden::{alone, assert_nothing_open, registry, remake, servers};
use flowsigma_tests::cluster::Cluster;
use flowsigma_tests::golden::count_open_contexts;
use std::process::Output;

fn sql(cluster: Option<&Cluster>, statements: &str) -> Output {
    let scheduler = cluster.map(|cluster| ["--scheduler", cluster.scheduler_url.as_str()]);
    let scheduler = scheduler.as_ref().map_or(&[][..], |args| &args[..]);
    flowsigma(&[&["sql", "--format", "csv", "-c", statements], scheduler].concat())
}

/// What is printed by statements that must not fail.
fn printed(cluster: Option<&Cluster>, statements: &str) -> String {
    let output = sql(cluster, statements);
    assert!(output.status.success(), "{statements}: {}", stderr(&output));
    stdout(&output).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_has_an_effect() {
    let cluster = Cluster::start(2, 2, "").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for cluster in [None, Some(&cluster)] {
        // On the scheduler.
        for partitions in [3, 5] {
            let plan = printed(
                cluster,
                &format!(
                    "SET datafusion.execution.target_partitions = {partitions}; SET \
                     datafusion.optimizer.repartition_aggregations = true; \
                     EXPLAIN SELECT a, count(*) FROM (VALUES (1) UNION ALL VALUES (2)) v(a) GROUP BY a"
                ),
            );
            let cut = format!("Hash([a@0], {partitions})");
            assert!(plan.contains(&cut), "{}: {plan}", cluster.is_some());
        }
        // On executors.
        let to = folder.path().join(if cluster.is_some() { "on_a_cluster" } else { "embedded" });
        let statements = format!(
            "SET datafusion.execution.batch_size = 2; SET datafusion.execution.target_partitions = 1; \
             SET datafusion.execution.minimum_parallel_output_files = 1; \
             SET datafusion.execution.soft_max_rows_per_output_file = 2; \
             COPY (SELECT unnest([1, 2, 3, 4, 5, 6]) AS n) TO '{}' STORED AS CSV",
            to.display()
        );
        assert_eq!(printed(cluster, &statements), "count\n6\n");
        assert_eq!(std::fs::read_dir(&to).unwrap().count(), 3);
        assert_eq!(
            printed(cluster, "SET datafusion.execution.batch_size = 7; SHOW datafusion.execution.batch_size"),
            "name,value\ndatafusion.execution.batch_size,7\n"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_plans_are_described() {
    let cluster = Cluster::start(2, 2, "").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.csv");
    std::fs::write(&file, "a,b\n1,x\n2,y\n").unwrap();
    let table = format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{}'; ", file.display());
    for cluster in [None, Some(&cluster)] {
        let told = |statement: &str| printed(cluster, &format!("{table}{statement}"));
        assert_eq!(told("DESCRIBE t"), "column_name,data_type,is_nullable\na,Int64,YES\nb,Utf8,YES\n");
        assert!(told("SHOW COLUMNS FROM t").contains("public,t,b,Utf8,YES"));
        assert!(told("SHOW TABLES").contains("datafusion,public,t,BASE TABLE"));
        for (explain, contains) in [
            ("EXPLAIN", "physical_plan"),
            ("EXPLAIN ANALYZE", "output_rows=2"),
            ("EXPLAIN VERBOSE", "distributed_plan"),
            ("EXPLAIN FORMAT TREE", "DataSourceExec"),
            ("EXPLAIN FORMAT INDENT", "DataSourceExec: file_groups"),
        ] {
            let plan = told(&format!("{explain} SELECT * FROM t"));
            assert!(plan.contains(contains), "{explain}: {plan}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_on_a_cluster_says_so_before_anything_runs() {
    let cluster = Cluster::start(1, 2, "").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let insert = format!(
        "CREATE EXTERNAL TABLE t(a INT) STORED AS CSV LOCATION '{}/'; INSERT INTO t VALUES (1)",
        folder.path().display()
    );
    let recursive =
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT * FROM r";
    for cluster in [None, Some(&cluster)] {
        for (statements, said, code) in [
            (recursive, "\"r\" is a recursive query", 2),
            ("SELECT * FROM generate_series(1, 3)", "where executors cannot read it", 2),
            ("SELECT 1 WHERE 1 IN (SELECT value FROM range(1, 3))", "where executors cannot read it", 2),
            (&insert, "write COPY (SELECT …) TO a new folder", 2),
        ] {
            let output = sql(cluster, statements);
            assert_eq!(output.status.code(), Some(code), "{statements}: {}", stderr(&output));
            assert!(
                stderr(&output).starts_with("error: the statement cannot run on a cluster: "),
                "{}",
                stderr(&output)
            );
            assert!(stderr(&output).contains(said), "{statements}: {}", stderr(&output));
            assert!(!stderr(&output).contains("Internal"), "{}", stderr(&output));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_statement_prints_its_rows() {
    let cluster = Cluster::start(1, 2, "").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for cluster in [None, Some(&cluster)] {
        let rows = printed(
            cluster,
            "PREPARE p(INT, VARCHAR) AS SELECT n, $2 AS t FROM (VALUES (1), (2), (3)) v(n) WHERE n > $1 ORDER BY n; \
             EXECUTE p(1, 'x'); EXECUTE p(2, 'y'); DEALLOCATE p",
        );
        assert_eq!(rows, "n,t\n2,x\n3,x\nn,t\n3,y\n");
        let to = folder.path().join(if cluster.is_some() { "on_a_cluster" } else { "embedded" });
        let copy = format!(
            "PREPARE c AS SELECT 1 AS a; COPY (SELECT 1 AS a) TO '{}' STORED AS CSV; EXECUTE c",
            to.display()
        );
        assert_eq!(printed(cluster, &copy), "count\n1\na\n1\n");
        let missing = sql(cluster, "EXECUTE nothing");
        assert_eq!(missing.status.code(), Some(2), "{}", stderr(&missing));
        assert!(
            stderr(&missing).contains("Prepared statement 'nothing' does not exist"),
            "{}",
            stderr(&missing)
        );
    }
}

/// Under one context an execution, which the client opens, renews and closes.
#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_statement_reads_under_one_context_and_closes_it() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        remake(&connection, "prepared", 3, "keyword").await;
        let config = format!("[connections.prod]\nnodes = [\"{url}\"]\n");
        let cluster = Cluster::start(2, 2, &config).await.unwrap();
        let file = cluster.folder.path().join("flowsigma.toml");
        let before = count_open_contexts(&connection).await.unwrap();
        for scheduler in [&["--scheduler", cluster.scheduler_url.as_str()][..], &[]] {
            let statements = "CREATE EXTERNAL TABLE t STORED AS ELASTICSEARCH LOCATION 'elasticsearch://prod/prepared'; \
                 PREPARE p(VARCHAR) AS SELECT count(*) AS n FROM t a WHERE a.src_addr_space = $1; \
                 EXECUTE p('private'); EXECUTE p('nowhere')";
            let args = ["--config", file.to_str().unwrap(), "sql", "--format", "csv", "-c", statements];
            let output = flowsigma(&[&args[..], scheduler].concat());
            assert!(output.status.success(), "{}", stderr(&output));
            let (first, second) = stdout(&output).strip_prefix("n\n").unwrap().split_once("\nn\n").unwrap();
            assert!(first.parse::<u64>().unwrap() > 0, "{}", stdout(&output));
            assert_eq!(second, "0\n");
            assert_eq!(count_open_contexts(&connection).await.unwrap(), before, "{url}: left open");
        }
        assert_nothing_open(&connection).await;
    }
}
