//! What is told to stop leaves nothing open: a job by Ctrl-C, an executor and a scheduler by SIGTERM.
//! Scrolls are opened by who reads, so that is up to executors.

use crate::command::stderr;
use crate::golden::{alone, assert_nothing_open, loaded, options, registry, remake, servers};
use crate::kill::{Bench, WORK, every_page, nothing};
use ballista_elasticsearch::Job;
use datafusion_elasticsearch::{EsTable, open_contexts};
use elastic_client::{ConnectionConfig, ConnectionRegistry};
use flowsigma_tests::cluster::{binary, remote_context};
use flowsigma_tests::golden::count_open_contexts;
use flowsigma_tests::proxy::{Fault, Proxy, Seen};
use futures::TryStreamExt;
use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

/// The answers to a scroll's later pages, so that its id is known.
fn scroll_pages(seen: &Seen) -> Fault {
    if seen.path == "/_search/scroll" && seen.method == "POST" { Fault::Hold } else { Fault::None }
}

/// The answers by which scrolls are opened, each the only place where its id is.
pub(crate) fn scroll_openings(seen: &Seen) -> Fault {
    let sliced = || String::from_utf8_lossy(&seen.body).contains("\"slice\"");
    if seen.path.ends_with("/_search") && sliced() { Fault::Hold } else { Fault::None }
}

pub(crate) fn signal(child: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.to_string()]).status().unwrap().success());
}

/// Each document has one source.
fn rows(output: &Output) -> i64 {
    String::from_utf8_lossy(&output.stdout).matches("\"src_addr_space\"").count() as i64
}

/// Ballista tells only executors that tasks are pushed to; those that pull them ask.
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_no_scroll_of_two_executors_open() {
    for url in servers() {
        let _alone = alone(&url).await;
        for (opening, policy) in [(false, "push-staged"), (true, "push-staged"), (false, "pull-staged")] {
            let held = if opening { scroll_openings } else { scroll_pages };
            let bench = Bench::with_policy(&url, [held, held], policy).await;
            let client = bench.long_scan(", 'read' 'scroll'");
            bench.held(0).await;
            bench.held(1).await;
            assert!(count_open_contexts(&bench.connection).await.unwrap() > 1, "{url}");
            signal(client.id(), "-INT");
            let output = bench.end(client, WORK);
            assert_eq!(output.status.code(), Some(130), "{url}: {}", stderr(&output));
            // What was held back is of no use any more, but for the ids that were on it.
            if opening {
                bench.release();
            }
            assert_nothing_open(&bench.connection).await;
        }
    }
}

/// As a statement at the prompt is: the process goes on, and reads no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_cancelled_in_this_process_frees_its_scrolls() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        remake(&connection, "stopped", 3, "keyword").await;
        let proxy = Proxy::start(&url, scroll_pages).await.unwrap();
        let cluster = ballista_elasticsearch::Cluster::embedded(registry(&proxy.url)).await.unwrap();
        let table = "CREATE EXTERNAL TABLE t STORED AS ELASTICSEARCH \
                     LOCATION 'elasticsearch://test/stopped' OPTIONS ('read' 'scroll', 'page_size' '1')";
        cluster.context().sql(table).await.unwrap();
        let plan = cluster.context().sql("SELECT * FROM t").await.unwrap().into_unoptimized_plan();
        let (plan, open) = open_contexts(plan).await.unwrap();
        let (job, rows) = Job::submit(&cluster, plan).await.unwrap();
        let reading = tokio::spawn(rows.try_collect::<Vec<_>>());
        proxy.wait_for_held(1).await.unwrap();
        assert!(count_open_contexts(&connection).await.unwrap() > 0, "{url}");
        job.cancel().await.unwrap();
        let error = reading.await.unwrap().expect_err("it was cancelled").to_string();
        assert!(error.contains("ancelled"), "{url}: {error}");
        open.close().await.unwrap();
        assert_nothing_open(&connection).await;
    }
}

/// Freeing takes a second try, so that an executor that ended without waiting for it would be seen.
fn scroll_pages_and_first_frees() -> impl FnMut(&Seen) -> Fault + Send + 'static {
    let mut freed = HashSet::new();
    move |seen| match seen.method == "DELETE" && freed.insert(seen.body.clone()) {
        true => Fault::status(503, "unavailable"),
        false => scroll_pages(seen),
    }
}

/// What is held back never comes, and is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_is_told_to_end_frees_its_scrolls_and_costs_no_row() {
    for url in servers() {
        let _alone = alone(&url).await;
        let mut bench = Bench::new(&url, [scroll_pages, nothing]).await;
        bench.proxies[0].set_rule(scroll_pages_and_first_frees());
        let client = bench.long_scan(", 'read' 'scroll'");
        bench.held(0).await;
        let own = bench.cluster.left_by(0).unwrap();
        let modes: Vec<u32> = own.iter().map(|path| path.metadata().unwrap().mode() & 0o077).collect();
        assert_eq!(modes, [0], "rows for others to read: {own:?}");
        signal(bench.cluster.executor_id(0), "-TERM");
        bench.cluster.wait_for_end(0, WORK).unwrap();
        assert_eq!(bench.cluster.left_by(0).unwrap(), Vec::<PathBuf>::new());
        let output = bench.end(client, WORK);
        assert!(output.status.success(), "{url}: {}; logs:\n{}", stderr(&output), bench.cluster.logs());
        assert_eq!(rows(&output), loaded(), "{url}: {}", stderr(&output));
        assert_nothing_open(&bench.connection).await;
    }
}

/// Those who ask its probe give it no more work, while tasks may still end.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_drains_is_not_ready() {
    for url in servers() {
        let _alone = alone(&url).await;
        for policy in ["pull-staged", "push-staged"] {
            let mut bench = Bench::draining(&url, [scroll_pages, nothing], policy, "60").await;
            let client = bench.long_scan(", 'read' 'scroll'");
            bench.held(0).await;
            bench.cluster.wait_for_probe(0, "/readyz", "200", WORK).await.unwrap();
            signal(bench.cluster.executor_id(0), "-TERM");
            bench.cluster.wait_for_probe(0, "/readyz", "503", WORK).await.unwrap();
            assert!(bench.cluster.probe(0, "/healthz").unwrap().contains("200"), "{policy}");
            bench.release();
            // First: a client whose output nobody reads fetches no more rows.
            let output = bench.end(client, WORK);
            bench.cluster.wait_for_end(0, WORK).unwrap();
            let logs = bench.cluster.logs();
            assert!(output.status.success(), "{url} {policy}: {}; logs:\n{logs}", stderr(&output));
            assert_nothing_open(&bench.connection).await;
        }
    }
}

/// The other executor still reads when the one that drains has ended its tasks.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_drains_serves_its_rows_until_they_are_read() {
    for url in servers() {
        let _alone = alone(&url).await;
        let mut bench = Bench::draining(&url, [nothing, scroll_pages], "pull-staged", "60").await;
        let client = bench.long_scan(", 'read' 'scroll'");
        bench.held(1).await;
        bench.a_task_done().await;
        signal(bench.cluster.executor_id(0), "-TERM");
        bench.cluster.wait_for_probe(0, "/readyz", "503", WORK).await.unwrap();
        bench.release();
        let output = bench.end(client, WORK);
        bench.cluster.wait_for_end(0, WORK).unwrap();
        assert!(output.status.success(), "{url}: {}; logs:\n{}", stderr(&output), bench.cluster.logs());
        assert_eq!(rows(&output), loaded(), "{url}: {}", stderr(&output));
        // A second job would hide that the rows of the first one were lost.
        assert!(!stderr(&output).contains("submitted again"), "{url}: {}", stderr(&output));
        assert_nothing_open(&bench.connection).await;
    }
}

/// Ballista would tell only at the end that nothing answers its probes.
#[test]
fn an_executor_whose_health_port_is_taken_says_so_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let output = Command::new(binary("flowsigma-executor").unwrap())
        .args(["--allow-anyone", "--bind-port", "0", "--bind-health-port", &address.port().to_string()])
        .output()
        .unwrap();
    assert!(!output.status.success());
    for word in ["executor's health server", &address.to_string(), "--bind-health-port"] {
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    }
}

/// They fail with their next page, and the scheduler hears of it. The other executor is busy, so the slice would be
/// given to this one again, as often as a task may fail, if the scheduler had not been told first that it ends.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_executor_breaks_off_at_its_end_is_begun_again_by_another() {
    for url in servers() {
        let _alone = alone(&url).await;
        for policy in ["pull-staged", "push-staged"] {
            let mut bench = Bench::with_policy(&url, [scroll_pages, scroll_pages], policy).await;
            let (free, mut freeing) = tokio::sync::watch::channel(false);
            let mut rule = scroll_pages_and_first_frees();
            bench.proxies[0].set_rule(move |seen| {
                free.send_if_modified(|freeing| seen.method == "DELETE" && !std::mem::replace(freeing, true));
                rule(seen)
            });
            // As many slices as the cluster has vcores.
            let client = bench.long_scan(", 'read' 'scroll', 'slices' '4'");
            let (own, other) =
                tokio::join!(bench.proxies[0].wait_for_held(2), bench.proxies[1].wait_for_held(2));
            own.and(other).unwrap_or_else(|e| panic!("{url} {policy}: {e}; logs:\n{}", bench.cluster.logs()));
            signal(bench.cluster.executor_id(0), "-TERM");
            // Scrolls are freed when the drain has passed.
            tokio::time::timeout(WORK, freeing.wait_for(|freeing| *freeing)).await.unwrap().unwrap();
            bench.proxies[0].release();
            bench.cluster.wait_for_end(0, WORK).unwrap();
            bench.proxies[1].release();
            let output = bench.end(client, WORK);
            let logs = bench.cluster.logs();
            assert!(output.status.success(), "{url} {policy}: {}; logs:\n{logs}", stderr(&output));
            assert_eq!(rows(&output), loaded(), "{url} {policy}: {}", stderr(&output));
            assert_nothing_open(&bench.connection).await;
        }
    }
}

/// For a client that opens no point in time, the scheduler does.
#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_gets_sigterm_closes_the_points_in_time_that_it_has_opened() {
    for url in servers() {
        let _alone = alone(&url).await;
        let mut bench = Bench::new(&url, [every_page, every_page]).await;
        let registry = Arc::new(ConnectionRegistry::default());
        registry.insert("prod", &ConnectionConfig::from_url(&url).unwrap()).unwrap();
        let ctx = remote_context(Arc::clone(&registry), &bench.cluster.scheduler_url).await.unwrap();
        let table = EsTable::try_new(registry, "prod", "kill", &options(&[])).await.unwrap();
        ctx.register_table("t", Arc::new(table)).unwrap();
        let job = tokio::spawn(async move { ctx.sql("SELECT * FROM t").await?.collect().await });
        tokio::select! { () = bench.held(0) => {}, () = bench.held(1) => {} }
        assert!(count_open_contexts(&bench.connection).await.unwrap() > 0, "{url}");
        signal(bench.cluster.scheduler_id().unwrap(), "-TERM");
        bench.cluster.wait_for_scheduler_end(WORK).unwrap();
        assert!(job.await.unwrap().is_err(), "{url}");
        bench.release();
        assert_nothing_open(&bench.connection).await;
    }
}
