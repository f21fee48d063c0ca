//! What the store holds of a window.
//!
//! Owns: finding windows and revisions by one listing. Must not know: why a window has several revisions.

use super::Store;
use super::layout::{self, Kind};
use crate::error::Result;
use crate::manifest::{Manifest, WindowTimes};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Windows that are read at the same time.
const READ_AT_ONCE: usize = 16;

/// The names of a window's objects.
#[derive(Default)]
pub(crate) struct WindowObjects {
    /// By revision.
    pub(super) revisions: BTreeMap<u32, RevisionObjects>,
    /// Whether a run has failed.
    pub(crate) failed: bool,
}

#[derive(Default)]
pub(super) struct RevisionObjects {
    pub(super) manifest: bool,
    pub(super) recounts: BTreeSet<Timestamp>,
    pub(super) deliveries: BTreeSet<String>,
}

impl WindowObjects {
    fn revision(&mut self, revision: u32) -> &mut RevisionObjects {
        self.revisions.entry(revision).or_default()
    }

    /// Returns the revisions with a manifest, in ascending order.
    pub(crate) fn published(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.revisions.iter().filter(|(_, objects)| objects.manifest).map(|(revision, _)| *revision)
    }

    /// Returns whether a sink has the findings of a revision.
    pub(crate) fn is_delivered(&self, revision: u32, sink: &str) -> bool {
        self.revisions.get(&revision).is_some_and(|objects| objects.deliveries.contains(sink))
    }

    /// Returns the time of the last recount of a revision.
    pub(crate) fn last_recount(&self, revision: u32) -> Option<Timestamp> {
        self.revisions.get(&revision)?.recounts.last().copied()
    }
}

/// A revision and the sinks that have its findings.
#[derive(Clone, Debug)]
pub(crate) struct Revision {
    pub(crate) manifest: Manifest,
    pub(crate) deliveries: BTreeSet<String>,
}

impl Store {
    /// Lists the objects of a window.
    pub(crate) async fn objects_of(&self, job: &str, window: WindowTimes) -> Result<WindowObjects> {
        self.check_job(job)?;
        let folder = layout::window(job, window);
        let mut found = WindowObjects::default();
        let mut objects = self.objects.list(Some(&folder));
        while let Some(object) =
            objects.try_next().await.map_err(|e| self.failed(format!("list {folder}"), e))?
        {
            let Some(kind) = object.location.prefix_match(&folder).and_then(layout::kind) else { continue };
            match kind {
                Kind::Failed => found.failed = true,
                Kind::Counts(_) | Kind::Pairs(_) => {}
                Kind::Manifest(n) => found.revision(n).manifest = true,
                Kind::Recount(n, at) => _ = found.revision(n).recounts.insert(at),
                Kind::Delivery(n, sink) => _ = found.revision(n).deliveries.insert(sink),
            }
        }
        Ok(found)
    }

    /// Lists the windows that have an object, by start.
    ///
    /// # Errors
    ///
    /// If the store fails, or if a folder is not a window's.
    pub async fn windows(&self, job: &str) -> Result<BTreeSet<WindowTimes>> {
        self.check_job(job)?;
        let folder = layout::windows(job);
        let mut windows = BTreeSet::new();
        // Tools leave hidden folders on file systems.
        for name in self.folders(&folder).await?.iter().filter(|name| !name.starts_with('.')) {
            let Some(window) = layout::parse_window(name) else {
                return Err(self.corrupt(
                    folder.join(name.as_str()),
                    "this is not the folder of a window; move it away",
                ));
            };
            windows.insert(window);
        }
        Ok(windows)
    }

    /// Lists the revisions of a window that have a manifest, in ascending order.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn revisions(&self, job: &str, window: WindowTimes) -> Result<Vec<u32>> {
        Ok(self.objects_of(job, window).await?.published().collect())
    }

    /// Reads the newest manifest of each window that starts in `from..until`, by start.
    ///
    /// # Errors
    ///
    /// If the store fails, or if a manifest is wrong.
    pub async fn manifests(&self, job: &str, from: Timestamp, until: Timestamp) -> Result<Vec<Manifest>> {
        let windows = self.windows(job).await?.into_iter().filter(|w| (from..until).contains(&w.start));
        let newest = stream::iter(windows).map(|window| self.newest(job, window)).buffered(READ_AT_ONCE);
        newest.try_filter_map(|manifest| async { Ok(manifest) }).try_collect().await
    }

    /// Reads the newest manifest of a window.
    ///
    /// # Errors
    ///
    /// If the store fails, or if the manifest is wrong.
    pub async fn newest(&self, job: &str, window: WindowTimes) -> Result<Option<Manifest>> {
        match self.objects_of(job, window).await?.published().next_back() {
            Some(revision) => self.manifest(job, window, revision).await,
            None => Ok(None),
        }
    }

    /// Reads the revisions of a window that have a manifest, in ascending order.
    pub(crate) async fn history(
        &self,
        job: &str,
        window: WindowTimes,
        objects: &WindowObjects,
    ) -> Result<Vec<Revision>> {
        let mut history = Vec::new();
        for revision in objects.published() {
            if let Some(manifest) = self.manifest(job, window, revision).await? {
                let deliveries =
                    objects.revisions.get(&revision).map(|r| r.deliveries.clone()).unwrap_or_default();
                history.push(Revision { manifest, deliveries });
            }
        }
        Ok(history)
    }
}
