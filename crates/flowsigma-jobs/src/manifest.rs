//! What a run of a window leaves behind.
//!
//! Owns: the manifest and its JSON. Must not know: where it is stored, or how findings are made.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A window: half-open, `start` included and `end` excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WindowTimes {
    /// The first instant.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
}

/// An address that stands out, in the form of `detect --format json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The address.
    pub address: String,
    /// `outgoing` or `incoming`.
    pub direction: String,
    /// The number of flows with the address as source.
    pub outgoing: u64,
    /// The number of flows with the address as destination.
    pub incoming: u64,
    /// The mean of the counts of this direction.
    pub mean: f64,
    /// The population standard deviation of the counts of this direction.
    pub stddev: f64,
    /// The distance from the mean in standard deviations.
    pub z: f64,
    /// The round that found it, if findings are taken out of the counts: 1 for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<u32>,
}

/// The record of one revision of a window, written last. A revision without it does not exist.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format, 1.
    pub version: u32,
    /// The job's name.
    pub job: String,
    /// The SHA-256 of the job file's text, in hex: which version of the job ran.
    pub job_digest: String,
    /// The window.
    #[serde(flatten)]
    pub window: WindowTimes,
    /// 1 for the first run of the window, 2 for the next.
    pub revision: u32,
    /// The number of documents that the server counted for the window.
    pub documents: u64,
    /// The findings.
    pub findings: Vec<Finding>,
    /// The whole object of `detect --format json`.
    pub report: serde_json::Value,
    /// Whether the pairs of a source and a destination are kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pairs: bool,
    /// The names of the sinks that must get the findings.
    pub sinks: Vec<String>,
    /// The begin of the run.
    pub started: Timestamp,
    /// The end of the run.
    pub ended: Timestamp,
    /// The process that ran it: host and process id.
    pub holder: String,
}
