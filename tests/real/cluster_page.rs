//! docs/cluster.md, followed to the letter.

use crate::golden::{alone, assert_nothing_open, registry, remake, servers};
use flowsigma_tests::cluster::{binary, free_ports};
use flowsigma_tests::document;
use std::path::Path;
use std::process::Command;

/// The processes that a document started, by the files in which it keeps their ids.
struct Started<'a>(&'a Path);

impl Drop for Started<'_> {
    fn drop(&mut self) {
        for name in ["scheduler", "executor"] {
            if let Ok(id) = std::fs::read_to_string(self.0.join(format!("{name}.pid"))) {
                Command::new("kill").args(["-KILL", id.trim()]).status().ok();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_leads_from_nothing_to_a_job_over_mtls() {
    let page = include_str!("../../docs/cluster.md");
    let programs = binary("flowsigma-scheduler").unwrap();
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "flows-demo", 3, "ip").await;
        let folder = tempfile::tempdir().unwrap();
        let _started = Started(folder.path());
        let ports = free_ports(4).unwrap();
        let [scheduler, rows, tasks, probes] = ports[..] else { panic!("{ports:?}") };
        let at_port = format!("localhost:{scheduler}");
        let scheduler_ports = format!("localhost --bind-port {scheduler} > scheduler.log");
        let executor_ports = format!(
            "--scheduler-host localhost --scheduler-port {scheduler} --bind-port {rows} --bind-grpc-port {tasks} \
             --bind-health-port {probes} > executor.log"
        );
        let replace = [
            ("http://localhost:9200", url.as_str()),
            ("localhost:50050", &at_port),
            ("localhost > scheduler.log", &scheduler_ports),
            ("--scheduler-host localhost > executor.log", &executor_ports),
        ];
        let followed =
            document::run(page, folder.path(), programs.parent().unwrap_or(Path::new(".")), &replace);
        let log = |name| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        match followed {
            Ok(checked) => assert_eq!(checked, 7, "{url}"),
            Err(error) => panic!("{error:?}\n{}\n{}", log("scheduler.log"), log("executor.log")),
        }
        assert!(!Path::new("/tmp/flowsigma-stolen.csv").exists());
        assert_nothing_open(&connection).await;
    }
}
