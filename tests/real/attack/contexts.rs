//! Points in time that the scheduler opens for clients that open none.

use super::{encoded, table};
use crate::golden::{alone, assert_nothing_open, options, registry, servers};
use ballista_core::serde::protobuf::CancelJobParams;
use ballista_core::serde::protobuf::execute_query_params::Query;
use datafusion_elasticsearch::EsTable;
use elastic_client::{ConnectionConfig, ConnectionRegistry};
use flowsigma_node::Role;
use flowsigma_tests::caller::Caller;
use flowsigma_tests::cluster::{Cluster, POLL_INTERVAL, Shape};
use flowsigma_tests::members::Members;
use flowsigma_tests::proxy::{Fault, Proxy, Seen};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn is_renewal(seen: &Seen) -> bool {
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    body["size"] == 0 && body["track_total_hits"] == false
}

/// Whether rows are requested: the scheduler itself searches for values that were dropped, before it queues a job.
fn is_page(seen: &Seen) -> bool {
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    seen.page.is_some() && body["size"] != 0
}

async fn contexts(caller: &Caller) -> Value {
    let (status, _, body) = caller.http("GET", "/api/contexts", &[]).await.unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn wait_for(operation: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "{operation}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_renews_lists_and_closes_what_it_opens_for_a_client() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&url).get("test").unwrap();
        super::load(&direct).await;
        // The first job's page never comes, the second's once it is released.
        let mut pages = 0;
        let proxy = Proxy::start(&url, move |seen| {
            if !is_page(seen) {
                return Fault::None;
            }
            pages += 1;
            if pages == 1 { Fault::Stall } else { Fault::Hold }
        });
        let proxy = proxy.await.unwrap();
        let certificates = Members::make().unwrap();
        let connection = format!("[connections.prod]\nnodes = [\"{}\"]\n", proxy.url);
        let granted = "connections = [\"prod\"]\nindices = [\"attack-own\"]\n";
        let scheduler = format!(
            "{connection}[access.alice]\n{granted}[access.bob]\n{granted}[access.ops]\njobs = \"all\"\n{}",
            certificates.config(Role::Scheduler, "scheduler").unwrap()
        );
        let executor = format!("{connection}{}", certificates.config(Role::Executor, "executor").unwrap());
        let shape = Shape { scheduler: &scheduler, executors: &[&executor], vcores: 1, ..Shape::default() };
        let cluster = Cluster::start_as(shape).await.unwrap();
        let caller =
            |name: &str| Caller::new(&cluster.scheduler_url, certificates.proof(Role::Client, name).unwrap());
        let (alice, bob, ops) = (caller("alice"), caller("bob"), caller("ops"));
        let plan = {
            let registry = ConnectionRegistry::default();
            registry.insert("prod", &ConnectionConfig::from_url(&url).unwrap()).unwrap();
            let with = options(&[("keep_alive", "2s"), ("read", "pit")]);
            let table = EsTable::try_new(Arc::new(registry), "prod", "attack-own", &with).await.unwrap();
            assert!(table.spec().open_slices.is_none());
            super::index_plan(table, "SELECT note FROM t").await
        };
        let submit = || alice.submit(Some(Query::LogicalPlan(plan.clone())), &[], "");

        let cancelled = submit().await.unwrap();
        let listed = json!([{ "job_id": cancelled, "contexts": 1 }]);
        wait_for("the first page", async || proxy.seen().iter().any(is_page)).await;
        assert_eq!((contexts(&alice).await, contexts(&ops).await), (listed.clone(), listed), "{url}");
        assert_eq!(contexts(&bob).await, json!([]), "{url}");
        let params = CancelJobParams { job_id: cancelled.clone() };
        alice.scheduler().await.unwrap().cancel_job(alice.request(params)).await.unwrap();
        assert_nothing_open(&direct).await;
        wait_for("no context of a cancelled job", async || contexts(&ops).await == json!([])).await;

        let held = submit().await.unwrap();
        proxy.wait_for_held(1).await.unwrap();
        let before = proxy.seen().iter().filter(|seen| is_renewal(seen)).count();
        // Three times the time after which the server would have dropped it.
        wait_for("renewals", async || {
            proxy.seen().iter().filter(|seen| is_renewal(seen)).count() >= before + 6
        })
        .await;
        assert_eq!(contexts(&alice).await, json!([{ "job_id": held, "contexts": 1 }]), "{url}");
        proxy.release();
        alice.end(&held).await.unwrap().unwrap();
        assert_nothing_open(&direct).await;
        wait_for("no context of a job that has ended", async || contexts(&ops).await == json!([])).await;

        // A job that is refused opens nothing.
        let registry = super::connections(&url);
        let other =
            super::index_plan(table(&registry, "prod", "attack-secret").await, "SELECT note FROM t").await;
        let asked = proxy.seen().len();
        alice.submit(Some(Query::LogicalPlan(other)), &[], "").await.unwrap_err();
        assert_eq!(proxy.seen().len(), asked, "{url}");
        alice.run(&encoded(&super::statement("SELECT 1").await)).await;
    }
}
