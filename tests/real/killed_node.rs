//! A node of a server of several, killed while its index is read.
//!
//! Each shard has a copy on two of three nodes, so nothing is lost but what that node held open: its
//! part of a point in time, or a scroll.

use crate::faults::{Outcome, check, registry, whole};
use crate::golden::{alone, assert_nothing_open, loaded, options, remake, run};
use crate::kill::WORK;
use anyhow::Result;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{EsTable, QueryContexts, open_contexts};
use elastic_client::{Connection, ConnectionRegistry, Method, Request};
use flowsigma_tests::cluster::POLL_INTERVAL;
use flowsigma_tests::cluster::embedded_context;
use flowsigma_tests::server_nodes::{Revival, ServerNodes};
use futures::StreamExt;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const INDEX: &str = "killed_node";
/// A reader that has asked for a page in vain says so within this.
const GIVES_UP: Duration = Duration::from_secs(30);

fn ids_of(batch: &RecordBatch) -> Vec<String> {
    batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned).collect()
}

/// A read that is under way.
struct Reading {
    rows: SendableRecordBatchStream,
    open: QueryContexts,
    ids: Vec<String>,
}

impl Reading {
    async fn begin(registry: &Arc<ConnectionRegistry>, read: &str) -> Result<Self> {
        // 87 pages.
        let with = options(&[("read", read), ("metadata", "true"), ("page_size", "20")]);
        let table = EsTable::try_new(Arc::clone(registry), "test", INDEX, &with).await?;
        let ctx = SessionContext::new();
        ctx.register_table("t", Arc::new(table))?;
        let plan = ctx.sql("SELECT _id FROM t").await?.into_unoptimized_plan();
        let (plan, open) = open_contexts(plan).await?;
        let rows = ctx.execute_logical_plan(plan).await?.execute_stream().await?;
        let mut reading = Self { rows, open, ids: Vec::new() };
        assert!(reading.batch().await?, "no row");
        Ok(reading)
    }

    async fn batch(&mut self) -> Result<bool> {
        let Some(batch) = self.rows.next().await else { return Ok(false) };
        self.ids.extend(ids_of(&batch?));
        Ok(true)
    }

    /// To its end, telling how many rows are there.
    async fn finish(mut self, count: &watch::Sender<usize>) -> Result<Vec<String>> {
        let read = loop {
            match self.batch().await {
                Ok(true) => drop(count.send_replace(self.ids.len())),
                Ok(false) => break Ok(self.ids),
                Err(e) => break Err(e),
            }
        };
        // The watcher waits no longer.
        count.send_replace(usize::MAX);
        drop(self.rows);
        self.open.close().await.ok();
        read
    }
}

/// When it is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// While nobody asks for anything, after the first pages.
    Early,
    /// While pages are under way, about half of them done.
    Middle,
}

struct Bench {
    nodes: ServerNodes,
    registry: Arc<ConnectionRegistry>,
    connection: Arc<Connection>,
}

impl Bench {
    async fn new(nodes: ServerNodes) -> Self {
        let registry = registry(&nodes.urls(), None);
        let connection = registry.get("test").unwrap();
        remake(&connection, INDEX, 3, "keyword").await;
        let replicas = Request::new(Method::Put, format!("/{INDEX}/_settings"), "add replicas")
            .with_body(&json!({ "index": { "number_of_replicas": 1 } }));
        connection.send(&replicas).await.unwrap();
        nodes.wait_for(&connection, 3, "green").await.unwrap();
        Self { nodes, registry, connection }
    }

    /// What the servers counted in all slices that were begun, over all reads.
    fn matched(&self) -> u64 {
        self.registry.progress().matched.load(Ordering::Relaxed)
    }

    /// The node that holds the most of what was opened, once all slices have begun: a scroll whose id
    /// was on an answer that never arrived stays open, as long as its keep_alive.
    async fn victim(&self, matched_before: u64) -> usize {
        let deadline = Instant::now() + GIVES_UP;
        while self.matched() < matched_before + loaded() as u64 {
            assert!(Instant::now() < deadline, "not all slices begin");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        let held = self.nodes.count_open_contexts(&self.connection).await.unwrap();
        let victim = (0..held.len()).max_by_key(|i| held[*i]).unwrap();
        assert!(held[victim] > 0, "{held:?}");
        victim
    }

    /// Kills what holds a part of this read; what it came to, and how to start it again.
    async fn kill_during(&mut self, read: &str, moment: Moment) -> (Result<Vec<String>>, usize, Revival) {
        let matched = self.matched();
        let reading = Reading::begin(&self.registry, read).await.unwrap();
        let victim = self.victim(matched).await;
        let (count, mut counted) = watch::channel(0);
        let finish = async move { reading.finish(&count).await };
        let (revival, finish) = match moment {
            Moment::Early => (self.nodes.kill(victim).unwrap(), tokio::spawn(finish)),
            Moment::Middle => {
                let finish = tokio::spawn(finish);
                counted.wait_for(|rows| *rows as i64 > loaded() / 2).await.unwrap();
                (self.nodes.kill(victim).unwrap(), finish)
            }
        };
        let came = tokio::time::timeout(GIVES_UP, finish).await.expect("no end of the read");
        (came.unwrap(), victim, revival)
    }

    /// What is left serves all documents, and nobody waits for who is not there.
    async fn assert_next_reads_are_whole(&self, how: &str) {
        self.nodes.wait_for(&self.connection, 2, "yellow").await.unwrap();
        let before = self.connection.retries();
        for read in ["pit", "scroll"] {
            let (count, _) = watch::channel(0);
            let again = Reading::begin(&self.registry, read).await.unwrap();
            whole(&again.finish(&count).await.map_err(|e| format!("{how}: {e}")).unwrap()).unwrap();
        }
        // Were it asked in turn, a third of 174 pages would be asked for again.
        let retries = self.connection.retries() - before;
        assert!(retries < 10, "{how}: {retries} requests to a dead node");
        assert_nothing_open(&self.connection).await;
    }

    /// A scroll belongs to the task that reads its slice. A task that reads the slice again opens another one.
    async fn a_job_reads_the_scrolls_again_that_a_node_has_lost(&mut self) {
        let ctx = embedded_context(Arc::clone(&self.registry)).await.unwrap();
        let with = options(&[("read", "scroll"), ("metadata", "true"), ("page_size", "1")]);
        let table = EsTable::try_new(Arc::clone(&self.registry), "test", INDEX, &with).await.unwrap();
        ctx.register_table("t", Arc::new(table)).unwrap();
        let matched = self.matched();
        let job = tokio::spawn(async move { run(&ctx, "SELECT _id FROM t").await });
        let victim = self.victim(matched).await;
        let revival = self.nodes.kill(victim).unwrap();
        let came = tokio::time::timeout(WORK, job).await.expect("no end of the job").unwrap().unwrap();
        whole(&came.iter().flat_map(ids_of).collect::<Vec<_>>()).unwrap();
        assert!(self.matched() > matched + loaded() as u64, "no slice was read again");
        self.assert_next_reads_are_whole("after a job").await;
        self.revive(victim, revival).await;
    }

    async fn revive(&mut self, victim: usize, revival: Revival) {
        self.nodes.revive(victim, revival).unwrap();
        self.nodes.wait_for(&self.connection, 3, "green").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_during_a_read_costs_no_row_in_silence_and_the_next_read_is_whole() {
    let _alone = alone("nodes").await;
    for nodes in ServerNodes::all_from_env().unwrap() {
        let mut bench = Bench::new(nodes).await;
        for (read, moment, outcome, says) in [
            ("pit", Moment::Early, Outcome::Error, "run the statement again"),
            ("scroll", Moment::Early, Outcome::Error, ""),
            ("pit", Moment::Middle, Outcome::ExactOrError, "run the statement again"),
            ("scroll", Moment::Middle, Outcome::ExactOrError, ""),
        ] {
            let how = format!("{:?} by {read}, {moment:?}", bench.nodes.urls());
            let (came, victim, revival) = bench.kill_during(read, moment).await;
            check(outcome, says, INDEX, came).map_err(|e| format!("{how}: {e}")).unwrap();
            bench.assert_next_reads_are_whole(&how).await;
            bench.revive(victim, revival).await;
        }
        bench.a_job_reads_the_scrolls_again_that_a_node_has_lost().await;
    }
}
