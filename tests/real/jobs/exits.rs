//! How runs end: another run holds the lease, a sink is owed findings, an address stands out; and on two executors as inside
//! the program.

use super::bench::{JobFolder, JobText, end_of};
use super::flows::{Flows, HOUR, Planted, delete, millis, time};
use super::place::{Place, alerts};
use crate::command::{stderr, stdout};
use crate::golden::{alone, assert_nothing_open, registry, servers};
use elastic_client::Connection;
use flowsigma_tests::cluster::Cluster;
use flowsigma_tests::proxy::{Fault, Proxy};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::sync::Arc;

const START: &str = "2026-03-03T00:00:00Z";
const JOB: &str = "exits";
const ALERTS: &str = "exits-alerts";

/// The time at which an hour is due.
fn due(hour: i64) -> String {
    time(millis(START) + (hour + 1) * HOUR)
}

/// Loads two hours: nothing stands out in the first one.
async fn load(connection: &Arc<Connection>) -> Flows {
    let mut flows = Flows::new(connection, JOB).await;
    let mut rng = StdRng::seed_from_u64(12);
    flows.load_window(millis(START), HOUR, Planted::NONE, &mut rng).await;
    flows.load_window(millis(START) + HOUR, HOUR, Planted::BOTH, &mut rng).await;
    flows
}

/// Writes the job with a store in the folder.
fn write(folder: &JobFolder, sinks: &str) -> Place {
    let place = Place::folder(&folder.path("store"));
    let window = format!("every = \"1h\"\ndelay = \"0s\"\nfrom = \"{START}\"");
    let sections = [place.section.as_str(), sinks];
    folder.write(JOB, &JobText { name: JOB, index: JOB, window: &window, sections: &sections }.text());
    place
}

fn states(folder: &JobFolder) -> Vec<Value> {
    folder.windows(JOB, &due(1)).iter().map(|window| window["state"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_ends_with_3_and_two_do_one() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        load(&connection).await;
        let proxy = Proxy::start(&url, |seen| match seen.path.ends_with("/_search") {
            true => Fault::Hold,
            false => Fault::None,
        });
        let proxy = proxy.await.unwrap();
        let folder = JobFolder::new(&[("prod", &proxy.url)]);
        let place = write(&folder, "");
        let mut first = folder.start(JOB, &["run", "--now", &due(1)], "first.log");
        // Both slices: after that, the first run asks for nothing.
        proxy.wait_for_held(2).await.unwrap();
        let requests = proxy.seen().len();
        let second = folder.job(JOB, &["run", "--now", &due(1)]);
        assert_eq!((second.status.code(), stdout(&second)), (Some(3), ""), "{}", stderr(&second));
        // Host and process of the first one.
        let holder = format!(" {}", first.id());
        assert!(stderr(&second).contains(&holder), "{holder}: {}", stderr(&second));
        let backfill = ["backfill", "--from", START, "--to", &due(1), "--now", &due(1)];
        assert_eq!(folder.job(JOB, &backfill).status.code(), Some(3));
        assert_eq!(proxy.seen().len(), requests, "{url}");
        assert_eq!(place.paths().await.iter().filter(|path| path.contains("/windows/")).count(), 0);

        proxy.release();
        let status = end_of(&mut first).await;
        assert!(status.success(), "{}", folder.log("first.log"));
        assert_eq!(states(&folder), ["done", "done"]);
        let third = folder.job(JOB, &["run", "--now", &due(1)]);
        assert_eq!(third.status.code(), Some(0), "{}", stderr(&third));
        let revisions: Vec<usize> = place.manifests(JOB).await.values().map(Vec::len).collect();
        assert_eq!(revisions, [1, 1]);
        assert_nothing_open(&connection).await;
    }
}

fn accepted() -> Fault {
    Fault::Response { status: 200, header: None, body: "{}".into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_owes_a_sink_ends_with_4_and_the_next_one_delivers() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        let flows = load(&connection).await;
        delete(&connection, ALERTS).await;
        let index = Proxy::start(&url, |_| Fault::status(403, "security_exception")).await.unwrap();
        let hook = Proxy::start(&url, |_| Fault::status(403, "forbidden")).await.unwrap();
        let folder = JobFolder::new(&[("prod", &url), ("alerts", &index.url)]);
        let findings = folder.path("findings.ndjson");
        let sinks = format!(
            "[[sinks]]\ntype = \"index\"\nconnection = \"alerts\"\nindex = \"{ALERTS}\"\n\
             [[sinks]]\ntype = \"webhook\"\nurl = \"{}/hook\"\n\
             [[sinks]]\ntype = \"file\"\npath = \"{}\"",
            hook.url,
            findings.display()
        );
        write(&folder, &sinks);
        let run = || folder.job(JOB, &["run", "--now", &due(1)]);
        let in_file = || std::fs::read_to_string(&findings).unwrap().lines().count();

        let first = run();
        assert_eq!(first.status.code(), Some(4), "{}", stderr(&first));
        for word in ["index", "webhook", "403", "the next run delivers"] {
            assert!(stderr(&first).contains(word), "{word}: {}", stderr(&first));
        }
        // A window without findings owes nothing, and one sink that fails does not keep another from its findings.
        assert_eq!(states(&folder), ["done", "owed"]);
        assert_eq!(in_file(), flows.planted.len());

        index.set_rule(|_| Fault::None);
        let second = run();
        assert_eq!(second.status.code(), Some(4), "{}", stderr(&second));
        assert_eq!(states(&folder), ["done", "owed"]);
        hook.set_rule(|_| accepted());
        let third = run();
        assert_eq!(third.status.code(), Some(0), "{}", stderr(&third));
        assert_eq!(states(&folder), ["done", "done"]);
        assert_eq!(alerts(&url, ALERTS).await, flows.planted());
        let delivered: Value = serde_json::from_slice(&hook.seen().last().unwrap().body).unwrap();
        assert_eq!(delivered["alerts"].as_array().map(Vec::len), Some(flows.planted.len()), "{delivered}");
        assert_eq!(delivered["window"]["start"], time(millis(START) + HOUR));

        let requests = (index.seen().len(), hook.seen().len());
        assert_eq!(run().status.code(), Some(0));
        assert_eq!((index.seen().len(), hook.seen().len()), requests, "no second delivery");
        assert_eq!(in_file(), flows.planted.len());
        assert_nothing_open(&connection).await;
        delete(&connection, ALERTS).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_finds_an_address_ends_with_10_if_asked_to() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        let flows = load(&connection).await;
        let folder = JobFolder::new(&[("prod", &url)]);
        write(&folder, "");
        let run = |hour: i64| {
            let now = due(hour);
            let ended = folder.job(JOB, &["run", "--fail-on-findings", "--format", "json", "--now", &now]);
            (ended.status.code(), stdout(&ended).lines().count())
        };
        assert_eq!(run(0), (Some(0), 1), "nothing stands out");
        assert_eq!(run(1), (Some(10), 1));
        assert_eq!(run(1), (Some(0), 0), "nothing is due");
        let (now, start) = (due(1), time(millis(START) + HOUR));
        let again = ["run", "--window", &start, "--fail-on-findings", "--format", "json", "--now", &now];
        let again = folder.job(JOB, &again);
        assert_eq!(again.status.code(), Some(10), "{}", stderr(&again));
        let found: Value = serde_json::from_str(stdout(&again)).unwrap();
        assert_eq!(found["findings"].as_array().map(Vec::len), Some(flows.planted.len()));
        assert_eq!(json!(states(&folder)), json!(["done", "done"]));
        assert_nothing_open(&connection).await;
    }
}

/// The same windows on a scheduler with two executors as on the cluster inside the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_two_executors_has_the_documents_and_findings_of_one_inside_the_program() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        let flows = load(&connection).await;
        let config = format!("[connections.prod]\nnodes = [\"{url}\"]\n");
        let cluster = Cluster::start(2, 2, &config).await.unwrap();
        let mut seen = Vec::new();
        for scheduler in [None, Some(cluster.scheduler_url.as_str())] {
            let folder = JobFolder::new(&[("prod", &url)]);
            let place = write(&folder, "");
            let (now, mut args) = (due(1), vec!["run", "--now"]);
            args.push(&now);
            args.extend(scheduler.iter().flat_map(|url| ["--scheduler", url]));
            let run = folder.job(JOB, &args);
            assert!(run.status.success(), "{url}: {}", stderr(&run));
            let manifests = place.manifests(JOB).await;
            let newest = manifests.values().filter_map(|revisions| revisions.last());
            seen.push(newest.map(|m| (m["documents"].clone(), m["findings"].clone())).collect::<Vec<_>>());
        }
        assert_eq!(seen[0], seen[1], "{url}");
        let documents: Vec<Value> = seen[1].iter().map(|(documents, _)| documents.clone()).collect();
        assert_eq!(json!(documents), json!(flows.documents.values().collect::<Vec<_>>()), "{url}");
        assert_nothing_open(&connection).await;
    }
}
