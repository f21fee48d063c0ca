//! An executor that is killed while any stage of a job runs: the result is exact, within the time that
//! docs/operations.md gives.
//!
//! Proxies before the executors hold back the rows that a stage reads, so it runs when the executor dies;
//! a proxy before the server holds the pages of a scan.

use crate::command::{assert_golden, captured, stderr};
use crate::golden::{alone, assert_nothing_open, registry, remake, servers};
use crate::kill::{WORK, end, every_page, nothing};
use elastic_client::{Connection, Method, Request};
use flowsigma_tests::cluster::{Cluster, Shape};
use flowsigma_tests::golden::NOTEBOOK_QUERY;
use flowsigma_tests::proxy::{Fault, Proxy, Seen};
use flowsigma_tests::rows_proxy::{Gate, Hold, RowsProxy};
use futures::StreamExt;
use serde_json::Value;
use std::process::{Child, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::OwnedMutexGuard;

const EXECUTOR_TIMEOUT: u64 = 10;
const CHECKED_EVERY: u64 = 1;
/// Ballista fetches rows four times, and waits 3 s between.
const FETCHES: u64 = 9;
/// How many clusters there are at a time: each waits more than it computes.
const AT_A_TIME: usize = 4;

/// Two scans with counts, a join, a window over all and an order.
const JOIN: &str = "
    WITH o AS (SELECT \"netflow.ipv4_src_addr\" AS address, count(*) AS n FROM t GROUP BY 1),
         i AS (SELECT \"netflow.ipv4_dst_addr\" AS address, count(*) AS n FROM t GROUP BY 1),
         both AS (SELECT coalesce(o.address, i.address) AS address, coalesce(o.n, 0) AS outgoing,
                         coalesce(i.n, 0) AS incoming
                  FROM o FULL OUTER JOIN i ON o.address = i.address)
    SELECT *, sum(outgoing) OVER () AS documents FROM both ORDER BY outgoing, incoming, address";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Planner {
    Adaptive,
    Static,
}

impl Planner {
    /// What can be held of [`JOIN`], by the stage whose rows are fetched: those of the scans, of the counts
    /// and of the join, and last the result, which the client fetches. The static planner counts and joins
    /// in one stage.
    fn stages(self) -> usize {
        match self {
            Self::Adaptive => 6,
            Self::Static => 4,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// The scan of the executor waits for a page.
    Scanning,
    /// The stage, or the client, waits for rows that the executor has.
    Reading(Hold),
}

/// Which executor is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// The one that is waited for.
    Held,
    Other,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    policy: &'static str,
    planner: Planner,
    when: When,
    victim: Victim,
}

impl Case {
    /// The client may not have been given the result of a job that has ended, and the executor that has
    /// it dies: then it says so.
    fn loses_the_result(self) -> bool {
        let last = self.planner.stages() - 1;
        self.victim == Victim::Held
            && (self.when == When::Reading(Hold::Requests(last))
                || self.when == When::Reading(Hold::Answers(last)))
    }
}

struct Bench {
    cluster: Cluster,
    gate: Arc<Gate>,
    /// Where jobs may write.
    written: TempDir,
    pages: [Proxy; 2],
    _rows: Vec<RowsProxy>,
}

impl Bench {
    async fn new(url: &str, policy: &str, when: When) -> Self {
        Self::of(url, policy, when, EXECUTOR_TIMEOUT).await
    }

    /// An empty cluster is waited for so long.
    async fn of(url: &str, policy: &str, when: When, grace: u64) -> Self {
        let gate = Arc::<Gate>::default();
        let rows = vec![RowsProxy::start(&gate).await.unwrap(), RowsProxy::start(&gate).await.unwrap()];
        let first: fn(&Seen) -> Fault = match when {
            When::Scanning => every_page,
            When::Reading(hold) => {
                gate.set(hold);
                nothing
            }
        };
        let pages = [Proxy::start(url, first).await.unwrap(), Proxy::start(url, nothing).await.unwrap()];
        let written = tempfile::tempdir().unwrap();
        let folder = written.path().canonicalize().unwrap();
        let config = |url: &str| {
            format!(
                "[connections.prod]\nnodes = [\"{url}\"]\n\
                 [access.anyone]\nconnections = [\"*\"]\nindices = [\"*\"]\nwrite = [{folder:?}]\n\
                 [files]\nwrite = [{folder:?}]\n"
            )
        };
        let shape = Shape {
            scheduler: &config(url),
            executors: &[&config(&pages[0].url), &config(&pages[1].url)],
            vcores: 2,
            scheduler_args: &[
                "--scheduler-policy",
                policy,
                "--executor-timeout-seconds",
                &EXECUTOR_TIMEOUT.to_string(),
                "--expire-dead-executor-interval-seconds",
                &CHECKED_EVERY.to_string(),
                "--no-executors-grace-period-seconds",
                &grace.to_string(),
            ],
            executor_args: &[
                "--task-scheduling-policy",
                policy,
                "--executor-heartbeat-interval-seconds",
                "1",
            ],
            // Proxies read what is not encrypted.
            allow_anyone: true,
            proxies: &rows,
            ..Shape::default()
        };
        let cluster = Cluster::start_as(shape).await.unwrap();
        Self { cluster, gate, written, pages, _rows: rows }
    }

    /// All rows are fetched through the proxies, those of the same executor too.
    fn sql(&self, planner: Planner, statement: &str) -> Child {
        let sql = format!(
            "SET ballista.planner.adaptive.enabled = {};
             SET ballista.scheduler.max_partitions_per_task = 1;
             SET ballista.shuffle.force_remote_read = true;
             SET datafusion.execution.target_partitions = 4;
             CREATE EXTERNAL TABLE t STORED AS ELASTICSEARCH LOCATION 'elasticsearch://prod/deaths'
             OPTIONS ('slices' '8', 'aggregate' 'never'); {statement}",
            planner == Planner::Adaptive
        );
        self.client(&["sql", "--format", "json", "-c", &sql])
    }

    fn detect(&self) -> Child {
        let here = ["--connection", "prod", "--index", "deaths", "--query", NOTEBOOK_QUERY, "--slices", "8"];
        self.client(&[&["detect", "--format", "json", "--option", "aggregate=never"], &here[..]].concat())
    }

    /// The golden numbers, by a job that was submitted again so often.
    fn assert_detected(&self, output: &Output, again: usize) {
        let said = stderr(output);
        assert!(output.status.success(), "{said}; {}", self.logs());
        assert_eq!(said.matches("the job is submitted again").count(), again, "{said}");
        let response: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_golden(&response, said);
        assert_eq!(response["coverage"]["slices"], 8);
    }

    fn client(&self, args: &[&str]) -> Child {
        captured(args)
            .args(["--scheduler", &self.cluster.scheduler_url, "--config"])
            .arg(self.cluster.folder.path().join("flowsigma.toml"))
            .spawn()
            .unwrap()
    }

    /// Waits until what the case holds is held, and returns the executor that is waited for.
    async fn held(&self, when: When) -> anyhow::Result<usize> {
        match when {
            When::Scanning => {
                self.pages[0].wait_for_held(1).await?;
                Ok(0)
            }
            When::Reading(_) => Ok(self.gate.wait_for_held(WORK).await?.executor),
        }
    }

    fn release(&self) {
        self.gate.open();
        self.pages.iter().for_each(Proxy::release);
    }

    /// Kills an executor while what the case holds is held, and returns what the client says then.
    async fn kill(&mut self, case: Case, client: Child) -> Result<Output, String> {
        let held = self.held(case.when).await.map_err(|e| format!("{case:?}: {e}; {}", self.logs()))?;
        let killed = Instant::now();
        let victim = if case.victim == Victim::Held { held } else { 1 - held };
        self.cluster.kill_executor(victim).map_err(|e| e.to_string())?;
        self.release();
        let longest = Duration::from_secs(EXECUTOR_TIMEOUT + CHECKED_EVERY + FETCHES) + WORK;
        let ended = tokio::task::spawn_blocking(move || end(client, longest)).await.unwrap();
        println!("{case:?}: {:?}", killed.elapsed());
        ended.map_err(|said| format!("{case:?}: no end: {}; {}", stderr(&said), self.logs()))
    }

    fn logs(&self) -> String {
        format!("logs:\n{}", self.cluster.logs())
    }
}

fn rows(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

async fn expected(url: &str) -> Value {
    let bench = Bench::new(url, "push-staged", When::Reading(Hold::Nothing)).await;
    let client = bench.sql(Planner::Adaptive, JOIN);
    let output = tokio::task::spawn_blocking(move || end(client, WORK)).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let rows = rows(&output);
    assert_eq!(rows.as_array().map(Vec::len), Some(26), "{rows}");
    rows
}

async fn dies(url: &str, case: Case, expected: &Value) -> Result<(), String> {
    let mut bench = Bench::new(url, case.policy, case.when).await;
    let client = bench.sql(case.planner, JOIN);
    let output = bench.kill(case, client).await?;
    let said = stderr(&output);
    let right = match output.status.code() {
        Some(0) => rows(&output) == *expected && !case.loses_the_result(),
        Some(1) => {
            let told = ["rows of the result cannot be fetched", "submit the job again"];
            case.loses_the_result() && told.iter().all(|word| said.contains(word))
        }
        _ => false,
    };
    let ended = || format!("{case:?}: {}: {said}: {}; {}", output.status, rows(&output), bench.logs());
    if right { Ok(()) } else { Err(ended()) }
}

/// One server: what was read from it is the same to all that follows, whichever it was.
async fn prepare() -> (OwnedMutexGuard<()>, String, Arc<Connection>) {
    let url = servers().remove(0);
    let alone = alone(&url).await;
    let connection = registry(&url).get("test").unwrap();
    let free = Request::new(Method::Delete, "/_search/scroll/_all", "free all scrolls");
    connection.send(&free).await.ok();
    remake(&connection, "deaths", 3, "keyword").await;
    (alone, url, connection)
}

async fn assert_exact(cases: Vec<Case>) {
    let (_alone, url, connection) = prepare().await;
    let expected = expected(&url).await;
    let ended = futures::stream::iter(cases).map(|case| dies(&url, case, &expected));
    let wrong: Vec<String> =
        ended.buffer_unordered(AT_A_TIME).filter_map(|end| std::future::ready(end.err())).collect().await;
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    assert_nothing_open(&connection).await;
}

fn matrix(policies: &[&'static str], planners: &[Planner], victims: &[Victim]) -> Vec<Case> {
    let mut cases = Vec::new();
    for &policy in policies {
        for &planner in planners {
            for nth in 0..planner.stages() {
                let when = When::Reading(Hold::Requests(nth));
                cases.extend(victims.iter().map(|&victim| Case { policy, planner, when, victim }));
            }
            cases.push(Case { policy, planner, when: When::Scanning, victim: Victim::Held });
        }
    }
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_stage_runs_when_an_executor_is_killed_the_result_is_exact() {
    let both = [Victim::Held, Victim::Other];
    let mut cases = matrix(&["push-staged"], &[Planner::Adaptive], &both);
    cases.extend(matrix(&["pull-staged"], &[Planner::Static], &[Victim::Held]));
    // An answer that ends half-way, before and after its schema.
    let half = |nth| Case {
        policy: "push-staged",
        planner: Planner::Adaptive,
        when: When::Reading(Hold::Answers(nth)),
        victim: Victim::Held,
    };
    cases.extend([half(0), half(4), half(5)]);
    assert_exact(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: run scripts/test --long"]
async fn whatever_stage_runs_when_an_executor_is_killed_the_result_is_exact_in_all_ways() {
    let (both, planners) = ([Victim::Held, Victim::Other], [Planner::Adaptive, Planner::Static]);
    assert_exact(matrix(&["push-staged", "pull-staged"], &planners, &both)).await;
}

const FIRST_ROWS: Case = Case {
    policy: "push-staged",
    planner: Planner::Adaptive,
    when: When::Reading(Hold::Requests(0)),
    victim: Victim::Held,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_detection_whose_rows_are_lost_is_submitted_again_under_the_same_point_in_time() {
    let (_alone, url, connection) = prepare().await;
    let mut bench = Bench::new(&url, FIRST_ROWS.policy, FIRST_ROWS.when).await;
    let client = bench.detect();
    let output = bench.kill(FIRST_ROWS, client).await.unwrap();
    bench.assert_detected(&output, 1);
    assert_nothing_open(&connection).await;
}

/// The executor of the next job's rows dies too.
#[tokio::test(flavor = "multi_thread")]
async fn a_detection_that_loses_its_rows_twice_is_submitted_a_third_time() {
    let (_alone, url, connection) = prepare().await;
    let mut bench = Bench::new(&url, FIRST_ROWS.policy, FIRST_ROWS.when).await;
    let client = bench.detect();
    let first = bench.held(FIRST_ROWS.when).await.unwrap();
    // The next job waits at its pages until there are two executors again.
    bench.pages.iter().for_each(|pages| pages.set_rule(every_page));
    bench.cluster.kill_executor(first).unwrap();
    bench.cluster.wait_for_executors(1).await.unwrap();
    bench.cluster.restart_executor(first).unwrap();
    bench.cluster.wait_for_executors(2).await.unwrap();
    bench.gate.open();
    let [a, b] = &bench.pages;
    tokio::select! { held = a.wait_for_held(1) => held, held = b.wait_for_held(1) => held }.unwrap();
    bench.gate.set(Hold::Requests(0));
    bench.pages.iter().for_each(Proxy::release);
    let output = bench.kill(FIRST_ROWS, client).await.unwrap();
    bench.assert_detected(&output, 2);
    assert_nothing_open(&connection).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_writes_is_not_submitted_again_by_itself() {
    let (_alone, url, connection) = prepare().await;
    let mut bench = Bench::new(&url, FIRST_ROWS.policy, FIRST_ROWS.when).await;
    let folder = bench.written.path().canonicalize().unwrap().join("out");
    let copy = format!("COPY ({JOIN}) TO '{}/' STORED AS CSV", folder.display());
    let client = bench.sql(Planner::Adaptive, &copy);
    let output = bench.kill(FIRST_ROWS, client).await.unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}; {}", bench.logs());
    assert!(said.contains("submit the job again") && !said.contains("is submitted again"), "{said}");
    assert_nothing_open(&connection).await;
}

/// The cluster and a client whose job no executor is there to run.
async fn unattended(grace: u64) -> (OwnedMutexGuard<()>, Bench, Child) {
    let (alone, url, _) = prepare().await;
    let mut bench = Bench::of(&url, "push-staged", When::Reading(Hold::Nothing), grace).await;
    for i in [0, 1] {
        bench.cluster.kill_executor(i).unwrap();
    }
    bench.cluster.wait_for_executors(0).await.unwrap();
    let client = bench.sql(Planner::Adaptive, JOIN);
    (alone, bench, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_no_executor_begins_says_so_at_once_and_fails_after_the_grace_period() {
    let (_alone, bench, client) = unattended(2).await;
    let submitted = Instant::now();
    let output = tokio::task::spawn_blocking(move || end(client, WORK)).await.unwrap().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}; {}", bench.logs());
    let waits = format!("no executor is registered with scheduler {}", bench.cluster.scheduler_url);
    let failed = "none came within 2 s; start flowsigma-executor";
    let at = |words: &str| said.find(words).unwrap_or_else(|| panic!("{words}: {said}"));
    assert!(at(&waits) < at(failed), "{said}");
    assert!(submitted.elapsed() >= Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_for_an_executor_is_run_by_the_first_that_comes() {
    let (_alone, mut bench, client) = unattended(60).await;
    let mut client = client;
    let mut lines = std::io::BufReader::new(client.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
    assert!(line.contains("no executor is registered"), "{line}");
    bench.cluster.restart_executor(0).unwrap();
    let output = tokio::task::spawn_blocking(move || end(client, WORK)).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", bench.logs());
    assert_eq!(rows(&output).as_array().map(Vec::len), Some(26));
}
