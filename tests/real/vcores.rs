//! How many partitions an executor, or the embedded cluster, reads at once.

use crate::command::{assert_golden, captured, stderr};
use crate::golden::{alone, registry, remake, servers};
use crate::kill::{WORK, end, every_page};
use elastic_client::{Method, Request};
use flowsigma_tests::cluster::{Cluster, Shape};
use flowsigma_tests::golden::NOTEBOOK_QUERY;
use flowsigma_tests::proxy::{Fault, Proxy, Seen};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_has_no_more_partitions_than_vcores() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        remake(&connection, "vcores", 3, "keyword").await;
        let proxy = Proxy::start(&url, every_page).await.unwrap();
        let config = |url: &str| format!("[connections.prod]\nnodes = [\"{url}\"]\n");
        // The client and the scheduler reach the server directly: only the executor's pages are held.
        let (direct, held_back) = (config(&url), config(&proxy.url));
        let shape = Shape { scheduler: &direct, executors: &[&held_back], vcores: 2, ..Shape::default() };
        let cluster = Cluster::start_as(shape).await.unwrap();
        let client =
            captured(&["detect", "--connection", "prod", "--index", "vcores", "--query", NOTEBOOK_QUERY])
                .args(["--slices", "8", "--option", "aggregate=never", "--format", "json"])
                .args(["--scheduler", &cluster.scheduler_url, "--config"])
                .arg(cluster.folder.path().join("flowsigma.toml"))
                .spawn()
                .unwrap();
        let held = proxy.wait_for_held(2).await;
        held.unwrap_or_else(|e| panic!("{e}; logs:\n{}", cluster.logs()));

        let ask = async |path: String| -> Value {
            let request = Request::new(Method::Get, path, "jobs");
            cluster.rest().unwrap().send(&request).await.unwrap().json("jobs").unwrap()
        };
        let job = ask("/api/jobs".into()).await[0]["job_id"].as_str().unwrap().to_owned();
        let stages = ask(format!("/api/job/{job}/stages")).await;
        let tasks = stages["stages"].as_array().unwrap().iter().flat_map(|s| s["tasks"].as_array().unwrap());
        let of_task = |task: &Value| task["partition_id"].as_array().map(Vec::len);
        let partitions: Vec<usize> = tasks.filter_map(of_task).collect();
        assert_eq!(partitions, [1, 1], "{url}: {stages}");

        proxy.release();
        let output = end(client, WORK).unwrap_or_else(|said| panic!("{}", stderr(&said)));
        assert!(output.status.success(), "{url}: {}", stderr(&output));
        assert_golden(&serde_json::from_slice(&output.stdout).unwrap(), &url);
    }
}

/// A page of the first search of rows, but none of those that only count.
fn every_page_of_rows(seen: &Seen) -> Fault {
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    if body["size"].as_u64().is_some_and(|size| size > 0) { every_page(seen) } else { Fault::None }
}

/// It has as many threads as cores, but reading waits for the server.
#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_cluster_reads_four_slices_at_once_on_few_cores() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        remake(&connection, "vcores", 3, "keyword").await;
        let proxy = Proxy::start(&url, every_page_of_rows).await.unwrap();
        let client = captured(&["detect", "--index", "vcores", "--query", NOTEBOOK_QUERY, "--slices", "8"])
            .args(["--option", "aggregate=never", "--format", "json", "--url", &proxy.url])
            .spawn()
            .unwrap();
        proxy.wait_for_held(4).await.unwrap();
        proxy.release();
        let output = end(client, WORK).unwrap_or_else(|said| panic!("{}", stderr(&said)));
        assert!(output.status.success(), "{url}: {}", stderr(&output));
        assert_golden(&serde_json::from_slice(&output.stdout).unwrap(), &url);
    }
}
