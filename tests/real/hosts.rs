//! A cluster over hosts of their own, whose links are cut: the exact result or a clear error, within
//! the time that docs/operations.md gives. A host that is cut off falls silent: no reset arrives.
//!
//! `scripts/test --hosts` makes the hosts and runs these, and nothing else does.

use crate::attack::strangers::calls;
use crate::attack::{encoded, statement};
use crate::command::{assert_golden, stderr, stdout};
use crate::golden::{alone, assert_nothing_open, registry, remake, servers};
use crate::kill::{assert_dropped, end};
use ballista_core::serde::protobuf::FetchPartition;
use elastic_client::{Connection, Method, Request};
use flowsigma_node::Role;
use flowsigma_tests::caller::{Caller, Outcome, Proof, ticket_of};
use flowsigma_tests::golden::{NOTEBOOK_QUERY, documents};
use flowsigma_tests::hosts::{Astray, Cut, EXECUTORS, HostCluster, address, command};
use serde_json::Value;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::{Child, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::Code;

/// What a job takes beside waiting for the silent, on a busy machine with debug builds.
const WORK: Duration = Duration::from_secs(90);
/// After which a connection between nodes is given up.
const SILENCE: Duration = Duration::from_secs(20);
/// A node that takes no connection within this is not there.
const CONNECT: Duration = Duration::from_secs(10);

struct Bench {
    connection: Arc<Connection>,
    config: String,
    cluster: HostCluster,
}

impl Bench {
    /// Requests to the server may take 2 s, and a silent executor is taken for dead after 6 to 7.
    async fn new(url: &str) -> Self {
        let connection = registry(url).get("test").unwrap();
        remake(&connection, "hosts", 3, "keyword").await;
        let config = format!("[connections.prod]\nnodes = [\"{url}\"]\ntimeout = \"2s\"\n");
        let scheduler = ["--executor-timeout-seconds", "6", "--expire-dead-executor-interval-seconds", "1"];
        let executor = ["--executor-heartbeat-interval-seconds", "1"];
        let cluster = HostCluster::start(&config, &scheduler, &executor).await.unwrap();
        let config = format!("{config}{}", cluster.client_config().unwrap());
        Self { connection, config, cluster }
    }

    fn client(&self, args: &[&str]) -> Child {
        command("client", &self.cluster.own_folder(), &self.config, "flowsigma")
            .unwrap()
            .args(args)
            .args(["--scheduler", &self.cluster.scheduler_url])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// 1,730 pages of one row.
    fn long_scan(&self) -> Child {
        let sql = "CREATE EXTERNAL TABLE t STORED AS ELASTICSEARCH LOCATION 'elasticsearch://prod/hosts' \
                   OPTIONS ('page_size' '1', 'keep_alive' '10s', 'aggregate' 'never'); \
                   SELECT count(*) AS rows, sum(\"netflow.bytes\") AS bytes FROM t";
        self.client(&["sql", "--format", "json", "-c", sql])
    }

    async fn pages(&self) -> u64 {
        let stats = Request::new(Method::Get, "/hosts/_stats/search", "count pages");
        let stats = self.connection.send(&stats).await.unwrap().json("stats").unwrap();
        stats["_all"]["total"]["search"]["query_total"].as_u64().unwrap()
    }

    /// Waits until both executors have read for a while, long before they are done.
    async fn in_the_middle(&self, client: &mut Child) {
        let before = self.pages().await;
        while self.pages().await < before + 50 {
            assert!(client.try_wait().unwrap().is_none(), "the scan was over; {}", self.cluster.logs());
        }
    }

    fn end(&self, client: Child, most: Duration) -> Output {
        end(client, most).unwrap_or_else(|said| {
            panic!("no end after {most:?}: {}; logs:\n{}", stderr(&said), self.cluster.logs())
        })
    }

    fn assert_exact(&self, output: &Output) {
        assert!(output.status.success(), "{}; logs:\n{}", stderr(output), self.cluster.logs());
        let row: Value = serde_json::from_str(stdout(output).lines().next().unwrap()).unwrap();
        let row = row.as_array().map_or(&row, |rows| &rows[0]);
        assert_eq!(row["rows"], documents().len(), "{row}");
    }

    /// As it was before, with what a supervisor does for executors that have ended.
    async fn assert_still_exact(&mut self) {
        self.cluster.wait_for_all().await.unwrap();
        let output = self.end(self.long_scan(), WORK);
        self.assert_exact(&output);
        assert_nothing_open(&self.connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run scripts/test --hosts"]
async fn the_golden_numbers_over_hosts_that_share_no_file_and_no_loopback() {
    for url in servers() {
        let _alone = (alone("hosts").await, alone(&url).await);
        let bench = Bench::new(&url).await;
        let where_ = ["detect", "--format", "json", "--connection", "prod", "--index", "hosts"];
        let operation = ["--query", NOTEBOOK_QUERY, "--slices", "8"];
        let output = bench.end(bench.client(&[&where_[..], &operation[..]].concat()), WORK);
        assert!(output.status.success(), "{}; logs:\n{}", stderr(&output), bench.cluster.logs());
        assert_golden(&serde_json::from_slice(&output.stdout).unwrap(), &url);
        for host in ["executor1", "executor2"] {
            let log = bench.cluster.log(host);
            assert!(log.contains("Finished task") || log.contains("TID"), "{host} did nothing:\n{log}");
        }
        assert_nothing_open(&bench.connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run scripts/test --hosts"]
async fn an_executor_that_falls_silent_costs_no_row_and_comes_back() {
    for url in servers() {
        let _alone = (alone("hosts").await, alone(&url).await);
        let mut bench = Bench::new(&url).await;
        let mut client = bench.long_scan();
        bench.in_the_middle(&mut client).await;
        let cut = Cut::off("executor1").unwrap();
        let output = bench.end(client, Duration::from_secs(7) + SILENCE + WORK);
        bench.assert_exact(&output);
        assert_nothing_open(&bench.connection).await;
        drop(cut);
        bench.assert_still_exact().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run scripts/test --hosts"]
async fn a_server_that_falls_silent_and_comes_back_costs_no_row() {
    for url in servers() {
        let _alone = (alone("hosts").await, alone(&url).await);
        let bench = Bench::new(&url).await;
        let mut client = bench.long_scan();
        bench.in_the_middle(&mut client).await;
        let cut = Cut::off("server").unwrap();
        // Both have noticed, and ask again.
        let deadline = Instant::now() + WORK;
        while !["executor1", "executor2"]
            .iter()
            .all(|host| bench.cluster.log(host).contains("request retried"))
        {
            assert!(Instant::now() < deadline, "{}", bench.cluster.logs());
        }
        drop(cut);
        let output = bench.end(client, WORK);
        bench.assert_exact(&output);
        assert_nothing_open(&bench.connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run scripts/test --hosts"]
async fn a_server_that_stays_silent_is_an_error_that_names_it() {
    for url in servers() {
        let _alone = (alone("hosts").await, alone(&url).await);
        let mut bench = Bench::new(&url).await;
        let mut client = bench.long_scan();
        bench.in_the_middle(&mut client).await;
        let cut = Cut::off("server").unwrap();
        // Four attempts of a task, then the client's of closing: six requests of 2 s each, and up to
        // 13 s of waits between them.
        let output = bench.end(client, Duration::from_secs(5 * (6 * 2 + 13)) + WORK);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for word in ["hosts", " slice ", "no Elasticsearch node responded", url.as_str()] {
            assert!(said.contains(word), "{said}");
        }
        drop(cut);
        // Nor could the client close its points in time.
        assert_dropped(&bench.connection).await;
        bench.assert_still_exact().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run scripts/test --hosts"]
async fn a_scheduler_that_is_silent_for_a_minute_is_said_and_serves_again() {
    for url in servers() {
        let _alone = (alone("hosts").await, alone(&url).await);
        let mut bench = Bench::new(&url).await;
        let mut client = bench.long_scan();
        bench.in_the_middle(&mut client).await;
        let cut = Cut::off("scheduler").unwrap();
        let since = Instant::now();
        let output = bench.end(client, SILENCE + CONNECT + Duration::from_secs(15));
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("was lost while the job ran, submit the job again"), "{said}");
        assert_nothing_open(&bench.connection).await;
        // No state to wait for: the outage's length is what is tested.
        tokio::time::sleep(Duration::from_secs(60).saturating_sub(since.elapsed())).await;
        drop(cut);
        bench.assert_still_exact().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run scripts/test --hosts"]
async fn a_client_needs_no_way_to_an_executor() {
    for url in servers() {
        let _alone = (alone("hosts").await, alone(&url).await);
        let bench = Bench::new(&url).await;
        let _astray = EXECUTORS.map(|host| Astray::send("client", host).unwrap());
        let sql = "CREATE EXTERNAL TABLE t STORED AS ELASTICSEARCH LOCATION 'elasticsearch://prod/hosts' \
                   OPTIONS ('slices' '8'); SELECT \"netflow.bytes\" FROM t";
        let output = bench.end(bench.client(&["sql", "--format", "csv", "-c", sql]), WORK);
        assert!(output.status.success(), "{}; logs:\n{}", stderr(&output), bench.cluster.logs());
        assert_eq!(stdout(&output).lines().count(), documents().len() + 1);
        assert_nothing_open(&bench.connection).await;
    }
}

/// Another host reaches the ports over the network, and its callers prove too little.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run scripts/test --hosts"]
async fn another_host_gets_nothing_without_a_certificate_for_it() {
    for url in servers() {
        let _alone = (alone("hosts").await, alone(&url).await);
        let bench = Bench::new(&url).await;
        let cluster = &bench.cluster;
        let authority = || cluster.authority().to_owned();
        let at_scheduler = |proof: Proof| Caller::new(&cluster.scheduler_url, proof);
        let client = || cluster.proof(Role::Client, "client").unwrap();
        let other = || cluster.proof(Role::Client, "other").unwrap();
        let plan = encoded(&statement("SELECT 42 AS answer").await);

        let Outcome::Rows { job, text } = at_scheduler(client()).run(&plan).await else {
            panic!("no rows; logs:\n{}", cluster.logs())
        };
        assert!(text.contains("42"), "{text}");
        let rows = at_scheduler(client()).end(&job).await.unwrap().unwrap();
        let rows = ticket_of(&rows[0]).unwrap();

        let plain = || Proof::Plain;
        let anonymous = || Proof::Tls { authority: authority() };
        for (who, proof) in [("without TLS", plain()), ("without a certificate", anonymous())] {
            let caller = at_scheduler(proof);
            let outcome = caller.run(&plan).await;
            let refused = matches!(&outcome, Outcome::Refused(s) if s.code() == Code::Unauthenticated);
            assert!(refused, "{who}: {outcome:?}");
            assert_eq!(caller.http("GET", "/api/jobs", &[]).await.unwrap().0, 401, "{who}");
        }
        for (who, proof) in
            [("without a certificate", anonymous()), ("a client", client()), ("another", other())]
        {
            for (operation, response) in calls(&at_scheduler(proof), "executor").await {
                let code = response.map_or_else(|status| status.code(), |()| Code::Ok);
                assert!(
                    [Code::Unauthenticated, Code::PermissionDenied].contains(&code),
                    "{who} {operation}: {code:?}"
                );
            }
        }
        let fetched = at_scheduler(other()).fetch(rows.clone()).await.unwrap_err();
        assert_eq!(fetched.code(), Code::PermissionDenied, "{fetched:?}");
        // Rows are not fetched from a host of the caller's choice.
        let here = address("client").unwrap();
        let listener = TcpListener::bind((here, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = u32::from(listener.local_addr().unwrap().port());
        let elsewhere = FetchPartition { host: here.into(), port, ..rows.clone() };
        let fetched = at_scheduler(client()).fetch(elsewhere).await.unwrap_err();
        assert_eq!(fetched.code(), Code::PermissionDenied, "{fetched:?}");
        assert_eq!(listener.accept().map(|_| ()).unwrap_err().kind(), ErrorKind::WouldBlock);
        // Nor do the executors give them.
        for host in EXECUTORS {
            let url = format!("https://{}:50051", address(host).unwrap());
            for (who, proof) in
                [("without TLS", plain()), ("without a certificate", anonymous()), ("a client", client())]
            {
                let fetched = Caller::new(&url, proof).fetch(rows.clone()).await.unwrap_err();
                assert_eq!(fetched.code(), Code::PermissionDenied, "{host} {who}: {fetched:?}");
            }
        }
        let (_, _, listed) = at_scheduler(client()).http("GET", "/api/executors", &[]).await.unwrap();
        let listed: Value = serde_json::from_str(&listed).unwrap();
        assert_eq!(listed.as_array().map(Vec::len), Some(EXECUTORS.len()), "{listed}");
    }
}
