//! `detect --store` and `detect --from-store`: counts that are kept, and decided again.
//!
//! Owns: which windows of a store are decided together. Must not know: how flows are counted, or how a store is laid out.

use crate::counts::Counts;
use anyhow::{Context, bail};
use flow_detect::Detection;
use flowsigma_jobs::{Lease, Manifest, Published, Store, WindowTimes, this_process};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the lease of a store lasts unless it is renewed.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// A window that was decided, in the form of `detect --format json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Window {
    #[serde(flatten)]
    pub(crate) times: WindowTimes,
    pub(crate) revision: u32,
}

/// Opens a store of the command line.
pub(crate) fn open(url: &str, options: &[(String, String)]) -> anyhow::Result<Store> {
    let options: BTreeMap<String, String> = options.iter().cloned().collect();
    Ok(Store::open(url, &options)?)
}

/// The counts of a store, with the windows they are of.
pub(crate) struct Kept {
    pub(crate) counts: Counts,
    pub(crate) windows: Vec<Window>,
    /// The documents of all windows.
    pub(crate) documents: u64,
    /// The smallest share of the documents of a window that was read. None means all of them.
    pub(crate) share: Option<f64>,
}

/// What is kept of a window.
pub(crate) struct NewWindow {
    pub(crate) times: WindowTimes,
    pub(crate) documents: u64,
    /// The counts of addresses as a Parquet file.
    pub(crate) counts: Vec<u8>,
    /// The pairs as a Parquet file.
    pub(crate) pairs: Option<Vec<u8>>,
}

/// Reads the newest counts of every window of a job in a time range.
///
/// # Errors
///
/// If there is no such window, if two of them overlap, or if one reaches over a bound: its counts cannot be divided.
pub(crate) async fn read(
    store: &Store,
    job: Option<&str>,
    since: Option<i64>,
    until: Option<i64>,
) -> anyhow::Result<Kept> {
    let job = match job {
        Some(job) => job.to_owned(),
        None => only_job(store).await?,
    };
    let bound = |millis: Option<i64>, none| millis.map_or(Ok(none), Timestamp::from_millisecond);
    let (since, until) = (bound(since, Timestamp::MIN)?, bound(until, Timestamp::MAX)?);
    let mut kept = Kept { counts: Counts::default(), windows: Vec::new(), documents: 0, share: None };
    let known = store.windows(&job).await?;
    let mut end = Timestamp::MIN;
    for times in known.into_iter().filter(|window| window.start < until && window.end > since) {
        let Some(manifest) = store.newest(&job, times).await? else { continue };
        if times.start < since || times.end > until {
            bail!(
                "the window {} to {} of job \"{job}\" is only in part in the time range, and its counts cannot be \
                 divided: choose --since and --until at the bounds of windows, see flowsigma store list",
                times.start,
                times.end
            );
        }
        if times.start < end {
            bail!(
                "the window from {} overlaps the one before, so that flows would count twice: choose --since and \
                 --until so that only one of them is decided",
                times.start
            );
        }
        end = times.end;
        kept.counts.push_parquet(store.read_counts(&job, times, manifest.revision).await?)?;
        kept.windows.push(Window { times, revision: manifest.revision });
        kept.documents += manifest.documents;
        if let Some(share) = share_of(&manifest) {
            kept.share = Some(kept.share.map_or(share, |smallest| smallest.min(share)));
        }
    }
    if kept.windows.is_empty() {
        bail!(
            "store {}: job \"{job}\" has no window in the time range, see flowsigma store list",
            store.url()
        );
    }
    Ok(kept)
}

/// Returns the share of the documents that a sample has read.
fn share_of(manifest: &Manifest) -> Option<f64> {
    manifest.report["scope"]["sample"].as_str()?.trim().parse().ok()
}

/// Returns the name of the only job of a store.
pub(crate) async fn only_job(store: &Store) -> anyhow::Result<String> {
    let mut jobs = store.jobs().await?;
    match (jobs.pop(), jobs.is_empty()) {
        (Some(job), true) => Ok(job),
        (None, _) => bail!("store {}: it holds no counts", store.url()),
        (Some(last), false) => {
            jobs.push(last);
            bail!("store {}: it holds several jobs, name one by --job: {}", store.url(), jobs.join(", "))
        }
    }
}

/// Keeps the counts of a detection, and its pairs if there are any, as a new revision of its window.
///
/// # Errors
///
/// If the store fails, or if another process writes the same window.
pub(crate) async fn keep(
    store: &Store,
    job: &str,
    kept: NewWindow,
    findings: &Detection,
    report: serde_json::Value,
) -> anyhow::Result<Window> {
    let NewWindow { times, documents, counts, pairs } = kept;
    let started = Timestamp::now();
    let lease = Lease::take(store, job, &this_process(), LEASE).await?;
    let revision = store.revisions(job, times).await?.last().map_or(1, |last| last + 1);
    let written = async {
        store.replace_counts(job, times, revision, counts.into()).await?;
        let keeps_pairs = pairs.is_some();
        if let Some(pairs) = pairs {
            store.replace_pairs(job, times, revision, pairs.into()).await?;
        }
        let manifest = Manifest {
            version: 1,
            job: job.to_owned(),
            job_digest: String::new(),
            window: times,
            revision,
            documents,
            findings: serde_json::from_value(serde_json::to_value(&findings.findings)?)?,
            report,
            pairs: keeps_pairs,
            sinks: Vec::new(),
            started,
            ended: Timestamp::now(),
            holder: lease.holder().to_owned(),
        };
        lease.check().await?;
        match store.publish(&manifest).await? {
            Published::Written => Ok(Window { times, revision }),
            Published::Exists => bail!(
                "store {}: another process has written revision {revision} of the window from {}: run it again",
                store.url(),
                times.start
            ),
        }
    };
    let written: anyhow::Result<Window> = written.await;
    lease.release().await.context("the counts are kept, but the lease was not released")?;
    written
}
