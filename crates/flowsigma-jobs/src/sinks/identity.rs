//! Which finding a line is.
//!
//! Owns: what makes two lines the same finding. Must not know: the form of a line.

use crate::alert::Alert;
use crate::manifest::WindowTimes;
use serde::Deserialize;

/// What makes two lines the same finding of the same revision.
#[derive(Debug, PartialEq, Eq, Hash, Deserialize)]
pub(super) struct Identity {
    pub(super) id: String,
    pub(super) job: String,
    pub(super) window: WindowTimes,
    pub(super) revision: u32,
}

impl Identity {
    pub(super) fn of(alert: &Alert) -> Self {
        Self { id: alert.id.clone(), job: alert.job.clone(), window: alert.window, revision: alert.revision }
    }
}
