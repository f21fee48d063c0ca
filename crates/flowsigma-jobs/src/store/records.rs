//! The records of a window: counts, pairs, manifests, recounts, deliveries and failures.
//!
//! Owns: their JSON, and the check that an object is where it belongs. Must not know: in which order a run writes them.

use super::{Published, Store, layout};
use crate::error::Result;
use crate::manifest::{Manifest, WindowTimes};
use bytes::Bytes;
use jiff::Timestamp;
use object_store::path::Path;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The format of every JSON object that this version reads and writes.
const VERSION: u32 = 1;

/// A later count of a window's documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recount {
    /// The format, 1.
    pub version: u32,
    /// The time of the count.
    pub at: Timestamp,
    /// The number of documents.
    pub documents: u64,
}

/// A run of a window that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The format, 1.
    pub version: u32,
    /// The time of the failure.
    pub at: Timestamp,
    /// The revision that the run would have published. Once it exists, the failure is of the past.
    pub revision: u32,
    /// What failed.
    pub error: String,
}

#[derive(Serialize)]
struct Delivery<'a> {
    version: u32,
    sink: &'a str,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Store {
    /// Writes the counts of a revision, unless it has some.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn write_counts(
        &self,
        job: &str,
        window: WindowTimes,
        revision: u32,
        bytes: Bytes,
    ) -> Result<Published> {
        self.check_job(job)?;
        self.create_only(&layout::counts(job, window, revision), bytes).await
    }

    /// Writes the counts of a revision over those of a run that was killed before it published its manifest.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn replace_counts(
        &self,
        job: &str,
        window: WindowTimes,
        revision: u32,
        bytes: Bytes,
    ) -> Result<()> {
        self.check_job(job)?;
        self.replace(&layout::counts(job, window, revision), bytes).await
    }

    /// Reads the counts of a revision.
    ///
    /// # Errors
    ///
    /// If the store fails, or if the counts are missing.
    pub async fn read_counts(&self, job: &str, window: WindowTimes, revision: u32) -> Result<Bytes> {
        self.check_job(job)?;
        let path = layout::counts(job, window, revision);
        self.get(&path)
            .await?
            .ok_or_else(|| self.corrupt(path, "the counts are missing; run the window again"))
    }

    /// Writes the pairs of a revision, unless it has some.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn write_pairs(
        &self,
        job: &str,
        window: WindowTimes,
        revision: u32,
        bytes: Bytes,
    ) -> Result<Published> {
        self.check_job(job)?;
        self.create_only(&layout::pairs(job, window, revision), bytes).await
    }

    /// Writes the pairs of a revision over those of a run that was killed before it published its manifest.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn replace_pairs(
        &self,
        job: &str,
        window: WindowTimes,
        revision: u32,
        bytes: Bytes,
    ) -> Result<()> {
        self.check_job(job)?;
        self.replace(&layout::pairs(job, window, revision), bytes).await
    }

    /// Reads the pairs of a revision.
    ///
    /// # Errors
    ///
    /// If the store fails, or if the revision has no pairs.
    pub async fn read_pairs(&self, job: &str, window: WindowTimes, revision: u32) -> Result<Bytes> {
        self.check_job(job)?;
        let path = layout::pairs(job, window, revision);
        self.get(&path).await?.ok_or_else(|| {
            self.corrupt(path, "the pairs are missing; keep them by pairs = true in [store], or by --pairs")
        })
    }

    /// Creates the manifest of a revision, which makes the revision exist.
    ///
    /// # Errors
    ///
    /// If the store fails, or if the manifest cannot be found again under its path.
    pub async fn publish(&self, manifest: &Manifest) -> Result<Published> {
        self.check_job(&manifest.job)?;
        let path = layout::manifest(&manifest.job, manifest.window, manifest.revision);
        self.check_manifest(manifest, &path, &manifest.job, manifest.window, manifest.revision)?;
        self.create_json(&path, manifest).await
    }

    /// Reads the manifest of a revision. A revision that does not exist is `None`.
    ///
    /// # Errors
    ///
    /// If the store fails, or if the manifest cannot be parsed, has another version, or is another's.
    pub async fn manifest(&self, job: &str, window: WindowTimes, revision: u32) -> Result<Option<Manifest>> {
        self.check_job(job)?;
        let path = layout::manifest(job, window, revision);
        let Some(manifest) = self.record::<Manifest>(&path).await? else { return Ok(None) };
        self.check_manifest(&manifest, &path, job, window, revision)?;
        Ok(Some(manifest))
    }

    fn check_manifest(
        &self,
        manifest: &Manifest,
        path: &Path,
        job: &str,
        window: WindowTimes,
        revision: u32,
    ) -> Result<()> {
        if manifest.version != VERSION {
            return Err(self.corrupt(path, format!("the manifest has version {}", manifest.version)));
        }
        if manifest.job != job {
            return Err(self.corrupt(path, format!("the manifest is of job {:?}", manifest.job)));
        }
        // A path has milliseconds, so a window with finer times is not what its path says.
        if layout::parse_window(&layout::window_name(window)) != Some(manifest.window) {
            let WindowTimes { start, end } = manifest.window;
            return Err(self.corrupt(path, format!("the manifest is of the window {start} to {end}")));
        }
        if manifest.revision != revision || revision == 0 {
            return Err(self.corrupt(path, format!("the manifest is of revision {}", manifest.revision)));
        }
        Ok(())
    }

    /// Records a later count of a window's documents.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn record_recount(
        &self,
        job: &str,
        window: WindowTimes,
        revision: u32,
        documents: u64,
        at: Timestamp,
    ) -> Result<()> {
        self.check_job(job)?;
        let path = layout::recount(job, window, revision, at);
        let recount = self.json(&path, &Recount { version: VERSION, at, documents })?;
        self.replace(&path, recount).await
    }

    /// Reads the newest recount of a revision.
    ///
    /// # Errors
    ///
    /// If the store fails, or if the recount is wrong.
    pub async fn last_recount(
        &self,
        job: &str,
        window: WindowTimes,
        revision: u32,
    ) -> Result<Option<Recount>> {
        match self.objects_of(job, window).await?.last_recount(revision) {
            Some(at) => self.recount(job, window, revision, at).await,
            None => Ok(None),
        }
    }

    /// Reads the recount of a time.
    pub(crate) async fn recount(
        &self,
        job: &str,
        window: WindowTimes,
        revision: u32,
        at: Timestamp,
    ) -> Result<Option<Recount>> {
        self.record(&layout::recount(job, window, revision, at)).await
    }

    /// Records that a sink has the findings of a revision. A second record changes nothing.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn record_delivery(
        &self,
        job: &str,
        window: WindowTimes,
        revision: u32,
        sink: &str,
    ) -> Result<()> {
        self.check_job(job)?;
        let path = layout::delivery(job, window, revision, sink);
        self.create_json(&path, &Delivery { version: VERSION, sink }).await.map(|_| ())
    }

    /// Lists the sinks that have the findings of a revision.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn deliveries(
        &self,
        job: &str,
        window: WindowTimes,
        revision: u32,
    ) -> Result<BTreeSet<String>> {
        let mut objects = self.objects_of(job, window).await?;
        Ok(objects.revisions.remove(&revision).map(|r| r.deliveries).unwrap_or_default())
    }

    /// Records that a run of a window failed, in place of an earlier failure.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn record_failure(
        &self,
        job: &str,
        window: WindowTimes,
        revision: u32,
        at: Timestamp,
        error: &str,
    ) -> Result<()> {
        self.check_job(job)?;
        let path = layout::failed(job, window);
        let failure = Failure { version: VERSION, at, revision, error: error.into() };
        let failure = self.json(&path, &failure)?;
        self.replace(&path, failure).await
    }

    /// Reads the last failure of a window. It may be of the past: compare its revision.
    ///
    /// # Errors
    ///
    /// If the store fails, or if the record is wrong.
    pub async fn failure(&self, job: &str, window: WindowTimes) -> Result<Option<Failure>> {
        self.check_job(job)?;
        self.record(&layout::failed(job, window)).await
    }

    /// Removes the record of a failure. One that is missing is no error.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn remove_failure(&self, job: &str, window: WindowTimes) -> Result<()> {
        self.check_job(job)?;
        self.delete(&layout::failed(job, window)).await
    }

    /// Returns the names of the folder and the file of a revision's findings, below the folder of the job.
    pub(crate) fn findings_name(manifest: &Manifest, extension: &str) -> (String, String) {
        layout::findings_name(manifest.window, manifest.revision, extension)
    }

    /// Writes the findings of a revision as an object outside of the job's windows: this store is a sink.
    pub(crate) async fn write_findings(
        &self,
        manifest: &Manifest,
        extension: &str,
        content: Bytes,
    ) -> Result<()> {
        self.check_job(&manifest.job)?;
        let (folder, name) = Self::findings_name(manifest, extension);
        self.replace(&layout::job(&manifest.job).join(folder).join(name), content).await
    }

    /// Reads what the last advance of a job has left for the next one.
    pub(crate) async fn settled<T: DeserializeOwned>(&self, job: &str) -> Result<Option<T>> {
        self.check_job(job)?;
        self.record(&layout::settled(job)).await
    }

    /// Writes what an advance leaves for the next one, which must have a version.
    pub(crate) async fn write_settled<T: Serialize>(&self, job: &str, settled: &T) -> Result<()> {
        self.check_job(job)?;
        let path = layout::settled(job);
        let settled = self.json(&path, settled)?;
        self.replace(&path, settled).await
    }

    /// Deletes what an advance has left for the next one.
    pub(crate) async fn remove_settled(&self, job: &str) -> Result<()> {
        self.check_job(job)?;
        self.delete(&layout::settled(job)).await
    }

    /// Reads a JSON object, its version first: one of another version may have other fields.
    pub(super) async fn record<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let Some(bytes) = self.get(path).await? else { return Ok(None) };
        let Version { version } = self.parse(path, &bytes)?;
        if version != VERSION {
            let problem = format!(
                "this has version {version}, and this program reads version {VERSION}; use the program that wrote it"
            );
            return Err(self.corrupt(path, problem));
        }
        self.parse(path, &bytes).map(Some)
    }
}
