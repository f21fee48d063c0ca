//! What tests of runs need.
//!
//! Owns: an engine, sinks and an object store that can fail. Must not know: what is tested.

use crate::alert::{Alert, AlertState};
use crate::engine::{Engine, Outcome};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::lease::Lease;
use crate::manifest::{Finding, Manifest, WindowTimes};
use crate::run::{Redo, Run, Runner};
use crate::sink::Sink;
use crate::store::Store;
use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The n-th hour of 2026.
pub(crate) fn hour(n: i64) -> WindowTimes {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let start = start + SignedDuration::from_hours(n);
    WindowTimes { start, end: start + SignedDuration::from_hours(1) }
}

pub(crate) fn finding(address: &str, outgoing: u64) -> Finding {
    Finding {
        address: address.into(),
        direction: "outgoing".into(),
        outgoing,
        incoming: 1,
        mean: 2.5,
        stddev: 1.25,
        z: 38.0,
        round: None,
    }
}

pub(crate) fn manifest(revision: u32, found: &[(&str, u64)]) -> Manifest {
    Manifest {
        version: 1,
        job: "hourly".into(),
        job_digest: "d1".into(),
        window: hour(0),
        revision,
        documents: 100,
        findings: found.iter().map(|(address, outgoing)| finding(address, *outgoing)).collect(),
        report: serde_json::json!({"addresses": 12}),
        pairs: false,
        sinks: vec!["a".into(), "b".into()],
        started: hour(1).start,
        ended: hour(1).start,
        holder: "test 1".into(),
    }
}

pub(crate) fn job() -> Job {
    let text = r#"
        name = "hourly"
        [source]
        connection = "prod"
        index = "flows-*"
        [window]
        every = "1h"
        recheck = "24h"
        [store]
        url = "memory:///"
    "#;
    toml::from_str(text).unwrap()
}

/// Finds one address whose count is the number of documents.
#[derive(Default)]
pub(crate) struct FakeEngine {
    pub(crate) documents: AtomicU64,
    pub(crate) fails: AtomicBool,
    pub(crate) runs: AtomicUsize,
    pub(crate) counts: AtomicUsize,
}

impl FakeEngine {
    pub(crate) fn of(documents: u64) -> Self {
        Self { documents: documents.into(), ..Self::default() }
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

#[async_trait]
impl Engine for FakeEngine {
    async fn count(&self, _: &Job, _: WindowTimes) -> std::result::Result<u64, Failed> {
        self.counts.fetch_add(1, Ordering::SeqCst);
        Ok(self.documents.load(Ordering::SeqCst))
    }

    async fn run(
        &self,
        job: &Job,
        window: WindowTimes,
        _: &CancellationToken,
    ) -> std::result::Result<Outcome, Failed> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        if self.fails.load(Ordering::SeqCst) {
            return Err("search failed: index \"flows\": 503".into());
        }
        let documents = self.documents.load(Ordering::SeqCst);
        Ok(Outcome {
            documents,
            findings: vec![finding("10.0.0.1", documents), finding(&format!("10.0.1.{documents}"), 9)],
            report: serde_json::json!({"addresses": documents}),
            counts: format!("{} {documents}", window.start).into_bytes().into(),
            pairs: job.store.pairs.then(|| format!("pairs {documents}").into_bytes().into()),
        })
    }
}

/// What a sink has got: id, revision and state of each alert, and each delivery.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) alerts: BTreeSet<(String, u32, String)>,
    pub(crate) deliveries: Vec<u32>,
}

/// When a sink fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fails {
    Never,
    Before,
    /// The alerts arrive, but the sink does not know it.
    After,
}

pub(crate) struct FakeSink {
    pub(crate) name: &'static str,
    pub(crate) fails: Arc<Mutex<Fails>>,
    pub(crate) inbox: Arc<Mutex<Inbox>>,
}

impl FakeSink {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, fails: Arc::new(Mutex::new(Fails::Never)), inbox: Arc::default() }
    }
}

#[async_trait]
impl Sink for FakeSink {
    fn name(&self) -> &str {
        self.name
    }

    async fn deliver(&self, manifest: &Manifest, alerts: &[Alert]) -> Result<()> {
        let fails = *self.fails.lock().unwrap();
        if fails != Fails::Before {
            let mut inbox = self.inbox.lock().unwrap();
            inbox.deliveries.push(manifest.revision);
            for Alert { id, revision, state, .. } in alerts {
                let state = match state {
                    AlertState::New => "new",
                    AlertState::Amended => "amended",
                    AlertState::Withdrawn => "withdrawn",
                };
                inbox.alerts.insert((id.clone(), *revision, state.into()));
            }
        }
        if fails != Fails::Never {
            let (job, sink) = (manifest.job.clone(), self.name.into());
            return Err(Error::Sink { job, sink, problem: "503".into() });
        }
        Ok(())
    }
}

/// A job with two sinks, an engine and a clock that stands still.
pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) engine: FakeEngine,
    pub(crate) inboxes: Vec<Arc<Mutex<Inbox>>>,
    pub(crate) fails: Vec<Arc<Mutex<Fails>>>,
    pub(crate) sinks: Vec<Box<dyn Sink>>,
    pub(crate) job: Job,
}

impl Bench {
    pub(crate) fn new(store: Store) -> Self {
        let sinks = [FakeSink::new("a"), FakeSink::new("b")];
        Self {
            store,
            engine: FakeEngine::of(100),
            inboxes: sinks.iter().map(|sink| Arc::clone(&sink.inbox)).collect(),
            fails: sinks.iter().map(|sink| Arc::clone(&sink.fails)).collect(),
            sinks: sinks.into_iter().map(|sink| Box::new(sink) as Box<dyn Sink>).collect(),
            job: job(),
        }
    }

    pub(crate) fn runner<'a>(&'a self, lease: &'a Lease) -> Runner<'a> {
        Runner {
            engine: &self.engine,
            store: &self.store,
            lease,
            job: &self.job,
            digest: "d1",
            sinks: &self.sinks,
            clock: &|| hour(2).start,
        }
    }

    pub(crate) async fn lease(&self) -> Result<Lease> {
        Lease::take(&self.store, "hourly", "test 1", Duration::from_secs(600)).await
    }

    /// Takes the lease, runs the first hour and releases it.
    pub(crate) async fn run(&self, redo: Redo) -> Result<Run> {
        let lease = self.lease().await?;
        let run = self.runner(&lease).run_window(hour(0), redo).await;
        lease.release().await?;
        run
    }

    pub(crate) fn alerts(&self, sink: usize) -> BTreeSet<(String, u32, String)> {
        self.inboxes[sink].lock().unwrap().alerts.clone()
    }
}

/// Before a put, or after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Moment {
    Before,
    After,
}

/// Is called around the n-th put, from 1. If it fails, the put does.
type Hook = Box<dyn Fn(usize, Moment) -> BoxFuture<'static, object_store::Result<()>> + Send + Sync>;

/// An object store with a hook around each put, that remembers which objects were written.
pub(crate) struct Hooked {
    inner: Arc<dyn ObjectStore>,
    hook: Hook,
    pub(crate) puts: AtomicUsize,
    /// Requests of every kind.
    pub(crate) requests: AtomicUsize,
    pub(crate) written: Mutex<Vec<Path>>,
}

impl Hooked {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, hook: Hook) -> Self {
        let (puts, requests) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { inner, hook, puts, requests, written: Mutex::default() }
    }

    /// Only counts.
    pub(crate) fn counting(inner: Arc<dyn ObjectStore>) -> Self {
        Self::new(inner, Box::new(|_, _| futures::future::ready(Ok(())).boxed()))
    }

    fn requested(&self) {
        self.requests.fetch_add(1, Ordering::SeqCst);
    }

    /// The n-th put fails before the object is written, or after that.
    pub(crate) fn failing(inner: Arc<dyn ObjectStore>, at: usize, when: Moment) -> Self {
        let hook = move |n, moment| {
            let fails = n == at && moment == when;
            let result = if fails { Err(generic("the power is off")) } else { Ok(()) };
            futures::future::ready(result).boxed()
        };
        Self::new(inner, Box::new(hook))
    }
}

fn generic(text: &str) -> object_store::Error {
    object_store::Error::Generic { store: "hooked", source: text.into() }
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Display for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

#[async_trait]
impl ObjectStore for Hooked {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.requested();
        let n = self.puts.fetch_add(1, Ordering::SeqCst) + 1;
        (self.hook)(n, Moment::Before).await?;
        let result = self.inner.put_opts(location, payload, options).await?;
        self.written.lock().unwrap().push(location.clone());
        (self.hook)(n, Moment::After).await?;
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.requested();
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.requested();
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.requested();
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.requested();
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.requested();
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.requested();
        self.inner.copy_opts(from, to, options).await
    }
}
