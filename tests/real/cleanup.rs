//! Whatever ends a read, the server holds nothing open for it afterwards.

use crate::command::{captured, stderr};
use crate::faults::{ids, registry, whole};
use crate::golden::{alone, assert_nothing_open, remake, servers};
use crate::kill::end;
use crate::stopped::{scroll_openings, signal};
use datafusion::arrow::array::AsArray;
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{EsTable, open_contexts};
use elastic_client::{ContextRequest, Method, ReadMode, ReadOptions, Request, open_context};
use flowsigma_tests::cluster::POLL_INTERVAL;
use flowsigma_tests::golden::count_open_contexts;
use flowsigma_tests::proxy::{Fault, Proxy, Seen};
use futures::StreamExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request that gets no response ends by itself after 60 s.
const BEFORE_REQUESTS_END: Duration = Duration::from_secs(30);

/// Holds back each page from the `nth` on, from 0.
fn hold_from(nth: usize) -> impl FnMut(&Seen) -> Fault + Send + 'static {
    move |seen| if seen.page.is_some_and(|page| page >= nth) { Fault::Hold } else { Fault::None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_read_frees_its_snapshot_and_its_scrolls_at_every_page() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        remake(&direct, "dropped", 3, "keyword").await;
        assert_nothing_open(&direct).await;
        for read in ["pit", "scroll"] {
            // Pages 0 to 2 open the scrolls of three slices.
            for page in 0..6 {
                let proxy = Proxy::start(&url, hold_from(page)).await.unwrap();
                let registry = registry(&[&proxy.url], None);
                let reading = tokio::spawn(async move {
                    let with = [("read", read), ("metadata", "true"), ("page_size", "200")];
                    ids(&registry, "dropped", &with).await
                });
                proxy.wait_for_held(1).await.unwrap();
                reading.abort();
                assert!(reading.await.unwrap_err().is_cancelled(), "{url} {read} {page}");
                proxy.release();
                assert_nothing_open(&direct).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_being_opened_is_freed_when_its_query_is_dropped() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        remake(&direct, "dropped", 3, "keyword").await;
        assert_nothing_open(&direct).await;
        let opens = |seen: &Seen| seen.path.ends_with("/_pit") || seen.path.ends_with("/point_in_time");
        let proxy = Proxy::start(&url, move |seen| if opens(seen) { Fault::Hold } else { Fault::None });
        let proxy = proxy.await.unwrap();
        let registry = registry(&[&proxy.url], None);
        let reading =
            tokio::spawn(
                async move { ids(&registry, "dropped", &[("read", "pit"), ("metadata", "true")]).await },
            );
        proxy.wait_for_held(1).await.unwrap();
        assert!(count_open_contexts(&direct).await.unwrap() > 0, "{url}");
        reading.abort();
        assert!(reading.await.unwrap_err().is_cancelled(), "{url}");
        proxy.release();
        assert_nothing_open(&direct).await;
    }
}

/// Two points in time, the second of which gets no response; and then nothing does.
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_does_not_wait_for_a_server_that_hangs() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        for all_hangs in [false, true] {
            for command in ["sql", "plan"] {
                let how = format!("{url} {command} {all_hangs}");
                for index in ["hanging-a", "hanging-b"] {
                    remake(&direct, index, 1, "keyword").await;
                }
                assert_nothing_open(&direct).await;
                let mut hangs = false;
                let rule = move |seen: &Seen| {
                    let opens = seen.path.ends_with("/_pit") || seen.path.ends_with("/point_in_time");
                    // Elasticsearch has one for the pattern that `plan` names.
                    let last = seen.path.contains("hanging-b") || seen.path.contains("hanging-*");
                    hangs |= opens && last;
                    // `plan` opens both at the same time: the other one's response comes in any order.
                    let held = opens && last || hangs && all_hangs && !opens;
                    if held { Fault::Hold } else { Fault::None }
                };
                let proxy = Proxy::start(&url, rule).await.unwrap();
                let table = |name: &str| {
                    format!(
                        "CREATE EXTERNAL TABLE {name} STORED AS ELASTICSEARCH \
                         LOCATION 'elasticsearch://url/hanging-{name}'; "
                    )
                };
                let sql = table("a") + &table("b") + "SELECT count(*) FROM a, b";
                let args: &[&str] = match command {
                    "sql" => &["sql", "--url", &proxy.url, "-c", &sql],
                    _ => &["plan", "--url", &proxy.url, "--index", "hanging-*"],
                };
                let running = captured(args).spawn().unwrap();
                proxy.wait_for_held(1).await.unwrap();
                // Both are open, whether or not the client knows it.
                while count_open_contexts(&direct).await.unwrap() < 2 {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                let asked = Instant::now();
                signal(running.id(), "-INT");
                let ended =
                    tokio::task::spawn_blocking(|| running.wait_with_output()).await.unwrap().unwrap();
                let took = asked.elapsed();
                let said = String::from_utf8_lossy(&ended.stderr).into_owned();
                assert_eq!(ended.status.code(), Some(130), "{how}: {said}");
                // A process that ends by itself waits up to 10 s for what is being closed.
                assert!(took < Duration::from_secs(8), "{how}: {took:?}");
                // The one that was open is closed; of the other nobody knows the id.
                let one_for_all =
                    command == "plan" && !proxy.seen().iter().any(|s| s.path.contains("point_in_time"));
                let left = if one_for_all { 2 } else { 1 };
                let deadline = Instant::now() + Duration::from_secs(20);
                while count_open_contexts(&direct).await.unwrap() > left {
                    assert!(Instant::now() < deadline, "{how}: more than {left} open");
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                for index in ["hanging-a", "hanging-b"] {
                    direct.send(&Request::new(Method::Delete, format!("/{index}"), "delete")).await.unwrap();
                }
                assert_nothing_open(&direct).await;
            }
        }
    }
}

/// The server takes the requests that close the points in time, and does not answer them.
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_job_whose_server_hangs() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        remake(&direct, "hanging", 3, "keyword").await;
        let mut hangs = false;
        let rule = move |seen: &Seen| {
            hangs |= seen.page.is_some();
            if hangs { Fault::Hold } else { Fault::None }
        };
        let proxy = Proxy::start(&url, rule).await.unwrap();
        let sql = "CREATE EXTERNAL TABLE t STORED AS ELASTICSEARCH LOCATION 'elasticsearch://url/hanging'; \
                   SELECT count(src_addr_space) FROM t";
        let running = captured(&["sql", "--url", &proxy.url, "-c", sql]).spawn().unwrap();
        proxy.wait_for_held(1).await.unwrap();
        signal(running.id(), "-INT");
        let ended = tokio::task::spawn_blocking(|| end(running, BEFORE_REQUESTS_END)).await.unwrap().unwrap();
        assert_eq!(ended.status.code(), Some(130), "{url}: {}", stderr(&ended));
        proxy.release();
        assert_nothing_open(&direct).await;
    }
}

/// Ctrl-C and SIGTERM, before and while pages are read, on the command line with its own cluster.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_command_frees_what_it_holds_and_fails() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        remake(&direct, "dropped", 3, "keyword").await;
        assert_nothing_open(&direct).await;
        for (read, page, sent) in
            [("pit", 0, "-INT"), ("pit", 4, "-TERM"), ("scroll", 0, "-INT"), ("scroll", 4, "-INT")]
        {
            let how = format!("{url} {read} {page} {sent}");
            let mut later = hold_from(page);
            let rule = move |seen: &Seen| match (read, page) {
                // Before that each looks for values that the server ignored.
                ("scroll", 0) => scroll_openings(seen),
                _ => later(seen),
            };
            let proxy = Proxy::start(&url, rule).await.unwrap();
            let folder = tempfile::tempdir().unwrap();
            let config = folder.path().join("flowsigma.toml");
            std::fs::write(&config, format!("[connections.test]\nnodes = [\"{}\"]\n", proxy.url)).unwrap();
            let sql = format!(
                "CREATE EXTERNAL TABLE t STORED AS ELASTICSEARCH LOCATION 'elasticsearch://test/dropped' \
                 OPTIONS ('read' '{read}', 'page_size' '200'); SELECT src_addr_space FROM t"
            );
            let command =
                captured(&["--config", config.to_str().unwrap(), "sql", "-c", &sql]).spawn().unwrap();
            proxy.wait_for_held(1).await.unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            while count_open_contexts(&direct).await.unwrap() == 0 {
                assert!(Instant::now() < deadline, "{how}: nothing is opened");
            }
            signal(command.id(), sent);
            // Nothing is released before the command had its chance to go without freeing.
            let freed = |seen: &Seen| seen.method == "DELETE";
            if page > 0 {
                let deadline = Instant::now() + Duration::from_secs(60);
                while !proxy.seen().iter().any(freed) {
                    assert!(Instant::now() < deadline, "{how}: nothing is freed");
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            }
            proxy.release();
            let ended =
                tokio::task::spawn_blocking(move || command.wait_with_output()).await.unwrap().unwrap();
            assert_eq!(ended.status.code(), Some(130), "{how}: {ended:?}");
            assert!(String::from_utf8_lossy(&ended.stderr).contains("interrupted"), "{how}: {ended:?}");
            assert_nothing_open(&direct).await;
        }
    }
}

/// Servers look for what has expired once a minute, so this waits until they have found one that
/// nobody keeps alive; the other one is then older than ten times its `keep_alive`.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_outlives_a_consumer_slower_than_keep_alive() {
    let checks = servers().into_iter().map(|url| async move {
        let _alone = alone(&url).await;
        let registry = registry(&[&url], None);
        let connection = registry.get("test").unwrap();
        remake(&connection, "slow", 3, "keyword").await;
        assert_nothing_open(&connection).await;
        let with = [("read", "pit"), ("metadata", "true"), ("page_size", "200"), ("keep_alive", "5s")];
        let options = crate::golden::options(&with);
        let table = EsTable::try_new(Arc::clone(&registry), "test", "slow", &options).await.unwrap();
        let ctx = SessionContext::new();
        ctx.register_table("t", Arc::new(table)).unwrap();
        let plan = ctx.sql("SELECT _id FROM t").await.unwrap().into_unoptimized_plan();
        let (plan, open) = open_contexts(plan).await.unwrap();
        let mut batches = ctx.execute_logical_plan(plan).await.unwrap().execute_stream().await.unwrap();
        let mut read = Vec::new();
        let mut take = |batch: datafusion::arrow::record_batch::RecordBatch| {
            read.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
        };
        take(batches.next().await.unwrap().unwrap());
        let held = count_open_contexts(&connection).await.unwrap();
        assert!(held > 0, "{url}");
        let request = ContextRequest {
            index: "slow".into(),
            read: ReadOptions {
                mode: ReadMode::Pit,
                keep_alive: "1s".parse().unwrap(),
                ..ReadOptions::default()
            },
            slices: None,
            matching: None,
        };
        open_context(&connection, &request).await.unwrap();
        assert!(count_open_contexts(&connection).await.unwrap() > held, "{url}");
        let deadline = Instant::now() + Duration::from_secs(150);
        while count_open_contexts(&connection).await.unwrap() > held {
            assert!(Instant::now() < deadline, "{url}: the server drops nothing");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        while let Some(batch) = batches.next().await {
            take(batch.map_err(|e| format!("{url}: {e}")).unwrap());
        }
        whole(&read).unwrap();
        open.close().await.unwrap();
        assert_nothing_open(&connection).await;
    });
    futures::future::join_all(checks).await;
}
