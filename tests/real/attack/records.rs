//! What is written down of each job, and that no secret is.

use super::{CALLERS, Ground, connections, holds_a_secret, index_plan, table, token};
use flowsigma_tests::caller::Outcome;
use flowsigma_tests::cluster::POLL_INTERVAL;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

fn lines(ground: &Ground) -> Vec<Value> {
    let text = std::fs::read_to_string(ground.audit_log()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Waits for a line, which is written a moment after the job's end.
async fn line(ground: &Ground, is: impl Fn(&Value) -> bool) -> Option<Value> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = lines(ground).into_iter().rfind(|line| is(line)) {
            return Some(found);
        }
        if Instant::now() > deadline {
            return None;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

pub(super) async fn of_all_that_was_asked(ground: &Ground, url: &str) {
    let registry = connections(url);
    let plan = index_plan(table(&registry, "prod", "attack-own").await, "SELECT note FROM t").await;
    let row = "the audit";
    let identity = |name: &'static str| if ground.is_open() { "anyone" } else { name };
    let Outcome::Rows { job, .. } = ground.caller("alice").run(&plan).await else { panic!("no job") };
    let Some(read) = line(ground, |line| line["job"] == *job).await else {
        return ground.fail(row, &format!("no line of job {job}"));
    };
    for (key, expected) in [
        ("identity", json!(identity("alice"))),
        ("connections", json!(["prod"])),
        ("indices", json!(["attack-own"])),
        ("reads", json!([])),
        ("writes", json!([])),
        ("documents", json!(1)),
        ("outcome", json!("succeeded")),
    ] {
        ground.expect(row, read[key] == expected, &format!("{key} of {read}"));
    }
    let text = |key: &str| read[key].as_str().unwrap_or_default();
    ground.expect(row, text("from").starts_with("127.0.0.1:"), &format!("from of {read}"));
    ground.expect(row, text("time").ends_with('Z'), &format!("time of {read}"));
    ground.expect(row, text("statement").contains("TableScan: t"), &format!("statement of {read}"));
    ground.expect(row, read["bytes"].as_u64().is_some_and(|bytes| bytes > 0), &format!("bytes of {read}"));
    if !ground.is_open() {
        let outcome = ground.caller("nobody").run(&plan).await;
        ground.refused("nobody reads an index", &outcome);
        let refused = |line: &Value| line["identity"] == "nobody" && line["outcome"] == "refused";
        let said = line(ground, refused).await.unwrap_or_default();
        let error = said["error"].as_str().unwrap_or_default();
        ground.expect(row, error.contains("may not use the connection"), &format!("{said}"));
        ground.expect(row, said["job"].is_null() && said["statement"] != "", &format!("{said}"));
    }
    let all = std::fs::read_to_string(ground.audit_log()).unwrap();
    let tokens = CALLERS.iter().any(|name| all.contains(&token(name)));
    ground.expect(row, !holds_a_secret(&all) && !tokens, "a secret is written down");
    let mode = std::fs::metadata(ground.audit_log()).unwrap().permissions().mode() & 0o777;
    ground.expect(row, mode == 0o600, &format!("its mode is {mode:o}"));
}
