//! The command line, as a user runs it.

use crate::golden::{alone, assert_nothing_open, registry, remake, servers};
use elastic_client::{Connection, Method, Request};
use flowsigma_tests::cluster::{Cluster, binary};
use flowsigma_tests::document;
use flowsigma_tests::golden::{NOTEBOOK_QUERY, count_open_contexts};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs `flowsigma` in an empty folder.
pub(crate) fn flowsigma(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(binary("flowsigma").unwrap())
        .args(args)
        .current_dir(folder.path())
        .env_remove("FLOWSIGMA_CONFIG")
        .env("XDG_CONFIG_HOME", folder.path())
        .output()
        .unwrap()
}

/// `flowsigma` with no stdin, whose output is kept until it is asked for.
pub(crate) fn captured(args: &[&str]) -> Command {
    let mut command = Command::new(binary("flowsigma").unwrap());
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn detect_json(args: &[&str]) -> Value {
    let output = flowsigma(&[&["detect", "--format", "json"], args].concat());
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) fn assert_golden(response: &Value, how: &str) {
    let short: Vec<Value> = response["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| json!([f["address"], f["direction"], f["outgoing"], f["incoming"]]))
        .collect();
    let expected = json!([["20.54.0.162", "outgoing", 1253, 0], ["10.54.0.162", "incoming", 0, 1253]]);
    assert_eq!(json!(short), expected, "{how}");
    for direction in ["outgoing", "incoming"] {
        let s = &response["statistics"][direction];
        assert_eq!((&s["count"], &s["max"], &s["min"]), (&json!(26), &json!(1253), &json!(0)), "{how}");
        assert_eq!(s["mean"], json!(55.0), "{how}");
        assert!((s["stddev"].as_f64().unwrap() - 240.011858681).abs() < 1e-9, "{how}");
    }
    let c = &response["coverage"];
    assert_eq!(
        (&c["documents"], &c["matched"], &c["failed_shards"]),
        (&json!(1430), &json!(1430), &json!(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn detect_tells_the_golden_numbers_and_that_it_read_all_of_them() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "command", 3, "keyword").await;
        let here = ["--url", &url, "--index", "command", "--query", NOTEBOOK_QUERY];
        let embedded = detect_json(&here);
        assert_golden(&embedded, &url);
        assert_eq!(embedded["coverage"]["slices"], 3);
        assert_eq!(embedded["coverage"]["consistency"], "point_in_time");

        let config = format!("[connections.prod]\nnodes = [\"{url}\"]\n");
        let cluster = Cluster::start(2, 2, &config).await.unwrap();
        let file = cluster.folder.path().join("flowsigma.toml");
        let there = detect_json(&[
            "--config",
            file.to_str().unwrap(),
            "--connection",
            "prod",
            "--index",
            "command",
            "--query",
            NOTEBOOK_QUERY,
            "--scheduler",
            &cluster.scheduler_url,
            "--slices",
            "8",
        ]);
        assert_golden(&there, &url);
        // 8 slices asked for; cut finer than shards, and the same number of documents.
        assert_eq!(there["coverage"]["slices"], 8, "{there}");

        let csv = flowsigma(&[&["detect", "--format", "csv"], &here[..]].concat());
        let lines: Vec<&str> = stdout(&csv).lines().collect();
        assert_eq!(lines[0], "address,direction,outgoing,incoming,mean,stddev,z");
        assert!(lines[1].starts_with("20.54.0.162,outgoing,1253,0,55.0,240.0118586"), "{lines:?}");
        assert_eq!(lines.len(), 3);
        assert!(stderr(&csv).contains("1,430 of 1,430 documents read"), "{}", stderr(&csv));
        assert_nothing_open(&connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_without_a_matching_document_is_not_an_error() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        remake(&registry.get("test").unwrap(), "command", 3, "ip").await;
        let range = ["--url", &url, "--index", "command", "--since", "1999-01-01T00:00:00Z"];
        let args = [&["detect"], &range[..], &["--until", "2000-01-01T00:00:00Z"]].concat();
        let output = flowsigma(&args);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stdout(&output).starts_with("warning: no document"), "{}", stdout(&output));
        let response = detect_json(&args[1..]);
        assert_eq!(response["findings"], json!([]));
        assert_eq!(response["statistics"]["outgoing"]["count"], 0);
        assert_eq!(response["coverage"]["documents"], 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_input_is_refused_with_a_message_that_stands_alone() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "command", 1, "keyword").await;
        let to = ["detect", "--url", &url, "--index"];
        let command = [&to[..], &["command"]].concat();
        let cases: [(Vec<&str>, &[&str]); 19] = [
            ([&to[..], &["nowhere"]].concat(), &["nowhere", "404"]),
            (
                [&command[..], &["--source-field", "netflow.ipv4_src_adr"]].concat(),
                &["netflow.ipv4_src_adr", "did you mean"],
            ),
            (
                [&command[..], &["--source-field", "saddr"]].concat(),
                &["saddr", "--source-field", "there are @timestamp, "],
            ),
            ([&command[..], &["--source-field", "@timestamp"]].concat(), &["@timestamp", "address"]),
            ([&command[..], &["--sigma", "-1"]].concat(), &["sigma \"-1\""]),
            ([&command[..], &["--option", "QUERY={}"]].concat(), &["--option query", "--query"]),
            (
                [&command[..], &["--option", "read=pit", "--option", "read=scroll"]].concat(),
                &["read is given twice"],
            ),
            (
                [&command[..], &["--option", "read_mode=pit"]].concat(),
                &["read_mode", "did you mean \"read\""],
            ),
            ([&command[..], &["--time-field", "src_addr_space"]].concat(), &["src_addr_space", "date"]),
            (
                vec!["detect", "--url", "http://127.0.0.1:1", "--index", "command"],
                &["127.0.0.1:1", "refused"],
            ),
            ([&command[..], &["--query", "{\"bool\": {"]].concat(), &["query", "line 1"]),
            ([&command[..], &["--query", "nowhere.json"]].concat(), &["nowhere.json"]),
            ([&command[..], &["--sample", "2"]].concat(), &["sample = 2", "up to 1"]),
            ([&command[..], &["--since", "1h", "--until", "2h", "--since", "0s"]].concat(), &["--since"]),
            ([&command[..], &["--since", "now"]].concat(), &["time range is empty"]),
            ([&command[..], &["--filter", "nowhere = 1"]].concat(), &["nowhere"]),
            ([&command[..], &["--slices", "0"]].concat(), &["slices", "0"]),
            (vec!["detect", "--connection", "prod", "--index", "command"], &["prod"]),
            (vec!["detect", "--file", "nowhere.csv"], &["nowhere.csv"]),
        ];
        for (args, expected) in cases {
            let output = flowsigma(&args);
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
            assert_eq!(stdout(&output), "", "{args:?}");
            for word in expected {
                assert!(said.contains(word), "{args:?} says {said}, without {word:?}");
            }
        }
        let config = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(config.path(), format!("[connections.prod]\nnodes = [\"{url}\"]\n")).unwrap();
        let output = flowsigma(&[
            "detect",
            "--config",
            config.path().to_str().unwrap(),
            "--connection",
            "prod",
            "--index",
            "command",
            "--scheduler",
            "http://127.0.0.1:1",
        ]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("http://127.0.0.1:1"), "{}", stderr(&output));
        assert_nothing_open(&connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_notebook_did_is_done_as_the_document_says() {
    let document = include_str!("../../docs/from-the-notebook.md");
    let programs = binary("flowsigma").unwrap();
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "seceon_flows", 3, "ip").await;
        let folder = tempfile::tempdir().unwrap();
        let checked = document::run(
            document,
            folder.path(),
            programs.parent().unwrap_or(Path::new(".")),
            &[("http://localhost:9200", &url)],
        );
        assert_eq!(checked.unwrap(), 8, "{url}");
        assert_nothing_open(&connection).await;
    }
}

/// Starts a job that takes long, waits until it reads, presses Ctrl-C.
async fn interrupt(connection: &Connection, args: &[&str], sql: &str) {
    assert_nothing_open(connection).await;
    let mut child = Command::new(binary("flowsigma").unwrap())
        .args([&["sql"], args, &["-c", sql]].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while count_open_contexts(connection).await.unwrap() == 0 {
        assert!(child.try_wait().unwrap().is_none(), "{sql} ended by itself");
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    assert!(stderr(&output).contains("interrupted"), "{}", stderr(&output));
    assert_nothing_open(connection).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_job_and_leaves_nothing_open() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "command", 1, "keyword").await;
        let config = format!("[connections.url]\nnodes = [\"{url}\"]\n");
        let cluster = Cluster::start(2, 1, &config).await.unwrap();
        let file = cluster.folder.path().join("flowsigma.toml");
        for read in ["pit", "scroll"] {
            // 1,730 pages in each of many scans.
            let scans = vec!["SELECT * FROM t"; 20].join(" UNION ALL ");
            let sql = format!(
                "CREATE EXTERNAL TABLE t STORED AS ELASTICSEARCH LOCATION 'elasticsearch://url/command' \
                 OPTIONS ('page_size' '1', 'read' '{read}'); {scans}"
            );
            interrupt(&connection, &["--url", &url], &sql).await;
            let there = ["--config", file.to_str().unwrap(), "--scheduler", &cluster.scheduler_url];
            interrupt(&connection, &there, &sql).await;
        }
    }
}

/// Flow indices have fields of all kinds, which differ from one index to the next.
#[tokio::test(flavor = "multi_thread")]
async fn fields_that_are_not_asked_for_are_no_obstacle() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        for (index, other) in [("odd_a", "long"), ("odd_b", "ip")] {
            remake(&connection, index, 1, "keyword").await;
            let more = json!({ "properties": {
                "span": { "type": "integer_range" }, "other": { "properties": { "id": { "type": other } } },
            } });
            let put = Request::new(Method::Put, format!("/{index}/_mapping"), "add fields").with_body(&more);
            connection.send(&put).await.unwrap();
        }
        let one = ["--url", &url, "--query", NOTEBOOK_QUERY, "--index", "odd_a"];
        assert_golden(&detect_json(&one), &url);

        let both = ["--url", &url, "--query", NOTEBOOK_QUERY, "--index", "odd_*"];
        let refused = flowsigma(&[&["detect"], &both[..]].concat());
        assert_eq!(refused.status.code(), Some(2));
        for word in ["other.id", "odd_a", "odd_b", "exclude"] {
            assert!(stderr(&refused).contains(word), "{}", stderr(&refused));
        }
        let without =
            detect_json(&[&both[..], &["--option", "exclude=other", "--option", "read=scroll"]].concat());
        assert_eq!(without["coverage"]["documents"], 2 * 1430, "{url}: {without}");
        assert_eq!(without["coverage"]["consistency"], "scroll", "{url}: {without}");
        assert_nothing_open(&connection).await;
    }
}
