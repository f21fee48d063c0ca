//! The links of a cluster over TLS: the same numbers, and nothing for those without a certificate.

use crate::golden::{alone, assert_golden, assert_nothing_open, detect, remake, run};
use crate::security::{admin, parsed, registry};
use elastic_client::{Connection, ConnectionConfig, Method, Request, Tls, Verify};
use flowsigma_tests::certificates::Certificates;
use flowsigma_tests::cluster::Cluster;
use flowsigma_tests::cluster::configured_context;
use flowsigma_tests::golden::NOTEBOOK_QUERY;
use flowsigma_tests::secured::{READABLE_INDEX, Secured};
use std::sync::Arc;

/// How a count on the cluster fails, or its rows.
async fn try_job(config: &str, scheduler_url: &str) -> Result<usize, String> {
    let ctx = configured_context(registry(config), &parsed(config), scheduler_url)
        .await
        .map_err(|e| e.to_string())?;
    let batches = run(&ctx, "SELECT 1 AS one").await.map_err(|e| e.to_string())?;
    Ok(batches.iter().map(|batch| batch.num_rows()).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_certificates_gives_the_golden_numbers() {
    let server = Secured::from_env().unwrap();
    let _alone = alone(&server.url).await;
    let admin = admin(&server);
    remake(&admin, READABLE_INDEX, 3, "keyword").await;
    let certificates = Certificates::make().unwrap();
    let config = format!("{}{}", server.reader_config(), certificates.config(&certificates));
    let cluster = Cluster::start(2, 2, &config).await.unwrap();
    let registry = registry(&config);
    let ctx =
        configured_context(Arc::clone(&registry), &parsed(&config), &cluster.scheduler_url).await.unwrap();
    for read in ["pit", "scroll"] {
        let with = [("query", NOTEBOOK_QUERY), ("read", read), ("slices", "4"), ("page_size", "50")];
        assert_golden(&detect(&ctx, &registry, READABLE_INDEX, &with).await, read);
    }
    assert_nothing_open(&admin).await;
    for executor in ["executor-0", "executor-1"] {
        let log = std::fs::read_to_string(cluster.folder.path().join(format!("{executor}.log"))).unwrap();
        assert!(log.contains("the executor pulls tasks"), "{log}");
    }
    for probe in ["/healthz", "/readyz"] {
        cluster.rest().unwrap().send(&Request::new(Method::Get, probe, probe)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_certificate_of_the_cluster_is_refused() {
    let (ours, theirs) = (Certificates::make().unwrap(), Certificates::make().unwrap());
    let cluster = Cluster::start(1, 1, &ours.config(&ours)).await.unwrap();
    let url = cluster.scheduler_url.as_str();
    assert_eq!(try_job(&ours.config(&ours), url).await, Ok(1));
    // Of another authority, no certificate at all, and one who takes the scheduler for another.
    for (how, config) in
        [("stranger", theirs.config(&ours)), ("plain", String::new()), ("misled", ours.config(&theirs))]
    {
        let text = try_job(&config, url).await.unwrap_err();
        assert!(!text.is_empty(), "{how}");
    }
    // Neither are the REST endpoints, nor an executor's port.
    let executor = format!("https://127.0.0.1:{}", cluster.executor_ports()[0]);
    for (port_url, status) in [(url, 401), (executor.as_str(), 403)] {
        let mut config = ConnectionConfig::from_url(port_url).unwrap();
        config.tls = Tls { verify: Verify::Off, ..Tls::default() };
        let stranger = Connection::try_new("stranger", &config).unwrap();
        let ask = Request::new(Method::Get, "/api/executors", "executors");
        let error = stranger.send(&ask).await.unwrap_err();
        assert_eq!(error.status(), Some(status), "{error}");
    }
    cluster.rest().unwrap().send(&Request::new(Method::Get, "/api/executors", "executors")).await.unwrap();
}

#[tokio::test]
async fn files_that_are_no_certificates_are_named() {
    let ours = Certificates::make().unwrap();
    let good = ours.config(&ours);
    for (config, part) in
        [(good.replace("node.key", "none.key"), "none.key"), (good.replace("node.key", "ca.pem"), "ca.pem")]
    {
        let context = configured_context(registry(&config), &parsed(&config), "http://127.0.0.1:1").await;
        let error = context.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("[cluster] tls") && error.contains(part), "{error}");
    }
}
