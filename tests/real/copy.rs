//! `COPY … TO` on the embedded cluster and on one of two executors: DataFusion's bytes, exactly once.

use crate::command::{flowsigma, stderr, stdout};
use datafusion::prelude::SessionContext;
use flowsigma_tests::cluster::{Cluster, POLL_INTERVAL, Shape, binary};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs statements on a cluster, or on the embedded one.
fn sql(cluster: Option<&Cluster>, statements: &str) -> Output {
    let scheduler = cluster.map(|cluster| ["--scheduler", cluster.scheduler_url.as_str()]);
    let scheduler = scheduler.as_ref().map_or(&[][..], |args| &args[..]);
    flowsigma(&[&["sql", "--format", "csv", "-c", statements], scheduler].concat())
}

fn copied(cluster: Option<&Cluster>, statements: &str) -> u64 {
    let output = sql(cluster, statements);
    assert!(output.status.success(), "{statements}: {}", stderr(&output));
    stdout(&output).strip_prefix("count\n").unwrap().trim().parse().unwrap()
}

/// Files below a folder by their paths, without what names a COPY.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn add(found: &mut BTreeMap<PathBuf, Vec<u8>>, root: &Path, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(found, root, &path);
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap();
            let name = if name.find(['_', '.']) == Some(16) { &name[16..] } else { name };
            let key = path.parent().unwrap().strip_prefix(root).unwrap().join(name);
            assert_eq!(found.insert(key, std::fs::read(&path).unwrap()), None, "{}", path.display());
        }
    }
    let mut found = BTreeMap::new();
    add(&mut found, folder, folder);
    found
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// All kinds of values that formats write differently.
const ROWS: &str = "SELECT n, t, d, ts, f, b FROM (VALUES \
    (2, 'a;b,\"c\"', CAST('2026-01-02' AS DATE), CAST('2026-01-02T03:04:05.678' AS TIMESTAMP), 1.5, true), \
    (1, NULL, CAST(NULL AS DATE), CAST(NULL AS TIMESTAMP), CAST(NULL AS DOUBLE), CAST(NULL AS BOOLEAN)), \
    (3, ' x ', CAST('1969-12-31' AS DATE), CAST('1969-12-31T23:59:59' AS TIMESTAMP), -0.25, false)\
    ) AS v(n, t, d, ts, f, b)";

/// A file that ends with one of these, or a folder, and how it is written.
const COPIES: &[(&str, &str, &str)] = &[
    ("", "a.csv", "STORED AS CSV"),
    ("", "a.csv", "STORED AS CSV OPTIONS ('has_header' 'false', 'delimiter' ';', 'null_value' 'NIL')"),
    ("", "a.csv.gz", "STORED AS CSV OPTIONS ('compression' 'gzip', 'compression_level' '1')"),
    ("", "a.csv", "OPTIONS ('quote' '''', 'quote_style' 'Always', 'double_quote' 'false', 'escape' '\\')"),
    ("", "a.csv", "OPTIONS ('date_format' '%d.%m.%Y', 'timestamp_format' '%H:%M', 'format.null_value' '-')"),
    ("", "a.csv", "OPTIONS ('ignore_leading_whitespace' 'true', 'ignore_trailing_whitespace' 'true')"),
    ("SET datafusion.catalog.has_header = false;", "a.csv", ""),
    ("", "a.json", ""),
    ("", "a.json.zst", "STORED AS JSON OPTIONS ('compression' 'zstd')"),
    ("", "a.parquet", ""),
    (
        "",
        "a.parquet",
        "OPTIONS ('compression' 'snappy', 'metadata::made_by' 'us', 'max_row_group_size' '1', \
         'compression::t' 'gzip(4)', 'bloom_filter_enabled::n' 'true')",
    ),
    ("SET datafusion.execution.parquet.compression = 'uncompressed';", "a.parquet", ""),
    ("", "a.arrow", ""),
    ("", "out", "STORED AS CSV OPTIONS ('compression' 'gzip')"),
    ("", "out/", "STORED AS PARQUET PARTITIONED BY (t, b)"),
    (
        "",
        "out.d/",
        "STORED AS JSON PARTITIONED BY (n) OPTIONS ('execution.keep_partition_by_columns' 'true')",
    ),
    ("SET datafusion.execution.keep_partition_by_columns = true;", "out", "STORED AS CSV PARTITIONED BY (n)"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_the_bytes_that_datafusion_writes() {
    let cluster = Cluster::start(2, 2, "").await.unwrap();
    for rows in [ROWS.to_owned(), format!("{ROWS} ORDER BY n DESC")] {
        for (before, name, how) in COPIES {
            let copy = |folder: &Path| format!("COPY ({rows}) TO '{}/{name}' {how}", folder.display());
            let expected = tempfile::tempdir().unwrap();
            let plain = SessionContext::new();
            for statement in [before.trim_end_matches(';'), &copy(expected.path())] {
                if !statement.is_empty() {
                    plain.sql(statement).await.unwrap().collect().await.unwrap();
                }
            }
            for cluster in [None, Some(&cluster)] {
                let folder = tempfile::tempdir().unwrap();
                let statements = format!("{before}{}", copy(folder.path()));
                assert_eq!(copied(cluster, &statements), 3, "{statements}");
                let on = if cluster.is_some() { "on a cluster" } else { "embedded" };
                let (found, expected) = (files(folder.path()), files(expected.path()));
                let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
                assert_eq!(names(&found), names(&expected), "{on}: {statements}");
                for (name, bytes) in &expected {
                    let text = String::from_utf8_lossy(bytes);
                    let of = String::from_utf8_lossy(&found[name]);
                    assert!(found[name] == *bytes, "{on}: {statements}\n{of}\nexpected:\n{text}");
                }
            }
        }
    }
}

/// Rows that several tasks read are all written, in the order that is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_many_partitions_has_all_rows_in_their_order() {
    let cluster = Cluster::start(2, 2, "").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from");
    std::fs::create_dir(&from).unwrap();
    for file in 0..7 {
        let rows: String = (0..3000).map(|row| format!("{},{}\n", row * 7 + file, row % 5)).collect();
        std::fs::write(from.join(format!("{file}.csv")), format!("n,k\n{rows}")).unwrap();
    }
    let table = format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{}/'", from.display());
    let plain = SessionContext::new();
    plain.sql(&table).await.unwrap();
    for (i, (query, extension)) in [
        ("SELECT * FROM t ORDER BY n DESC", "csv"),
        ("SELECT * FROM t ORDER BY k, n", "parquet"),
        ("SELECT k, sum(n) AS s FROM t GROUP BY k ORDER BY s", "json"),
        ("SELECT a.n FROM t a JOIN t b ON a.n = b.n WHERE b.k = 3 ORDER BY a.n", "csv"),
    ]
    .into_iter()
    .enumerate()
    {
        let copy = |to: &Path| format!("COPY ({query}) TO '{}'", to.display());
        let expected = folder.path().join(format!("{i}.{extension}"));
        plain.sql(&copy(&expected)).await.unwrap().collect().await.unwrap();
        let expected = std::fs::read(expected).unwrap();
        for (on, cluster) in [("embedded", None), ("cluster", Some(&cluster))] {
            let to = folder.path().join(format!("{i}-{on}.{extension}"));
            copied(
                cluster,
                &format!("SET datafusion.execution.target_partitions = 4; {table}; {}", copy(&to)),
            );
            assert!(std::fs::read(to).unwrap() == expected, "{on}: {query}");
        }
    }
    let to = folder.path().join("out");
    let analyzed = printed_by_analyze(
        &cluster,
        &format!("{table}; EXPLAIN ANALYZE COPY t TO '{}' STORED AS CSV", to.display()),
    );
    assert!(analyzed.contains("CopySink(format=csv"), "{analyzed}");
    let rows: usize =
        files(&to).values().map(|bytes| bytes.iter().filter(|&&b| b == b'\n').count() - 1).sum();
    assert_eq!(rows, 21_000);
}

fn printed_by_analyze(cluster: &Cluster, statements: &str) -> String {
    let output = sql(Some(cluster), statements);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_run_twice_is_an_error_unless_it_overwrites() {
    let cluster = Cluster::start(2, 2, "").await.unwrap();
    for (cluster, code) in [(None, 2), (Some(&cluster), 1)] {
        for name in ["out", "out.csv"] {
            let folder = tempfile::tempdir().unwrap();
            let to = folder.path().join(name);
            let copy = |rows: &str, options: &str| {
                format!("COPY ({rows}) TO '{}' STORED AS CSV OPTIONS ({options})", to.display())
            };
            let once = copy("SELECT 1 AS a", "'has_header' 'true'");
            assert_eq!(copied(cluster, &once), 1);
            let before = files(folder.path());
            let twice = sql(cluster, &once);
            assert_eq!(twice.status.code(), Some(code), "{}", stderr(&twice));
            let why = if name == "out" { "the folder is not empty" } else { "the file exists" };
            assert!(stderr(&twice).contains(why), "{}", stderr(&twice));
            assert!(stderr(&twice).contains("OPTIONS ('overwrite' 'true')"), "{}", stderr(&twice));
            assert_eq!(files(folder.path()), before);

            // A query that fails has replaced nothing, and left nothing.
            let fails =
                sql(cluster, &copy("SELECT 1 / (a - 1) FROM (VALUES (1)) v(a)", "'overwrite' 'true'"));
            assert!(stderr(&fails).to_lowercase().contains("divide by zero"), "{}", stderr(&fails));
            assert_eq!(files(folder.path()), before);
            assert_eq!(entries(folder.path()), [name]);

            assert_eq!(copied(cluster, &copy("SELECT 2 AS b", "'overwrite' 'true'")), 1);
            let after = files(folder.path());
            assert_eq!(after.len(), 1, "{after:?}");
            assert!(after.values().all(|bytes| bytes == b"b\n2\n"), "{after:?}");
            assert_eq!(entries(folder.path()), [name]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relative_path_starts_at_the_client_and_no_row_makes_an_empty_folder() {
    let cluster = Cluster::start(1, 2, "").await.unwrap();
    for cluster in [None, Some(&cluster)] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(binary("flowsigma").unwrap());
        command.args(["sql", "-c", "COPY (SELECT 1 AS a) TO 'deep/out/' STORED AS CSV"]);
        if let Some(cluster) = cluster {
            command.args(["--scheduler", &cluster.scheduler_url]);
        }
        let output = command.current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(files(&folder.path().join("deep/out")).len(), 1);

        let to = folder.path().join("none");
        let none = format!("COPY (SELECT 1 AS a WHERE random() > 2) TO '{}' STORED AS CSV", to.display());
        assert_eq!(copied(cluster, &none), 0);
        assert!(entries(&to).is_empty());
    }
}

/// What DataFusion takes and ignores.
#[test]
fn a_part_of_a_copy_without_effect_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for (operation, said) in [
        ("a.csv' STORED AS FOO", "STORED AS FOO is no format; write CSV, JSON, PARQUET or ARROW"),
        ("a.csv' OPTIONS ('null_regex' 'x')", "option \"null_regex\" has no effect on writing csv"),
        ("a.csv' OPTIONS ('delimeter' ';')", "did you mean \"delimiter\"?"),
        ("a.csv' OPTIONS ('delimiter' ';', 'format.delimiter' ',')", "option \"delimiter\" is given twice"),
        ("a.csv' OPTIONS ('execution.batch_size' '1')", "\"execution.batch_size\" has no effect"),
        ("a.json' OPTIONS ('newline_delimited' 'false')", "has no effect on writing json"),
        ("a.arrow' OPTIONS ('compression' 'zstd')", "has no effect on writing arrow"),
        ("a.parquet' OPTIONS ('crypto.factory_id' 'x')", "\"crypto.factory_id\" has no effect"),
        ("a.csv' PARTITIONED BY (a) OPTIONS ('single_file_output' 'true')", "PARTITIONED BY writes a folder"),
        ("a.csv' STORED AS CSV PARTITIONED BY (missing)", "missing"),
    ] {
        let output =
            sql(None, &format!("COPY (SELECT 1 AS a, 2 AS b) TO '{}/{operation}", folder.path().display()));
        assert_eq!(output.status.code(), Some(2), "{operation}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{operation}: {}", stderr(&output));
    }
    for name in ["a.csv", "out/"] {
        let copy = format!(
            "EXPLAIN COPY (SELECT 1 AS a) TO '{}/{name}' STORED AS CSV OPTIONS ('delimiter' ';')",
            folder.path().display()
        );
        let output = sql(None, &copy);
        assert!(
            stdout(&output).contains("CopySink(format=csv, to="),
            "{}{}",
            stdout(&output),
            stderr(&output)
        );
    }
    assert!(entries(folder.path()).is_empty());
}

/// Whether a process has a file in this folder open that it does not read.
fn writes(process: u32, folder: &Path) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    open.flatten().any(|fd| {
        let file = std::fs::read_link(fd.path()).unwrap_or_default();
        file.starts_with(folder) && !file.ends_with("numbers.csv")
    })
}

/// Statements of one stage, whose task multiplies `numbers` rows with themselves and writes many small files.
/// One is open at any time, so that it is seen at it.
fn long_copy(folder: &Path, numbers: usize, options: &str) -> String {
    let from = folder.join("numbers.csv");
    let numbers: String = (0..numbers).map(|i| format!("{i}\n")).collect();
    std::fs::write(&from, format!("n\n{numbers}")).unwrap();
    format!(
        "SET datafusion.execution.target_partitions = 1; \
         SET datafusion.execution.soft_max_rows_per_output_file = 100000; \
         SET datafusion.execution.objectstore_writer_buffer_size = 65536; \
         CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{}'; \
         COPY (SELECT a.n AS a, b.n AS b FROM t a CROSS JOIN t b) TO '{}' STORED AS CSV {options}",
        from.display(),
        folder.join("out").display()
    )
}

fn started(statements: &str, more: &[&str]) -> Child {
    Command::new(binary("flowsigma").unwrap())
        .args(["sql", "--format", "csv", "-c", statements])
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until one of these processes writes into a folder, and says which.
fn writer(processes: &[u32], folder: &Path) -> usize {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(writer) = processes.iter().position(|process| writes(*process, folder)) {
            return writer;
        }
        assert!(Instant::now() < deadline, "nobody writes");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// The rows of one attempt are there, and nobody has seen those of another.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_dies_while_it_writes_leaves_no_rows() {
    const NUMBERS: usize = 1500;
    let shape = Shape {
        executors: &["", ""],
        vcores: 2,
        scheduler_args: &["--executor-timeout-seconds", "12", "--expire-dead-executor-interval-seconds", "1"],
        executor_args: &["--executor-heartbeat-interval-seconds", "1"],
        ..Shape::default()
    };
    for options in ["", "OPTIONS ('overwrite' 'true')"] {
        let mut cluster = Cluster::start_as(shape).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("out");
        if !options.is_empty() {
            copied(None, &format!("COPY (SELECT 1 AS a) TO '{}' STORED AS CSV", to.display()));
        }
        let statements = long_copy(folder.path(), NUMBERS, options);
        let client = started(&statements, &["--scheduler", &cluster.scheduler_url]);
        let executors = [cluster.executor_id(0), cluster.executor_id(1)];
        cluster.kill_executor(writer(&executors, folder.path())).unwrap();
        let seen = to.exists();
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "{}; logs:\n{}", stderr(&output), cluster.logs());
        assert_eq!(stdout(&output), format!("count\n{}\n", NUMBERS * NUMBERS));
        let rows = |bytes: &Vec<u8>| {
            bytes.split(|&b| b == b'\n').filter(|row| !row.is_empty() && *row != b"a,b").count()
        };
        let lines: usize = files(&to).values().map(rows).sum();
        assert_eq!(lines, NUMBERS * NUMBERS);
        assert_eq!(seen, !options.is_empty(), "something was seen before it was whole");
        assert_eq!(entries(folder.path()), ["numbers.csv", "out"]);
    }
}

#[test]
fn a_copy_that_is_interrupted_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // Far more than is written until a task hears that it is cancelled.
    let client = started(&long_copy(folder.path(), 5000, ""), &[]);
    writer(&[client.id()], folder.path());
    Command::new("kill").args(["-INT", &client.id().to_string()]).status().unwrap();
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert_eq!(entries(folder.path()), ["numbers.csv"]);
}
