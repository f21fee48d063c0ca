//! A finding as sinks get it.
//!
//! Owns: its identity and its state. Must not know: sinks.

use crate::manifest::{Finding, WindowTimes};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A finding of one window, with an identity that is the same in every run of the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The SHA-256 of job, start of the window, direction and address, in hex: the same finding has the same id.
    pub id: String,
    /// The job's name.
    pub job: String,
    /// The window.
    pub window: WindowTimes,
    /// The revision of the window that says so.
    pub revision: u32,
    /// What became of it since the revision before.
    pub state: AlertState,
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
    /// The end of the run that found it.
    pub detected: Timestamp,
}

/// What became of a finding since the revision before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// It was not found before.
    New,
    /// It was found before, with other numbers.
    Amended,
    /// It was found before, and is no longer.
    Withdrawn,
}
