//! What the processes of a cluster write down, for programs to read.

use crate::golden::{alone, assert_nothing_open, count, loaded, options, registry, remake, servers};
use datafusion_elasticsearch::EsTable;
use elastic_client::{ConnectionConfig, ConnectionRegistry};
use flowsigma_tests::cluster::{Cluster, Shape, remote_context};
use flowsigma_tests::proxy::{Fault, Proxy};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_an_executor_is_a_json_line_that_names_the_slice() {
    let json = ["--log-format", "json"];
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&url).get("test").unwrap();
        remake(&direct, "logs", 3, "keyword").await;
        let mut pages = 0;
        let proxy = Proxy::start(&url, move |seen| {
            pages += usize::from(seen.page.is_some());
            if seen.page.is_some() && pages % 5 == 0 { Fault::status(503, "busy") } else { Fault::None }
        });
        let proxy = proxy.await.unwrap();
        let config = |url: &str| format!("[connections.prod]\nnodes = [\"{url}\"]\n");
        let shape = Shape {
            scheduler: &config(&url),
            executors: &[&config(&proxy.url)],
            vcores: 1,
            scheduler_args: &json,
            executor_args: &json,
            ..Shape::default()
        };
        let cluster = Cluster::start_as(shape).await.unwrap();
        let registry = Arc::new(ConnectionRegistry::default());
        registry.insert("prod", &ConnectionConfig::from_url(&url).unwrap()).unwrap();
        let ctx = remote_context(Arc::clone(&registry), &cluster.scheduler_url).await.unwrap();
        let with = options(&[("page_size", "100"), ("aggregate", "never")]);
        let table = EsTable::try_new(registry, "prod", "logs", &with).await.unwrap();
        ctx.register_table("t", Arc::new(table)).unwrap();
        assert_eq!(count(&ctx, "SELECT count(src_addr_space) FROM t").await.unwrap(), loaded(), "{url}");

        let logs = cluster.logs();
        let lines: Vec<Value> = logs.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let retries: Vec<&Value> =
            lines.iter().filter(|line| line["fields"]["message"] == "request retried").collect();
        assert!(retries.len() > 3, "{url}: {logs}");
        for line in retries {
            let slice = &line["span"];
            assert_eq!((&slice["name"], &slice["index"]), (&"slice".into(), &"logs".into()), "{url}: {line}");
            assert!((1..=3).contains(&slice["slice"].as_u64().unwrap()) && slice["of"] == 3, "{url}: {line}");
        }
        assert!(lines.iter().any(|line| line["target"] == "ballista_scheduler::scheduler_process"), "{logs}");
        assert_nothing_open(&direct).await;
    }
}

/// The options are Ballista's, which leaves it to programs to heed them.
#[tokio::test(flavor = "multi_thread")]
async fn logs_go_into_files_where_ballistas_options_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["--log-dir", folder.path().to_str().unwrap(), "--log-rotation-policy", "never"];
    let config = "[connections.prod]\nnodes = [\"http://127.0.0.1:1\"]\n";
    let shape = Shape {
        scheduler: config,
        executors: &[config],
        vcores: 1,
        scheduler_args: &args,
        executor_args: &args,
        variables: &[("RUST_LOG", "info")],
        ..Shape::default()
    };
    let cluster = Cluster::start_as(shape).await.unwrap();
    for (program, line) in [("scheduler_", "ballista_scheduler"), ("executor_", "ballista_executor")] {
        let mut files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let of_it = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(program);
        let file = files.find(of_it).unwrap();
        assert!(std::fs::read_to_string(file).unwrap().contains(line), "{program}");
    }
    assert_eq!(cluster.logs().trim(), "");
}
