//! A simulated clock, an engine and a folder for tests of servers.
//!
//! Owns: what behaves otherwise at which minute. Must not know: what is tested.

use super::*;
use crate::engine::Outcome;
use crate::manifest::WindowTimes;
use crate::run::test_data::{Fails, FakeSink, Inbox, finding, hour};
use async_trait::async_trait;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::Instant;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Begins at 2026-01-01T00:02:00Z.
pub(super) struct Simulated {
    pub(super) begin: Instant,
}

#[async_trait]
impl Clock for Simulated {
    fn now(&self) -> Timestamp {
        hour(0).start + Duration::from_secs(120) + self.begin.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Counts 100 documents a window, and has minutes of the simulation at which it behaves otherwise.
pub(super) struct Flows {
    pub(super) clock: Arc<Simulated>,
    /// How long a run takes.
    pub(super) pause: Duration,
    /// It fails in these minutes.
    pub(super) down: std::ops::Range<i64>,
    /// From this minute on, these windows have 130 documents.
    pub(super) late: (i64, Vec<WindowTimes>),
    pub(super) done: Mutex<Vec<WindowTimes>>,
    pub(super) failed: AtomicUsize,
}

impl Flows {
    pub(super) fn minute(&self) -> i64 {
        self.clock.now().duration_since(hour(0).start).as_mins()
    }

    pub(super) fn documents(&self, window: WindowTimes) -> u64 {
        if self.minute() >= self.late.0 && self.late.1.contains(&window) { 130 } else { 100 }
    }
}

#[async_trait]
impl Engine for Flows {
    async fn count(&self, _: &Job, window: WindowTimes) -> std::result::Result<u64, Failed> {
        if self.down.contains(&self.minute()) { Err("503".into()) } else { Ok(self.documents(window)) }
    }

    async fn run(
        &self,
        _: &Job,
        window: WindowTimes,
        _: &CancellationToken,
    ) -> std::result::Result<Outcome, Failed> {
        if self.down.contains(&self.minute()) {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return Err("503".into());
        }
        tokio::time::sleep(self.pause).await;
        self.done.lock().unwrap().push(window);
        let documents = self.documents(window);
        let findings = vec![finding("10.0.0.1", documents)];
        let report = serde_json::json!({"addresses": documents});
        Ok(Outcome { documents, findings, report, counts: documents.to_string().into(), pairs: None })
    }
}

pub(super) struct World {
    pub(super) clock: Arc<Simulated>,
    pub(super) folder: tempfile::TempDir,
    pub(super) store: Store,
    pub(super) engine: Arc<Flows>,
    pub(super) sinks: Vec<FakeSink>,
    pub(super) status: Arc<Status>,
    pub(super) options: ServeOptions,
}

pub(super) fn job_text(more: &str) -> String {
    format!(
        "name = \"hourly\"\n[source]\nconnection = \"prod\"\nindex = \"flows-*\"\n\
         [window]\nevery = \"1h\"\nrecheck = \"6h\"\nfrom = \"2026-01-01T00:00:00Z\"\n\
         [store]\nurl = \"file:///tmp/flowsigma\"\n{more}"
    )
}

impl World {
    pub(super) fn new(change: impl FnOnce(&mut Flows)) -> Self {
        let clock = Arc::new(Simulated { begin: Instant::now() });
        let mut engine = Flows {
            clock: Arc::clone(&clock),
            pause: Duration::ZERO,
            down: 0..0,
            late: (0, Vec::new()),
            done: Mutex::default(),
            failed: AtomicUsize::new(0),
        };
        change(&mut engine);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hourly.toml"), job_text("")).unwrap();
        Self {
            clock,
            folder,
            store: Store::in_memory(),
            engine: Arc::new(engine),
            sinks: vec![FakeSink::new("a"), FakeSink::new("b")],
            status: Arc::default(),
            options: ServeOptions { poll: Duration::from_secs(60), ..ServeOptions::default() },
        }
    }

    pub(super) fn server(&self) -> Server {
        let parts: Vec<_> =
            self.sinks.iter().map(|s| (s.name, Arc::clone(&s.fails), Arc::clone(&s.inbox))).collect();
        let store = self.store.clone();
        Server {
            folder: self.folder.path().into(),
            engine: Arc::clone(&self.engine) as _,
            make_sinks: Arc::new(move |_| {
                let sink = |(name, fails, inbox): &(&'static str, Arc<Mutex<Fails>>, Arc<Mutex<Inbox>>)| {
                    let (fails, inbox) = (Arc::clone(fails), Arc::clone(inbox));
                    Box::new(FakeSink { name, fails, inbox }) as Box<dyn Sink>
                };
                Ok(parts.iter().map(sink).collect())
            }),
            open_store: Arc::new(move |_| Ok(store.clone())),
            clock: Arc::clone(&self.clock) as _,
            options: self.options,
            status: Arc::clone(&self.status),
        }
    }

    /// Waits until a minute of the simulation.
    pub(super) async fn at(&self, minute: u64) {
        tokio::time::sleep_until(self.clock.begin + Duration::from_secs(minute * 60 - 120)).await;
    }

    pub(super) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.folder.path().join(file), text).unwrap();
    }

    pub(super) async fn revisions(&self, n: i64) -> Vec<u32> {
        self.store.revisions("hourly", hour(n)).await.unwrap()
    }

    pub(super) fn done(&self) -> Vec<WindowTimes> {
        self.engine.done.lock().unwrap().clone()
    }

    pub(super) fn metric(&self, line: &str) -> Option<f64> {
        let text = self.status.metrics().unwrap();
        text.lines().find_map(|l| l.strip_prefix(line)).map(|value| value.trim().parse().unwrap())
    }

    /// Returns a metric of the job.
    pub(super) fn hourly(&self, metric: &str) -> f64 {
        self.metric(&format!("flowsigma_job_{metric}{{name=\"hourly\"}}")).unwrap_or(f64::NAN)
    }
}
