//! Removing windows, jobs and leftovers.
//!
//! Owns: the order in which objects are deleted. Must not know: who asks for it.

use super::Store;
use super::layout::{self, Kind};
use crate::error::Result;
use crate::manifest::WindowTimes;
use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use object_store::ObjectMeta;
use object_store::path::Path;

/// How old counts or pairs without a manifest must be to be removed: older than any run.
const LEFTOVER: SignedDuration = SignedDuration::from_hours(24);

impl Store {
    /// Deletes a window with all revisions. The caller holds the job's lease.
    ///
    /// The oldest manifest is deleted first, so until the last one is gone the newest revision is complete.
    ///
    /// # Errors
    ///
    /// If the store fails. What was not deleted yet stays; a second call deletes it.
    pub async fn drop_window(&self, job: &str, window: WindowTimes) -> Result<()> {
        self.remove_settled(job).await?;
        let manifests: Vec<u32> = self.objects_of(job, window).await?.published().collect();
        for revision in manifests {
            self.delete(&layout::manifest(job, window, revision)).await?;
        }
        self.delete_all(&layout::window(job, window)).await
    }

    /// Deletes a job with all windows, and its lease last. The caller holds the lease, which is lost by that.
    ///
    /// # Errors
    ///
    /// If the store fails. What was not deleted yet stays; a second call deletes it.
    pub async fn drop_job(&self, job: &str) -> Result<()> {
        for window in self.windows(job).await? {
            self.drop_window(job, window).await?;
        }
        self.delete_all(&layout::windows(job)).await?;
        self.remove_settled(job).await?;
        self.delete_all(&layout::leases(job)).await
    }

    /// Deletes counts and pairs that a killed run has left: those of a revision without a manifest that are older than a day.
    /// Returns how many. The caller holds the job's lease and runs no window meanwhile.
    ///
    /// # Errors
    ///
    /// If the store fails, or if a folder is not a window's.
    pub async fn clean(&self, job: &str, now: Timestamp) -> Result<usize> {
        let mut removed = 0;
        for window in self.windows(job).await? {
            let folder = layout::window(job, window);
            let objects: Vec<_> = self.list(&folder).await?;
            let kind = |path: &Path| path.prefix_match(&folder).and_then(layout::kind);
            for object in &objects {
                let Some(Kind::Counts(revision) | Kind::Pairs(revision)) = kind(&object.location) else {
                    continue;
                };
                let is_old = last_modified(object).is_some_and(|at| now.duration_since(at) > LEFTOVER);
                let has_manifest =
                    || objects.iter().any(|o| kind(&o.location) == Some(Kind::Manifest(revision)));
                if is_old && !has_manifest() {
                    self.delete(&object.location).await?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    async fn list(&self, folder: &Path) -> Result<Vec<ObjectMeta>> {
        let objects = self.objects.list(Some(folder)).try_collect().await;
        objects.map_err(|e| self.failed(format!("list {folder}"), e))
    }

    async fn delete_all(&self, folder: &Path) -> Result<()> {
        let paths = futures::stream::iter(self.list(folder).await?).map(|object| Ok(object.location)).boxed();
        let mut deleted = self.objects.delete_stream(paths);
        while let Some(result) = deleted.next().await {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(self.failed(format!("delete {folder}"), e)),
            }
        }
        Ok(())
    }
}

/// Returns the time of an object's last change.
fn last_modified(object: &ObjectMeta) -> Option<Timestamp> {
    Timestamp::from_millisecond(object.last_modified.timestamp_millis()).ok()
}
