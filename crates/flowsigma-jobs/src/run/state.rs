//! The states of windows.
//!
//! Owns: what the store says about a window. Must not know: which windows a job has.

use super::delivery::owed;
use crate::error::Result;
use crate::manifest::WindowTimes;
use crate::store::Store;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Windows that are read at the same time.
const READ_AT_ONCE: usize = 16;

/// What became of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was run, and every sink has the findings.
    Done,
    /// It was not run.
    Missing,
    /// The last run failed. An earlier revision stays.
    Failed,
    /// Documents came after it was run.
    Late,
    /// It was run, and a sink does not have the findings.
    Owed,
}

/// A window, as `job windows --format json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowState {
    /// The first instant.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
    /// Its state. Of several, the first of failed, late and owed.
    pub state: State,
    /// The documents of the newest revision, if there is one.
    pub documents: Option<u64>,
    /// The number of its findings.
    pub findings: Option<usize>,
    /// The newest revision.
    pub revision: Option<u32>,
}

/// Returns the states of windows, in their order.
///
/// # Errors
///
/// If the store fails, or if an object in it is wrong.
pub async fn states(
    store: &Store,
    job: &str,
    windows: impl IntoIterator<Item = WindowTimes>,
) -> Result<Vec<WindowState>> {
    // One listing spares a request for each window that is missing.
    let known = &store.windows(job).await?;
    let windows: Vec<WindowTimes> = windows.into_iter().collect();
    stream::iter(windows)
        .map(|window| async move {
            match known.contains(&window) {
                true => state(store, job, window).await,
                false => Ok(without_revision(window, State::Missing)),
            }
        })
        .buffered(READ_AT_ONCE)
        .try_collect()
        .await
}

fn without_revision(window: WindowTimes, state: State) -> WindowState {
    let WindowTimes { start, end } = window;
    WindowState { start, end, state, documents: None, findings: None, revision: None }
}

async fn state(store: &Store, job: &str, window: WindowTimes) -> Result<WindowState> {
    let objects = store.objects_of(job, window).await?;
    let history = store.history(job, window, &objects).await?;
    let newest = history.last().map(|revision| &revision.manifest);
    let failure = if objects.failed { store.failure(job, window).await? } else { None };
    let has_failed = failure.is_some_and(|failure| newest.is_none_or(|m| m.revision < failure.revision));
    let Some(manifest) = newest else {
        return Ok(without_revision(window, if has_failed { State::Failed } else { State::Missing }));
    };
    let recount = match objects.last_recount(manifest.revision) {
        Some(at) => store.recount(job, window, manifest.revision, at).await?,
        None => None,
    };
    let state = if has_failed {
        State::Failed
    } else if recount.is_some_and(|recount| recount.documents > manifest.documents) {
        State::Late
    } else if !owed(&history).is_empty() {
        State::Owed
    } else {
        State::Done
    };
    Ok(WindowState {
        start: window.start,
        end: window.end,
        state,
        documents: Some(manifest.documents),
        findings: Some(manifest.findings.len()),
        revision: Some(manifest.revision),
    })
}
