//! Memory is bounded by pages, whatever the documents are.

use crate::command::{stderr, stdout};
use crate::faults::registry;
use crate::golden::{alone, assert_nothing_open, servers};
use bytes::Bytes;
use elastic_client::{Connection, Method, Request};
use flowsigma_tests::cluster::{Cluster, POLL_INTERVAL, Shape, binary};
use serde_json::json;
use std::process::{Command, Output, Stdio};

const MIB: usize = 1 << 20;

async fn make(connection: &Connection, index: &str, shards: u32) {
    let delete = Request::new(Method::Delete, format!("/{index}"), "delete a test index")
        .with_param("ignore_unavailable", "true");
    connection.send(&delete).await.unwrap();
    let create = Request::new(Method::Put, format!("/{index}"), "create a test index").with_body(&json!({
        "settings": { "number_of_shards": shards, "number_of_replicas": 0 },
        "mappings": { "properties": {
            "text": { "type": "text", "index": false },
            "word": { "type": "keyword", "index": false },
        } },
    }));
    connection.send(&create).await.unwrap();
}

async fn bulk(connection: &Connection, index: &str, lines: String) {
    let mut bulk = Request::new(Method::Post, format!("/{index}/_bulk"), "load a test index");
    bulk.body = Some(Bytes::from(lines));
    let response = connection.send(&bulk).await.unwrap().json("load").unwrap();
    assert_eq!(response["errors"], false, "{}", response["items"][0]);
}

async fn refresh(connection: &Connection, index: &str) {
    let refresh = Request::new(Method::Post, format!("/{index}/_refresh"), "refresh");
    connection.send(&refresh).await.unwrap();
}

/// Runs the command line, and says what it printed and the most memory that it ever had.
fn run_sql(url: &str, sql: &str) -> (String, usize) {
    let (ended, most) = try_sql(url, sql);
    assert!(ended.status.success(), "{url}: {}", stderr(&ended));
    (stdout(&ended).to_owned(), most)
}

/// The same, whatever it comes to.
fn try_sql(url: &str, sql: &str) -> (Output, usize) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("flowsigma.toml");
    std::fs::write(&config, format!("[connections.test]\nnodes = [\"{url}\"]\n")).unwrap();
    let mut command = Command::new(binary("flowsigma").unwrap())
        .arg("--config")
        .arg(&config)
        .args(["sql", "--format", "json", "-c", sql])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut most = 0;
    // The high-water mark only grows, so the last one seen is it.
    while command.try_wait().unwrap().is_none() {
        most = most.max(max_memory(command.id()).unwrap_or(0));
        std::thread::sleep(POLL_INTERVAL);
    }
    (command.wait_with_output().unwrap(), most)
}

/// The most memory in bytes that a process ever had; none if it has ended.
fn max_memory(process: u32) -> Option<usize> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(mark.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok()? * 1024)
}

fn table(index: &str, read: &str) -> String {
    format!(
        "CREATE EXTERNAL TABLE t STORED AS ELASTICSEARCH LOCATION 'elasticsearch://test/{index}' \
         OPTIONS ('read' '{read}'); "
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_documents_of_20_mb_are_read_within_300_mb() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        make(&direct, "large", 1).await;
        for _ in 0..10 {
            let text = "x".repeat(20 * MIB);
            bulk(&direct, "large", format!("{{\"index\":{{}}}}\n{{\"text\":\"{text}\"}}\n")).await;
        }
        refresh(&direct, "large").await;
        for read in ["pit", "scroll"] {
            let sql = table("large", read) + "SELECT count(*) AS n, sum(octet_length(text)) AS bytes FROM t";
            let (printed, most) = run_sql(&url, &sql);
            println!("{url} {read}: {} MiB", most / MIB);
            assert_eq!(printed.trim(), format!("[{{\"n\":10,\"bytes\":{}}}]", 200 * MIB), "{url} {read}");
            assert!(most > 20 * MIB && most < 300 * MIB, "{url} {read}: {} MiB", most / MIB);
        }
        make(&direct, "large", 1).await;
        assert_nothing_open(&direct).await;
    }
}

/// 8,000 keywords of 30,000 bytes, of which a full page would have 240 MB.
#[tokio::test(flavor = "multi_thread")]
async fn long_keywords_are_read_within_300_mb() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        make(&direct, "wordy", 1).await;
        let word = "w".repeat(29_990);
        for chunk in 0..8 {
            let line = |i| format!("{{\"index\":{{}}}}\n{{\"word\":\"{word}{}\"}}\n", chunk * 1000 + i);
            bulk(&direct, "wordy", (0..1000).map(line).collect()).await;
        }
        refresh(&direct, "wordy").await;
        for read in ["pit", "scroll"] {
            let sql =
                table("wordy", read) + "SELECT count(*) AS n, count(DISTINCT octet_length(word)) AS l FROM t";
            let (printed, most) = run_sql(&url, &sql);
            println!("{url} {read}: {} MiB", most / MIB);
            assert_eq!(printed.trim(), "[{\"n\":8000,\"l\":4}]", "{url} {read}");
            assert!(most > 20 * MIB && most < 300 * MIB, "{url} {read}: {} MiB", most / MIB);
        }
        make(&direct, "wordy", 1).await;
        assert_nothing_open(&direct).await;
    }
}

/// Small documents first, by which pages are fitted, and then 100 of 1 MiB.
async fn make_late(connection: &Connection, small: usize) {
    make(connection, "late", 1).await;
    bulk(connection, "late", "{\"index\":{}}\n{\"text\":\"t\"}\n".repeat(small)).await;
    let large = format!("{{\"index\":{{}}}}\n{{\"text\":\"{}\"}}\n", "x".repeat(MIB));
    for _ in 0..4 {
        bulk(connection, "late", large.repeat(25)).await;
    }
    refresh(connection, "late").await;
}

/// All pages of a scroll have as many rows as its first.
#[tokio::test(flavor = "multi_thread")]
async fn large_documents_that_come_late_in_a_scroll_are_bounded() {
    let read = "SELECT count(*) AS n, sum(octet_length(text)) AS bytes FROM t";
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        // On its first page: that is asked for again with fewer rows, by another scroll.
        make_late(&direct, 30).await;
        let (printed, most) = run_sql(&url, &(table("late", "scroll") + read));
        println!("{url} first page: {} MiB", most / MIB);
        assert_eq!(printed.trim(), format!("[{{\"n\":130,\"bytes\":{}}}]", 100 * MIB + 30), "{url}");
        assert!(most < 300 * MIB, "{url}: {} MiB", most / MIB);
        assert_nothing_open(&direct).await;
        // On a later one: nothing can be asked for again, and the error says what to set.
        make_late(&direct, 700).await;
        let (ended, most) = try_sql(&url, &(table("late", "scroll") + read));
        println!("{url} later page: {} MiB", most / MIB);
        let error = stderr(&ended);
        assert_eq!(ended.status.code(), Some(1), "{url}: {error}");
        assert!(
            error.contains("search: index \"late\" slice 1/1: a scroll page of 625 rows"),
            "{url}: {error}"
        );
        assert!(most < 300 * MIB, "{url}: {} MiB", most / MIB);
        assert_nothing_open(&direct).await;
        let fitting = error.split("page_size to ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        let set = table("late", "scroll").replace("'read'", &format!("'page_size' '{fitting}', 'read'"));
        let (printed, most) = run_sql(&url, &(set + read));
        println!("{url} page_size {fitting}: {} MiB", most / MIB);
        assert_eq!(printed.trim(), format!("[{{\"n\":800,\"bytes\":{}}}]", 100 * MIB + 700), "{url}");
        assert!(most < 300 * MIB, "{url}: {} MiB", most / MIB);
        make(&direct, "late", 1).await;
        assert_nothing_open(&direct).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: run scripts/test --long"]
async fn a_million_small_documents_are_read_within_300_mb() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        make(&direct, "million", 3).await;
        for chunk in 0..50 {
            let line =
                |i| format!("{{\"index\":{{}}}}\n{{\"text\":\"t\",\"word\":\"{}\"}}\n", chunk * 20_000 + i);
            bulk(&direct, "million", (0..20_000).map(line).collect()).await;
        }
        refresh(&direct, "million").await;
        for read in ["pit", "scroll"] {
            for column in ["word", "text"] {
                let sql = table("million", read)
                    + &format!("SELECT count({column}) AS n, min({column}) AS a FROM t");
                let (printed, most) = run_sql(&url, &sql);
                println!("{url} {read} {column}: {} MiB", most / MIB);
                let first = if column == "word" { "0" } else { "t" };
                assert_eq!(printed.trim(), format!("[{{\"n\":1000000,\"a\":\"{first}\"}}]"), "{url} {read}");
                assert!(most < 300 * MIB, "{url} {read}: {} MiB", most / MIB);
            }
        }
        make(&direct, "million", 1).await;
        assert_nothing_open(&direct).await;
    }
}

/// Bytes of an executor's pool for tasks, which two of them share.
const TASK_MEMORY: &str = "512MiB";

/// Each of ten million sources has one flow, and one destination has a hundred thousand.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: run scripts/test --long"]
async fn ten_million_addresses_are_decided_within_the_memory_of_an_executor() {
    let _alone = alone("memory").await;
    let folder = tempfile::tempdir().unwrap();
    let flows = folder.path().join("flows");
    let generate = format!(
        "COPY (SELECT 'host-' || value AS s,
                      'host-' || CASE WHEN value % 100 = 0 THEN 7 ELSE value / 3 END AS d
               FROM range(0, 10000000)) TO '{}/' STORED AS PARQUET",
        flows.display()
    );
    let plain = datafusion::prelude::SessionContext::new();
    plain.sql(&generate).await.unwrap().collect().await.unwrap();
    let shape = Shape {
        executors: &[""],
        vcores: 2,
        executor_args: &["--memory-pool-size", TASK_MEMORY],
        ..Shape::default()
    };
    let cluster = Cluster::start_as(shape).await.unwrap();
    let args = ["detect", "--source-field", "s", "--destination-field", "d", "--format", "json", "--file"];
    let mut client = Command::new(binary("flowsigma").unwrap());
    client.args(args).arg(&flows).args(["--scheduler", &cluster.scheduler_url]);
    client.arg("--config").arg(cluster.folder.path().join("flowsigma.toml"));
    let output = client.output().unwrap();
    let most = max_memory(cluster.executor_id(0)).unwrap();
    println!("{} MiB", most / MIB);
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), cluster.logs());
    let response: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(response["statistics"]["incoming"]["count"], 10_000_000, "{response}");
    assert_eq!(response["findings"][0]["address"], "host-7", "{response}");
    assert!(most < 800 * MIB, "{} MiB", most / MIB);
}
