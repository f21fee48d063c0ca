//! What is left of a job when a process of the cluster is killed: the exact result or a clear error,
//! within the time that docs/operations.md gives, and no point in time open once the client is done.
//!
//! Where a process dies is decided by what the proxies before the server hold back, one proxy for
//! each executor.

use crate::command::{assert_golden, captured, stderr};
use crate::golden::{alone, assert_nothing_open, registry, remake, servers};
use elastic_client::{Connection, Method, Request};
use flowsigma_tests::cluster::{Cluster, Shape};
use flowsigma_tests::golden::{NOTEBOOK_QUERY, count_open_contexts};
use flowsigma_tests::proxy::{Fault, Proxy, Seen};
use serde_json::Value;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

const EXECUTOR_TIMEOUT: u64 = 12;
const CHECKED_EVERY: u64 = 1;
const GRACE: u64 = 2;
const TERMINATION_GRACE: u64 = 3;
/// What a job takes beside waiting for the dead, on a busy machine with debug builds.
pub(crate) const WORK: Duration = Duration::from_secs(90);

fn config(name: &str, url: &str) -> String {
    format!("[connections.{name}]\nnodes = [\"{url}\"]\n")
}

/// Two executors that read through a proxy each, and a client that reaches the server directly.
pub(crate) struct Bench {
    pub(crate) connection: std::sync::Arc<Connection>,
    pub(crate) proxies: [Proxy; 2],
    pub(crate) cluster: Cluster,
}

impl Bench {
    pub(crate) async fn new(url: &str, rules: [fn(&Seen) -> Fault; 2]) -> Self {
        Self::with_policy(url, rules, "push-staged").await
    }

    /// Tasks are given out as `policy` says.
    pub(crate) async fn with_policy(url: &str, rules: [fn(&Seen) -> Fault; 2], policy: &str) -> Self {
        Self::draining(url, rules, policy, "0").await
    }

    /// Executors wait for `drain` seconds for their tasks on SIGTERM.
    pub(crate) async fn draining(
        url: &str,
        rules: [fn(&Seen) -> Fault; 2],
        policy: &str,
        drain: &str,
    ) -> Self {
        let connection = registry(url).get("test").unwrap();
        // A server holds scrolls whose answers other tests have broken.
        let free = Request::new(Method::Delete, "/_search/scroll/_all", "free all scrolls");
        connection.send(&free).await.ok();
        remake(&connection, "kill", 3, "keyword").await;
        let proxies =
            [Proxy::start(url, rules[0]).await.unwrap(), Proxy::start(url, rules[1]).await.unwrap()];
        let executors = [config("prod", &proxies[0].url), config("prod", &proxies[1].url)];
        let shape = Shape {
            scheduler: &config("prod", url),
            executors: &[&executors[0], &executors[1]],
            vcores: 2,
            scheduler_args: &[
                "--scheduler-policy",
                policy,
                "--executor-timeout-seconds",
                &EXECUTOR_TIMEOUT.to_string(),
                "--expire-dead-executor-interval-seconds",
                &CHECKED_EVERY.to_string(),
                "--no-executors-grace-period-seconds",
                &GRACE.to_string(),
                "--executor-termination-grace-period",
                &TERMINATION_GRACE.to_string(),
            ],
            executor_args: &[
                "--task-scheduling-policy",
                policy,
                "--executor-heartbeat-interval-seconds",
                "1",
                "--drain-timeout-seconds",
                drain,
            ],
            allow_anyone: policy == "push-staged",
            ..Shape::default()
        };
        let cluster = Cluster::start_as(shape).await.unwrap();
        Self { connection, proxies, cluster }
    }

    /// 8 slices, so that there are more tasks than vcores, and all of them are read page by page.
    fn detect(&self) -> Child {
        let here = ["--connection", "prod", "--index", "kill", "--query", NOTEBOOK_QUERY, "--slices", "8"];
        self.client("detect", &[&["--format", "json", "--option", "aggregate=never"], &here[..]].concat())
    }

    /// 1,730 pages, and a slice a task, so that no executor takes all of them.
    pub(crate) fn long_scan(&self, options: &str) -> Child {
        let sql = format!(
            "SET ballista.scheduler.max_partitions_per_task = 1; \
             CREATE EXTERNAL TABLE t STORED AS ELASTICSEARCH LOCATION 'elasticsearch://prod/kill' \
             OPTIONS ('page_size' '1'{options}); SELECT * FROM t"
        );
        self.client("sql", &["--format", "json", "-c", &sql])
    }

    fn client(&self, command: &str, args: &[&str]) -> Child {
        captured(&[command])
            .args(args)
            .args(["--scheduler", &self.cluster.scheduler_url, "--config"])
            .arg(self.cluster.folder.path().join("flowsigma.toml"))
            .spawn()
            .unwrap()
    }

    pub(crate) async fn held(&self, proxy: usize) {
        let held = self.proxies[proxy].wait_for_held(1).await;
        held.unwrap_or_else(|e| panic!("{e}; logs:\n{}", self.cluster.logs()));
    }

    pub(crate) fn release(&self) {
        self.proxies.iter().for_each(Proxy::release);
    }

    /// The end of a client, within `most` from now.
    pub(crate) fn end(&self, client: Child, most: Duration) -> Output {
        end(client, most).unwrap_or_else(|said| {
            panic!("no end after {most:?}: {}; logs:\n{}", stderr(&said), self.cluster.logs())
        })
    }

    /// One page is a slice, so more than 8 say that some were read again.
    fn assert_read_again(&self) {
        let pages: usize = self.proxies.iter().map(Proxy::pages).sum();
        assert!(pages > 8, "{pages} pages: nothing was lost; logs:\n{}", self.cluster.logs());
    }

    fn assert_exact(&self, output: &Output, how: &str) {
        assert!(output.status.success(), "{how}: {}; logs:\n{}", stderr(output), self.cluster.logs());
        let response: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_golden(&response, how);
        assert_eq!(response["coverage"]["slices"], 8, "{how}");
    }

    async fn ask(&self, path: String) -> Value {
        let rest = self.cluster.rest().unwrap();
        rest.send(&Request::new(Method::Get, path, "jobs")).await.unwrap().json("jobs").unwrap()
    }

    /// Waits until a task of the only job has ended well.
    pub(crate) async fn a_task_done(&self) {
        let jobs = self.ask("/api/jobs".into()).await;
        let job = jobs[0]["job_id"].as_str().unwrap();
        let deadline = Instant::now() + WORK;
        loop {
            let stages = self.ask(format!("/api/job/{job}/stages")).await;
            let stages = stages["stages"].as_array().unwrap();
            if stages.iter().flat_map(|s| s["tasks"].as_array().unwrap()).any(|t| t["status"] == "Successful")
            {
                return;
            }
            assert!(Instant::now() < deadline, "no task ended: {stages:?}");
        }
    }
}

/// What a client says, or what it said until it was killed after `most`.
pub(crate) fn end(client: Child, most: Duration) -> Result<Output, Output> {
    let id = client.id();
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(client.wait_with_output().unwrap()));
    ended.recv_timeout(most).map_err(|_| {
        Command::new("kill").args(["-KILL", &id.to_string()]).status().unwrap();
        ended.recv().unwrap()
    })
}

pub(crate) fn nothing(_: &Seen) -> Fault {
    Fault::None
}

pub(crate) fn every_page(seen: &Seen) -> Fault {
    seen.page.map_or(Fault::None, |_| Fault::Hold)
}

fn from_the_second_page(seen: &Seen) -> Fault {
    seen.page.filter(|page| *page > 0).map_or(Fault::None, |_| Fault::Hold)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_killed_in_the_middle_of_its_scan_costs_no_row_and_adds_none() {
    for url in servers() {
        let _alone = alone(&url).await;
        let mut bench = Bench::new(&url, [from_the_second_page, nothing]).await;
        let client = bench.detect();
        bench.held(0).await;
        bench.cluster.kill_executor(0).unwrap();
        let output = bench.end(client, Duration::from_secs(EXECUTOR_TIMEOUT + CHECKED_EVERY) + WORK);
        bench.assert_exact(&output, &url);
        bench.assert_read_again();
        assert_nothing_open(&bench.connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_killed_before_its_rows_were_fetched_costs_no_row_and_adds_none() {
    for url in servers() {
        let _alone = alone(&url).await;
        let mut bench = Bench::new(&url, [nothing, every_page]).await;
        let client = bench.detect();
        bench.held(1).await;
        // The other executor is held back, so this is a task of the one that is killed.
        bench.a_task_done().await;
        bench.cluster.kill_executor(0).unwrap();
        bench.release();
        let output = bench.end(client, Duration::from_secs(EXECUTOR_TIMEOUT + CHECKED_EVERY) + WORK);
        bench.assert_exact(&output, &url);
        bench.assert_read_again();
        assert_nothing_open(&bench.connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_executors_are_all_killed_ends_and_says_so() {
    for url in servers() {
        let _alone = alone(&url).await;
        let mut bench = Bench::new(&url, [every_page, every_page]).await;
        let client = bench.detect();
        bench.held(0).await;
        bench.held(1).await;
        bench.cluster.kill_executor(0).unwrap();
        bench.cluster.kill_executor(1).unwrap();
        let most = Duration::from_secs(EXECUTOR_TIMEOUT + CHECKED_EVERY + GRACE) + WORK;
        let output = bench.end(client, most);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("all executors were lost"), "{said}");
        assert_nothing_open(&bench.connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_scheduler_is_killed_ends_and_its_executors_serve_the_next_scheduler() {
    for url in servers() {
        let _alone = alone(&url).await;
        let mut bench = Bench::new(&url, [every_page, every_page]).await;
        let client = bench.detect();
        bench.held(0).await;
        bench.held(1).await;
        bench.cluster.kill_scheduler();
        let output = bench.end(client, WORK);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for word in ["was lost while the job ran", "submit the job again", &bench.cluster.scheduler_url] {
            assert!(said.contains(word), "{said}");
        }

        // Soon: executors end that reach no scheduler five times in a row.
        bench.cluster.restart_scheduler().unwrap();
        bench.cluster.wait_for_executors(2).await.unwrap();
        assert_nothing_open(&bench.connection).await;
        bench.release();
        let again = bench.detect();
        let output = bench.end(again, WORK);
        bench.assert_exact(&output, &url);
        assert_nothing_open(&bench.connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_cancels_the_job_on_the_scheduler_while_its_first_stage_reads() {
    for url in servers() {
        let _alone = alone(&url).await;
        let bench = Bench::new(&url, [every_page, every_page]).await;
        let client = bench.long_scan("");
        bench.held(0).await;
        let sent = Command::new("kill").args(["-INT", &client.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let output = bench.end(client, WORK);
        assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
        let jobs = bench.ask("/api/jobs".into()).await;
        assert_eq!(jobs[0]["status"], "Failed", "{jobs}");
        assert_nothing_open(&bench.connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn executors_whose_scheduler_stays_away_stop_reading_and_end() {
    for url in servers() {
        let _alone = alone(&url).await;
        let mut bench = Bench::new(&url, [from_the_second_page, from_the_second_page]).await;
        let client = bench.long_scan("");
        bench.held(0).await;
        bench.held(1).await;
        bench.cluster.kill_scheduler();
        let output = bench.end(client, WORK);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert_nothing_open(&bench.connection).await;
        bench.release();
        for i in [0, 1] {
            bench.cluster.wait_for_end(i, WORK).unwrap();
        }
        // The client has closed the point in time, so the server refuses every further read of it.
        let pages: usize = bench.proxies.iter().map(Proxy::pages).sum();
        assert!(pages < 100, "{pages} of 1,730 pages were read for nobody");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "waits for what a server does once a minute: run scripts/test --hosts"]
async fn the_job_of_a_client_that_is_killed_goes_on_and_its_snapshot_is_dropped() {
    for url in servers() {
        let _alone = alone(&url).await;
        let bench = Bench::new(&url, [every_page, every_page]).await;
        let mut client = bench.long_scan(", 'keep_alive' '10s'");
        bench.held(0).await;
        client.kill().unwrap();
        client.wait().unwrap();
        bench.release();
        let deadline = Instant::now() + WORK;
        loop {
            let jobs = bench.ask("/api/jobs".into()).await;
            match jobs[0]["status"].as_str().unwrap() {
                "Completed" => break,
                "Running" => assert!(Instant::now() < deadline, "{jobs}; logs:\n{}", bench.cluster.logs()),
                _ => panic!("{jobs}; logs:\n{}", bench.cluster.logs()),
            }
        }
        assert_dropped(&bench.connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "waits for what a server does once a minute: run scripts/test --hosts"]
async fn the_scrolls_of_an_executor_that_is_killed_are_open_no_longer_than_their_keep_alive() {
    for url in servers() {
        let _alone = alone(&url).await;
        let mut bench = Bench::new(&url, [from_the_second_page, nothing]).await;
        let client = bench.long_scan(", 'keep_alive' '10s', 'read' 'scroll'");
        bench.held(0).await;
        bench.cluster.kill_executor(0).unwrap();
        let output = bench.end(client, Duration::from_secs(EXECUTOR_TIMEOUT + CHECKED_EVERY) + WORK);
        assert!(output.status.success(), "{}; logs:\n{}", stderr(&output), bench.cluster.logs());
        assert_dropped(&bench.connection).await;
    }
}

/// Nobody closes what the dead have opened for 10 s: the server does, and looks for it once a minute.
pub(crate) async fn assert_dropped(connection: &Connection) {
    let deadline = Instant::now() + Duration::from_secs(10 + 60 + 30);
    while count_open_contexts(connection).await.unwrap() > 0 {
        assert!(Instant::now() < deadline, "{connection:?}: contexts open beyond their keep_alive");
    }
}
