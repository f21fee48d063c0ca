//! The store of jobs: an object store with a folder for each job.
//!
//! Owns: reading, creating, listing and deleting objects, and their errors. Must not know: when a window is run.
//!
//! Below the URL, `START` and `END` being times such as `20260101T000000Z`:
//!
//! ```text
//! JOB/lease/NNNNNNNNNN.json
//! JOB/settled.json
//! JOB/windows/START_END/failed.json
//! JOB/windows/START_END/rNNNNNN/counts.parquet
//! JOB/windows/START_END/rNNNNNN/pairs.parquet
//! JOB/windows/START_END/rNNNNNN/manifest.json
//! JOB/windows/START_END/rNNNNNN/recounts/START.json
//! JOB/windows/START_END/rNNNNNN/deliveries/SINK.json
//! ```
//!
//! `settled.json` only spares requests: without it, a run looks at every window of the job.
//!
//! A manifest, a delivery and a lease are created once and never written again. So two processes cannot both write one,
//! on a file system as on S3. A revision without a manifest does not exist.
//!
//! Requests go only to hosts that the store's options name; see [`Store::open`].

mod client;
mod hosts;
mod layout;
mod open;
mod records;
mod removal;
mod services;
mod window;

pub use records::{Failure, Recount};
pub(crate) use window::Revision;

use crate::error::{Error, Result};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Whether an object was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// This call created it.
    Written,
    /// It exists already, and was left as it is.
    Exists,
}

/// The store of jobs. A clone is the same store.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    url: Arc<str>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store of a URL: `file:///path`, `s3://bucket/path`, `gs://bucket/path` or `az://container/path`.
    ///
    /// The folder of a `file` URL is created with mode 0700 if it is missing. Nothing is sent to a server.
    ///
    /// A cloud's endpoint is named by options: `endpoint` or `region` for S3, `base_url` for GCS unless it is Google's,
    /// `endpoint` or `account_name` for Azure. An `http` endpoint also needs `allow_http = "true"`. Credentials come
    /// from the environment only. A service that hands out credentials, such as instance metadata, is asked only if an
    /// option names it. No redirect is followed, and a request to any other host is refused before a connection is
    /// made.
    ///
    /// # Errors
    ///
    /// If the URL, an option or the credentials cannot be used, or if the folder cannot be created.
    pub fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        let objects = open::open(url, options, &|name| std::env::var(name).ok())?;
        Ok(Self::with_objects(&open::without_credentials(url), objects))
    }

    /// Returns an empty store that lasts as long as its last clone.
    pub fn in_memory() -> Self {
        Self::with_objects("memory:///", Arc::new(InMemory::new()))
    }

    pub(crate) fn with_objects(url: &str, objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects, url: url.into() }
    }

    /// Returns the store's URL, which has no credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the content of an object.
    #[cfg(test)]
    pub(crate) async fn object(&self, path: &str) -> Option<Bytes> {
        self.get(&Path::from(path)).await.expect("a store in memory")
    }

    /// Lists the jobs that have an object, by name.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn jobs(&self) -> Result<Vec<String>> {
        let names = self.folders(&Path::ROOT).await?;
        Ok(names.into_iter().filter(|name| layout::is_job_name(name)).collect())
    }

    /// Lists the lease generations of a job.
    pub(crate) async fn lease_generations(&self, job: &str) -> Result<BTreeSet<u64>> {
        self.check_job(job)?;
        let mut objects = self.objects.list(Some(&layout::leases(job)));
        let mut generations = BTreeSet::new();
        while let Some(object) = objects
            .try_next()
            .await
            .map_err(|e| self.failed(format!("list the leases of job \"{job}\""), e))?
        {
            generations.extend(object.location.filename().and_then(layout::parse_lease));
        }
        Ok(generations)
    }

    /// Returns a lease generation, or `None` if it was deleted since it was listed.
    pub(crate) async fn lease<T: DeserializeOwned>(&self, job: &str, generation: u64) -> Result<Option<T>> {
        self.record(&layout::lease(job, generation)).await
    }

    /// Creates a lease generation.
    pub(crate) async fn create_lease<T: serde::Serialize>(
        &self,
        job: &str,
        generation: u64,
        object: &T,
    ) -> Result<Published> {
        self.create_json(&layout::lease(job, generation), object).await
    }

    /// Deletes a lease generation. One that is missing is no error.
    pub(crate) async fn delete_lease(&self, job: &str, generation: u64) -> Result<()> {
        self.delete(&layout::lease(job, generation)).await
    }

    /// Refuses a name that would not be one folder.
    fn check_job(&self, job: &str) -> Result<()> {
        if layout::is_job_name(job) {
            return Ok(());
        }
        Err(self.corrupt(
            format!("{job:?}"),
            "this is not a job's name; use lower-case letters, digits and \"-\"",
        ))
    }

    fn failed(&self, operation: String, source: object_store::Error) -> Error {
        Error::Store { url: self.url.to_string(), operation, source }
    }

    fn corrupt(&self, path: impl ToString, problem: impl Into<String>) -> Error {
        Error::Corrupt { url: self.url.to_string(), path: path.to_string(), problem: problem.into() }
    }

    /// Creates an object, unless it exists.
    async fn create_only(&self, path: &Path, bytes: Bytes) -> Result<Published> {
        let options = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(path, PutPayload::from_bytes(bytes), options).await {
            Ok(_) => Ok(Published::Written),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Published::Exists),
            Err(e) => Err(self.failed(format!("create {path}"), e)),
        }
    }

    /// Creates an object. If the object exists with the same content, an earlier attempt has written it, whose response
    /// was lost.
    async fn create(&self, path: &Path, bytes: Bytes) -> Result<Published> {
        let published = self.create_only(path, bytes.clone()).await?;
        if published == Published::Exists && self.get(path).await?.is_some_and(|there| there == bytes) {
            return Ok(Published::Written);
        }
        Ok(published)
    }

    async fn create_json<T: serde::Serialize>(&self, path: &Path, object: &T) -> Result<Published> {
        self.create(path, self.json(path, object)?).await
    }

    async fn replace(&self, path: &Path, bytes: Bytes) -> Result<()> {
        let written = self.objects.put(path, PutPayload::from_bytes(bytes)).await;
        written.map(|_| ()).map_err(|e| self.failed(format!("write {path}"), e))
    }

    fn json<T: serde::Serialize>(&self, path: &Path, object: &T) -> Result<Bytes> {
        let text = serde_json::to_vec(object);
        text.map(Bytes::from).map_err(|e| self.corrupt(path, format!("this cannot be written as JSON: {e}")))
    }

    fn parse<T: DeserializeOwned>(&self, path: &Path, bytes: &[u8]) -> Result<T> {
        serde_json::from_slice(bytes)
            .map_err(|e| self.corrupt(path, format!("this is not what flowsigma writes: {e}")))
    }

    /// Returns an object's content, or `None` if it is missing.
    async fn get(&self, path: &Path) -> Result<Option<Bytes>> {
        let failed = |e| self.failed(format!("read {path}"), e);
        let object = match self.objects.get(path).await {
            Ok(object) => object,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        object.bytes().await.map(Some).map_err(failed)
    }

    /// Deletes an object. One that is missing is no error.
    async fn delete(&self, path: &Path) -> Result<()> {
        match self.objects.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.failed(format!("delete {path}"), e)),
        }
    }

    /// Lists the folders in a folder.
    async fn folders(&self, path: &Path) -> Result<BTreeSet<String>> {
        let listed = self.objects.list_with_delimiter((!path.is_root()).then_some(path)).await;
        let listed = listed.map_err(|e| self.failed(format!("list {path}"), e))?;
        Ok(listed.common_prefixes.iter().filter_map(|p| p.filename()).map(str::to_owned).collect())
    }
}

#[cfg(test)]
#[path = "store/tests.rs"]
mod tests;
