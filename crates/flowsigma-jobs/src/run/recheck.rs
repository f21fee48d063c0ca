//! Late documents.
//!
//! Owns: which windows are counted again, and which have grown. Must not know: how the server counts.

use super::Runner;
use crate::error::{Error, Result};
use crate::manifest::WindowTimes;
use crate::span::Span;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

/// Windows that are counted at the same time.
const COUNT_AT_ONCE: usize = 4;

/// Which windows within their recheck time an advance counts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recounts {
    /// All. Who runs a job by hand or by a timer expects to see what has arrived.
    EachTime,
    /// Those whose last count is old, compared with their age: for a server that advances all the time.
    SpacedByAge,
}

/// A window that has more documents than its newest revision has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// The window.
    pub window: WindowTimes,
    /// Its newest revision. [`Redo::Late`](super::Redo::Late) takes it.
    pub revision: u32,
    /// The documents of that revision.
    pub counted: u64,
    /// The documents now.
    pub documents: u64,
}

impl Runner<'_> {
    /// Counts the documents of windows again, and returns the windows that have grown.
    ///
    /// A window is counted until `window.recheck` after its end, and once after that: the last count covers the whole
    /// time, however rarely this is called. A window that has grown is returned until it has a new revision.
    ///
    /// A count is recorded in the store if it must be known later: if the window has grown, if it is the last one, or if
    /// later counts are spaced by it.
    ///
    /// # Errors
    ///
    /// If the engine or the store fails. What was recorded until then is used by the next call.
    pub async fn recheck(
        &self,
        windows: &[WindowTimes],
        now: Timestamp,
        recounts: Recounts,
    ) -> Result<Vec<Late>> {
        let Some(recheck) = self.job.window.recheck.as_deref() else { return Ok(Vec::new()) };
        let recheck: Span = recheck.parse()?;
        stream::iter(windows.iter().copied())
            .map(|window| self.recheck_window(window, recheck, now, recounts))
            .buffered(COUNT_AT_ONCE)
            .try_filter_map(|late| async move { Ok(late) })
            .try_collect()
            .await
    }

    async fn recheck_window(
        &self,
        window: WindowTimes,
        recheck: Span,
        now: Timestamp,
        recounts: Recounts,
    ) -> Result<Option<Late>> {
        let job = self.job.name.as_str();
        let objects = self.store.objects_of(job, window).await?;
        let Some(revision) = objects.published().next_back() else { return Ok(None) };
        let Some(manifest) = self.store.manifest(job, window, revision).await? else { return Ok(None) };
        let end = window.end.checked_add(recheck.signed_duration()).unwrap_or(Timestamp::MAX);
        let last = objects.last_recount(revision);
        // Documents may have come while the window was read.
        let documents = if last.unwrap_or(manifest.started) < end {
            let counted = self.engine.count(self.job, window).await;
            let documents = counted.map_err(|source| Error::Engine {
                job: job.into(),
                window: window.start.to_string(),
                source,
            })?;
            if documents > manifest.documents || end <= now || recounts == Recounts::SpacedByAge {
                self.store.record_recount(job, window, revision, documents, now).await?;
            }
            documents
        } else {
            let recount = match last {
                Some(at) => self.store.recount(job, window, revision, at).await?,
                None => None,
            };
            recount.map_or(manifest.documents, |recount| recount.documents)
        };
        let counted = manifest.documents;
        Ok((documents > counted).then_some(Late { window, revision, counted, documents }))
    }
}
