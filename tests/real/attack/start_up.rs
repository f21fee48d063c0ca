//! No port is open to others without a protection, unless its owner says so.

use crate::command::stderr;
use crate::kill::end;
use flowsigma_tests::cluster::{Cluster, Shape, binary};
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn an_address_that_others_reach_needs_a_protection() {
    let folder = tempfile::tempdir().unwrap();
    for (program, args) in [
        ("flowsigma-scheduler", &["--bind-host", "0.0.0.0"][..]),
        ("flowsigma-scheduler", &["--bind-host", "[::]"]),
        ("flowsigma-scheduler", &["--bind-host", "192.0.2.1"]),
        ("flowsigma-executor", &["--bind-host", "0.0.0.0"]),
        ("flowsigma-executor", &["--scheduler-host", "192.0.2.1"]),
        ("flowsigma-executor", &["--scheduler-host", "scheduler.example"]),
    ] {
        let child = Command::new(binary(program).unwrap())
            .args(args)
            .args(["--bind-port", "0"])
            .current_dir(folder.path())
            .env_remove("FLOWSIGMA_CONFIG")
            .env("XDG_CONFIG_HOME", folder.path())
            .env("FLOWSIGMA_STATE_DIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = end(child, Duration::from_secs(20)).unwrap_or_else(|said| {
            panic!("{program} {args:?} goes on: {}", stderr(&said));
        });
        assert_eq!(output.status.code(), Some(1), "{program} {args:?}");
        let said = stderr(&output);
        for part in [args[1], "[cluster] tls", "flowsigma cluster init", "--allow-anyone"] {
            assert!(said.contains(part), "{program} {args:?}: no {part:?} in {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_start_of_what_anyone_may_use_says_so() {
    let shape = Shape {
        scheduler: "",
        executors: &[""],
        vcores: 1,
        allow_anyone: true,
        variables: &[("RUST_LOG", "warn")],
        ..Shape::default()
    };
    let mut cluster = Cluster::start_as(shape).await.unwrap();
    cluster.kill_scheduler();
    cluster.restart_scheduler().unwrap();
    for (name, starts) in [("scheduler", 2), ("executor-0", 1)] {
        let log = std::fs::read_to_string(cluster.folder.path().join(format!("{name}.log"))).unwrap();
        let warned = log.lines().filter(|line| line.contains("WARN") && line.contains("--allow-anyone"));
        assert_eq!(warned.count(), starts, "{log}");
    }
}
