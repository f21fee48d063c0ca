//! What the command line says beside its rows: what was asked, what cannot be decided, times that can
//! be given back, and exit codes.

use crate::command::{flowsigma, stderr, stdout};
use crate::golden::{alone, assert_nothing_open, registry, remake, servers};
use flowsigma_tests::golden::NOTEBOOK_QUERY;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

/// A file of flows in which "a" talks to `others` addresses, `flows` times to the first.
fn flow_file(flows: usize, others: usize) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
    writeln!(file, "@timestamp,s,d").unwrap();
    for _ in 1..flows {
        writeln!(file, "2026-01-01T00:00:00Z,a,b0").unwrap();
    }
    for other in 0..others {
        writeln!(file, "2026-01-01T00:00:00Z,a,b{other}").unwrap();
    }
    file
}

fn detect_file<'a>(file: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let file =
        ["detect", "--file", file.to_str().unwrap(), "--source-field", "s", "--destination-field", "d"];
    [&file[..], more].concat()
}

#[test]
fn too_few_addresses_to_decide_are_said_in_every_format() {
    let file = flow_file(1000, 9);
    let args = detect_file(file.path(), &[]);
    let cannot = "3 standard deviations cannot decide with 10 addresses";
    let table = flowsigma(&args);
    assert!(table.status.success(), "{}", stderr(&table));
    assert!(stdout(&table).contains(&format!("warning: {cannot}")), "{}", stdout(&table));
    assert!(!stdout(&table).contains("No address stands out"), "{}", stdout(&table));
    let csv = flowsigma(&[&args[..], &["--format", "csv"]].concat());
    assert!(stderr(&csv).contains(cannot), "{}", stderr(&csv));
    let response: Value =
        serde_json::from_slice(&flowsigma(&[&args[..], &["--format", "json"]].concat()).stdout).unwrap();
    assert_eq!(response["warnings"][0]["code"], "too_few_addresses", "{response}");
    assert!(response["warnings"][0]["message"].as_str().unwrap().contains(cannot), "{response}");
    // A lower threshold decides with as many.
    let lower = flowsigma(&[&args[..], &["--sigma", "2.9", "--format", "json"]].concat());
    let response: Value = serde_json::from_slice(&lower.stdout).unwrap();
    assert_eq!(response["warnings"], json!([]), "{response}");
    assert_eq!(response["findings"][0]["address"], "a", "{response}");
}

#[test]
fn a_direction_without_spread_is_said() {
    // Every destination has one flow, but "a" has none.
    let file = flow_file(1, 20);
    let both = flowsigma(&detect_file(file.path(), &["--format", "json", "--filter", "d <> 'b0'"]));
    let response: Value = serde_json::from_slice(&both.stdout).unwrap();
    assert_eq!(response["warnings"], json!([]), "{response}");
    let same = ["--source-field", "d", "--destination-field", "d"];
    let path = file.path().to_str().unwrap();
    let output = flowsigma(&[&["detect", "--file", path][..], &same].concat());
    let text = stdout(&output);
    assert_eq!(text.matches("so the standard deviation is 0").count(), 2, "{text}");
    assert!(!text.contains("No address stands out"), "{text}");
}

#[test]
fn a_file_that_holds_nothing_in_the_range_is_named() {
    let file = flow_file(1000, 9);
    let args = detect_file(file.path(), &["--since", "2025-01-01", "--until", "2025-01-02T00:00:00"]);
    let output = flowsigma(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("warning: no document with an address in \"s\" or \"d\""), "{text}");
    for word in ["between 2025-01-01T00:00:00Z and 2025-01-02T00:00:00Z", file.path().to_str().unwrap()] {
        assert!(text.contains(word), "{text}");
    }
    assert!(
        stderr(&output)
            .contains("--since: \"2025-01-01\" has no zone and is read as UTC, 2025-01-01T00:00:00Z"),
        "{}",
        stderr(&output)
    );
    let all = flowsigma(&detect_file(file.path(), &["--since", "all", "--format", "json"]));
    let response: Value = serde_json::from_slice(&all.stdout).unwrap();
    assert_eq!(response["statistics"]["outgoing"]["count"], 10, "{response}");
    assert_eq!((&response["scope"]["since"], &response["scope"]["until"]), (&Value::Null, &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_output_says_what_was_asked() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "answers", 3, "keyword").await;
        let narrowed = [
            ["--since", "2h", "--until", "2100-01-01T00:00:00Z"],
            ["--filter", "src_addr_space = 'private'", "--sigma", "2.5"],
            ["--sample", "0.999", "--seed", "7"],
        ]
        .concat();
        let args = [&["detect", "--url", &url, "--index", "answers"], &narrowed[..]].concat();
        let asked = [&args[..], &["--query", NOTEBOOK_QUERY, "--format", "json"]].concat();
        let output = flowsigma(&asked);
        let response: Value = serde_json::from_slice(&output.stdout).unwrap();
        let scope = &response["scope"];
        for (name, expected) in [
            ("connection", Value::Null),
            ("url", json!(url)),
            ("file", Value::Null),
            ("index", json!("answers")),
            ("since", json!("2099-12-31T22:00:00Z")),
            ("until", json!("2100-01-01T00:00:00Z")),
            ("filter", json!("src_addr_space = 'private'")),
            ("sigma", json!(2.5)),
            ("sample", json!("0.999")),
            ("seed", json!(7)),
            ("query", serde_json::from_str(NOTEBOOK_QUERY).unwrap()),
        ] {
            assert_eq!(scope[name], expected, "{name} of {response}");
        }
        assert_eq!(response["warnings"][0]["code"], "no_documents", "{response}");
        for format in ["table", "csv"] {
            let output = flowsigma(&[&args[..], &["--format", format]].concat());
            let said = [stdout(&output), stderr(&output)][usize::from(format == "csv")];
            for word in [
                "index \"answers\" of http://",
                "between 2099-12-31T22:00:00Z and 2100-01-01T00:00:00Z",
                "2.5 sigma",
                "sample 0.999 by seed 7",
                "filter: src_addr_space = 'private'",
                "warning: no document with an address",
            ] {
                assert!(said.contains(word), "{format} says {said}, without {word:?}");
            }
        }

        // The default hour holds nothing, which looks like all is well unless it is said.
        let args = ["detect", "--url", &url, "--index", "answers", "--until", "1999-01-01"];
        let output = flowsigma(&args);
        let said = stdout(&output);
        for word in ["between 1998-12-31T23:00:00Z and 1999-01-01T00:00:00Z", "--since all reads everything"]
        {
            assert!(said.contains(word), "{said}");
        }
        let all = ["detect", "--url", &url, "--index", "answers", "--since", "all", "--format", "json"];
        let response: Value = serde_json::from_slice(&flowsigma(&all).stdout).unwrap();
        assert_eq!(response["coverage"]["documents"], 1730, "{response}");
        assert_eq!(response["warnings"], json!([]), "{response}");
        assert_nothing_open(&connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_is_printed_can_be_given_back() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        remake(&registry.get("test").unwrap(), "answers", 1, "keyword").await;
        let create = "CREATE EXTERNAL TABLE t STORED AS ELASTICSEARCH LOCATION 'elasticsearch://url/answers'";
        let sql = format!(
            "{create}; SELECT max(\"@timestamp\") AS newest, arrow_cast(0, 'Timestamp(Millisecond, Some(\"+02:00\"))') AS zoned FROM t"
        );
        let printed = |format| {
            let output = flowsigma(&["sql", "--url", &url, "-c", &sql, "--format", format]);
            assert!(output.status.success(), "{}", stderr(&output));
            stdout(&output).to_owned()
        };
        let response: Value = serde_json::from_str(&printed("json")).unwrap();
        let newest = response[0]["newest"].as_str().unwrap().to_owned();
        assert!(newest.ends_with('Z'), "{response}");
        assert_eq!(response[0]["zoned"], "1970-01-01T02:00:00+02:00", "{response}");
        for format in ["table", "csv"] {
            let text = printed(format);
            assert_eq!(text.matches(&newest).count(), 1, "{format}: {text}");
        }
        // In a list, by a function over lists, which executors know.
        let list = format!("{create}; SELECT make_array(max(\"@timestamp\")) AS several FROM t");
        let output = flowsigma(&["sql", "--url", &url, "-c", &list, "--format", "json"]);
        assert_eq!(
            stdout(&output).trim(),
            json!([{ "several": [newest] }]).to_string(),
            "{}",
            stderr(&output)
        );
        // It is the first instant of a range, and that after one.
        let [from, before] = ["--since", "--until"].map(|option| {
            let range = [option, &newest];
            let other = if option == "--since" { ["--until", "all"] } else { ["--since", "all"] };
            let args = ["detect", "--url", &url, "--index", "answers", "--format", "json"];
            let output = flowsigma(&[&args[..], &range, &other].concat());
            assert!(!stderr(&output).contains("zone"), "{}", stderr(&output));
            let response: Value = serde_json::from_slice(&output.stdout).unwrap();
            response["coverage"]["documents"].as_u64().unwrap()
        });
        assert_eq!(from, 1, "the newest of all is one document");
        assert_eq!(from + before, 1730);
    }
}

/// 2 says that nothing was run, whatever was defined before.
#[tokio::test(flavor = "multi_thread")]
async fn exit_code_2_is_for_what_was_not_run() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "answers", 3, "keyword").await;
        let create = "CREATE EXTERNAL TABLE t STORED AS ELASTICSEARCH LOCATION 'elasticsearch://url/answers'";
        let wrong_query = format!("{create} OPTIONS ('query' '{{\"nonsense\": {{}}}}')");
        let code = |sql: &str, expected: i32, word: &str| {
            let output = flowsigma(&["sql", "--url", &url, "-c", sql]);
            assert!(stderr(&output).contains(word), "{sql}: {}", stderr(&output));
            assert_eq!(output.status.code(), Some(expected), "{sql}: {}", stderr(&output));
        };
        code(&format!("{create}; SELECT nowhere FROM t"), 2, "nowhere");
        code(&format!("{create}; CREATE VIEW v AS SELECT * FROM t; SELECT nowhere FROM v"), 2, "nowhere");
        code(&format!("{create}; SELECT count(*) FROM t; SELECT nowhere FROM t"), 1, "nowhere");
        code(&wrong_query, 2, "nonsense");
        for base in ["{\"nonsense\": {}}", "{\"range\": {\"@timestamp\": {\"gte\": \"not a date\"}}}"] {
            let args = ["detect", "--url", &url, "--index", "answers", "--query", base];
            let output = flowsigma(&args);
            assert_eq!(output.status.code(), Some(2), "{base}: {}", stderr(&output));
            assert!(
                stderr(&output).contains("try the base query on index \"answers\""),
                "{}",
                stderr(&output)
            );
        }
        assert_nothing_open(&connection).await;
    }
}
