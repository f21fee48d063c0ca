//! A job over one window after another.

use super::bench::json_of;
use super::flows::HOUR;
use crate::command::{flowsigma, stderr, stdout};
use crate::golden::{alone, assert_nothing_open, registry, servers};
use elastic_client::{Connection, Method, Request};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Output;

/// An index with flows of the three hours before this one, in each of which another address scans.
struct Flows {
    connection: std::sync::Arc<Connection>,
    /// The first instant of the first hour, in milliseconds.
    start: i64,
}

impl Flows {
    async fn load(connection: std::sync::Arc<Connection>) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let start = (now as i64 / HOUR - 3) * HOUR;
        let delete = Request::new(Method::Delete, "/jobs", "delete").with_param("ignore_unavailable", "true");
        connection.send(&delete).await.unwrap();
        let create = Request::new(Method::Put, "/jobs", "create").with_body(&json!({
            "settings": { "number_of_shards": 2, "number_of_replicas": 0 },
            "mappings": { "properties": {
                "@timestamp": { "type": "date" }, "source.ip": { "type": "ip" }, "destination.ip": { "type": "ip" },
            } },
        }));
        connection.send(&create).await.unwrap();
        let flows = Self { connection, start };
        for hour in 0..3 {
            flows.scan(hour, &format!("10.9.9.{hour}"), 400).await;
            for address in 0..40 {
                flows.scan(hour, &format!("10.0.0.{address}"), 2).await;
            }
        }
        flows
    }

    /// Adds flows from one address to many, in one of the hours.
    async fn scan(&self, hour: i64, source: &str, flows: i64) {
        let mut body = String::new();
        for i in 0..flows {
            let at = self.start + hour * HOUR + i * HOUR / flows;
            let document = json!({
                "@timestamp": at, "source.ip": source, "destination.ip": format!("10.1.{}.{}", i / 200, i % 200),
            });
            body.push_str(&format!("{{\"index\":{{}}}}\n{document}\n"));
        }
        let mut bulk = Request::new(Method::Post, "/jobs/_bulk", "load").with_param("refresh", "true");
        bulk.body = Some(body.into());
        let loaded = self.connection.send(&bulk).await.unwrap().json("load").unwrap();
        assert_eq!(loaded["errors"], false);
    }

    /// The start of an hour, as output has it.
    fn start_of(&self, hour: i64) -> String {
        let at = chrono::DateTime::from_timestamp_millis(self.start + hour * HOUR).unwrap();
        at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

struct JobFolder {
    folder: tempfile::TempDir,
    config: PathBuf,
    file: PathBuf,
    findings: PathBuf,
}

impl JobFolder {
    fn new(url: &str, flows: &Flows) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (config, file, findings) = (path("flowsigma.toml"), path("hourly.toml"), path("findings.ndjson"));
        std::fs::write(&config, format!("[connections.prod]\nnodes = [\"{url}\"]\n")).unwrap();
        let job = format!(
            "name = \"hourly\"\n\
             [source]\nconnection = \"prod\"\nindex = \"jobs\"\n\
             source_field = \"source.ip\"\ndestination_field = \"destination.ip\"\n\
             [window]\nevery = \"1h\"\ndelay = \"0s\"\nrecheck = \"24h\"\nfrom = \"{}\"\n\
             [store]\nurl = \"file://{}\"\n\
             [[sinks]]\ntype = \"file\"\npath = \"{}\"\n",
            flows.start_of(0),
            path("store").display(),
            findings.display()
        );
        std::fs::write(&file, job).unwrap();
        Self { folder, config, file, findings }
    }

    fn job(&self, args: &[&str]) -> Output {
        let (config, file) = (self.config.to_str().unwrap(), self.file.to_str().unwrap());
        flowsigma(&[&["--config", config, "job", args[0], file], &args[1..]].concat())
    }

    /// Window, source and state of each alert that the sink has.
    fn alerts(&self) -> Vec<(String, String, String)> {
        let text = std::fs::read_to_string(&self.findings).unwrap_or_default();
        let alert = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
        let text_of = |value: &Value| value.as_str().unwrap().to_owned();
        let alerts = text.lines().map(alert).filter(|alert| alert["direction"] == "outgoing");
        alerts
            .map(|alert| {
                (text_of(&alert["window"]["start"]), text_of(&alert["address"]), text_of(&alert["state"]))
            })
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_each_window_once_and_again_when_documents_come_late() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        let flows = Flows::load(std::sync::Arc::clone(&connection)).await;
        let job = JobFolder::new(&url, &flows);
        let alert = |hour: i64, address: &str, state: &str| {
            (flows.start_of(hour), address.to_owned(), state.to_owned())
        };

        let first = job.job(&["run", "--format", "json"]);
        assert!(first.status.success(), "{}", stderr(&first));
        let runs: Vec<Value> =
            stdout(&first).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let starts: Vec<&str> = runs.iter().map(|run| run["window"]["start"].as_str().unwrap()).collect();
        let expected: Vec<String> = (0..3).map(|hour| flows.start_of(hour)).collect();
        assert_eq!(starts, expected, "in order, none missing");
        let found: Vec<_> = (0..3).map(|hour| alert(hour, &format!("10.9.9.{hour}"), "new")).collect();
        assert_eq!(job.alerts(), found);

        let again = job.job(&["run", "--format", "json", "--fail-on-findings"]);
        assert_eq!((again.status.code(), stdout(&again)), (Some(0), ""), "{}", stderr(&again));
        assert_eq!(job.alerts(), found, "no second alert");
        let window = ["run", "--window", &expected[1], "--format", "json", "--fail-on-findings"];
        let kept = job.job(&window);
        assert_eq!(kept.status.code(), Some(10), "{}", stderr(&kept));
        assert_eq!(job.alerts(), found, "the same window gives no second alert");

        // Late: more of the scan that is known, and another one.
        flows.scan(1, "10.9.9.1", 50).await;
        flows.scan(1, "10.9.9.77", 450).await;
        let late = job.job(&["run", "--format", "json"]);
        let late = json_of(&late);
        assert_eq!((&late["window"]["start"], &late["window"]["revision"]), (&json!(expected[1]), &json!(2)));
        let mut alerts = job.alerts().split_off(3);
        alerts.sort();
        assert_eq!(alerts, [alert(1, "10.9.9.1", "amended"), alert(1, "10.9.9.77", "new")]);
        let states = json_of(&job.job(&["windows", "--format", "json"]));
        let states: Vec<_> =
            states.as_array().unwrap().iter().map(|s| (&s["state"], &s["revision"])).collect();
        let done = json!("done");
        assert_eq!(states, [(&done, &json!(1)), (&done, &json!(2)), (&done, &json!(1))]);
        assert_nothing_open(&connection).await;
        assert!(Path::new(&job.folder.path().join("store")).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_file_is_explained_and_a_wrong_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.toml");
    let text = "name = \"j\"\n[source]\nconnection = \"prod\"\nindex = \"flows-*\"\n[window]\nevery = \"1h\"\n\
                [store]\nurl = \"file:///var/lib/flowsigma/j\"\n";
    std::fs::write(&file, text).unwrap();
    let check = || flowsigma(&["job", "check", file.to_str().unwrap()]);
    let explained = check();
    assert!(explained.status.success() && stdout(&explained).contains("flows-*"), "{}", stderr(&explained));
    std::fs::write(&file, text.replace("every", "evry")).unwrap();
    let refused = check();
    assert_eq!(refused.status.code(), Some(2));
    for word in ["window.evry", "every", "job.toml"] {
        assert!(stderr(&refused).contains(word), "{word}: {}", stderr(&refused));
    }
}
