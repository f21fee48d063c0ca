//! The description of a detection.
//!
//! Owns: the description. Must not know: how it becomes a statement.

use crate::sigma::Sigma;

/// A detection: a table, its fields, a time window and a threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectSpec {
    /// The table of flows, as one bare name.
    pub table: String,
    /// The field with a flow's time. It is used only if `since` or `until` is set.
    pub time_field: String,
    /// The field with the source address of a flow.
    pub source_field: String,
    /// The field with the destination address of a flow.
    pub destination_field: String,
    /// The first instant of the window, in milliseconds since the epoch. None means no lower bound.
    pub since: Option<i64>,
    /// The first instant after the window, in milliseconds since the epoch. None means no upper bound.
    pub until: Option<i64>,
    /// A condition in SQL on the flows to count. None counts all of them.
    pub filter: Option<String>,
    /// The number of standard deviations above the mean from which a count stands out.
    pub sigma: Sigma,
}
