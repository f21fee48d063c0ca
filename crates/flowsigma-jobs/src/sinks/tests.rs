//! The sinks of a job, and the findings that the tests of all sinks use.

use super::*;
use crate::alert::{Alert, AlertState};
use crate::manifest::{Finding, Manifest, WindowTimes};
use elastic_client::ConnectionConfig;
use std::sync::Mutex;

fn window() -> WindowTimes {
    WindowTimes {
        start: "2026-01-01T00:00:00Z".parse().unwrap(),
        end: "2026-01-01T01:00:00Z".parse().unwrap(),
    }
}

/// The manifest of revision 1 of a window.
pub(super) fn manifest() -> Manifest {
    Manifest {
        version: 1,
        job: "scan".into(),
        job_digest: "d".into(),
        window: window(),
        revision: 1,
        documents: 100,
        findings: Vec::new(),
        report: serde_json::Value::Null,
        pairs: false,
        sinks: Vec::new(),
        started: "2026-01-01T01:05:00Z".parse().unwrap(),
        ended: "2026-01-01T01:06:00Z".parse().unwrap(),
        holder: "host 1".into(),
    }
}

/// One finding of [`manifest`].
pub(super) fn alert(number: u8) -> Alert {
    Alert {
        id: format!("{number:064x}"),
        job: "scan".into(),
        window: window(),
        revision: 1,
        state: AlertState::New,
        finding: Finding {
            address: format!("10.0.0.{number}"),
            direction: "outgoing".into(),
            outgoing: 90,
            incoming: 4,
            mean: 10.5,
            stddev: 2.25,
            z: 35.0,
            round: None,
        },
        detected: "2026-01-01T01:06:00Z".parse().unwrap(),
    }
}

/// Findings with ascending ids.
pub(super) fn alerts(count: u8) -> Vec<Alert> {
    (1..=count).map(alert).collect()
}

fn job(sinks: &str) -> Job {
    let text = format!(
        "name = \"scan\"\nsource = {{ connection = \"prod\", index = \"flows\" }}\nwindow = {{ every = \"1h\" }}\n\
         store = {{ url = \"file:///s\" }}\n{sinks}"
    );
    toml::from_str(&text).unwrap()
}

fn made(sinks: &str) -> std::result::Result<Vec<String>, String> {
    let connections = |name: &str| match name {
        "prod" => {
            let config = ConnectionConfig::from_url("http://127.0.0.1:9200").unwrap();
            let config = ConnectionConfig { access: elastic_client::Access::Write, ..config };
            Ok(Arc::new(Connection::try_new(name, &config).unwrap()))
        }
        _ => Err(failed("scan", "", format!("no connection {name}"))),
    };
    let stdout: SharedWriter = Arc::new(Mutex::new(Vec::new()));
    let sinks = make(&job(sinks), &connections, &stdout).map_err(|e| e.to_string())?;
    Ok(sinks.iter().map(|sink| sink.name().to_owned()).collect())
}

#[test]
fn sinks_have_the_order_and_the_names_of_the_file() {
    assert_eq!(made("").unwrap(), [""; 0]);
    let all = "[[sinks]]\ntype = \"webhook\"\nurl = \"https://soc.example.org/hook\"\n\
               [[sinks]]\ntype = \"stdout\"\n\
               [[sinks]]\ntype = \"file\"\npath = \"/x/findings.ndjson\"\n\
               [[sinks]]\ntype = \"index\"\nconnection = \"prod\"\nindex = \"flowsigma-alerts\"\ntemplate = true\n\
               [[sinks]]\ntype = \"file\"\nname = \"table\"\npath = \"/x/findings\"\nformat = \"parquet\"\n\
               [[sinks]]\ntype = \"stdout\"\nname = \"second\"\n";
    assert_eq!(made(all).unwrap(), ["webhook", "stdout", "file", "index", "table", "second"]);
}

#[test]
fn sinks_that_could_never_deliver_are_refused() {
    for (sinks, expected) in [
        (
            "[[sinks]]\ntype = \"stdout\"\n[[sinks]]\ntype = \"stdout\"",
            "another sink of this job has the same name",
        ),
        (
            "[[sinks]]\ntype = \"stdout\"\n[[sinks]]\ntype = \"file\"\npath = \"x\"\nname = \"stdout\"",
            "another sink of this job has the same name",
        ),
        ("[[sinks]]\ntype = \"index\"\nconnection = \"other\"\nindex = \"a\"", "no connection other"),
        (
            "[[sinks]]\ntype = \"index\"\nconnection = \"prod\"\nindex = \"a*\"",
            "documents are not written to \"a*\"",
        ),
        ("[[sinks]]\ntype = \"webhook\"\nurl = \"http://soc.example.org\"", "https"),
        (
            "[[sinks]]\ntype = \"webhook\"\nurl = \"https://x/\"\nsecret_env = \"FLOWSIGMA_TEST_NEVER_SET\"",
            "\"FLOWSIGMA_TEST_NEVER_SET\"",
        ),
    ] {
        let error = made(sinks).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
