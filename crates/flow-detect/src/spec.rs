//! What to detect. Owns the description; must not know how it becomes a statement.

use crate::sigma::Sigma;

/// What to detect: a table, the fields that matter, a window and a threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectSpec {
    /// The table of flows, as one bare name.
    pub table: String,
    /// The field that holds a flow's time; used only if `since` or `until` is set.
    pub time_field: String,
    /// The field that holds the address a flow comes from.
    pub source_field: String,
    /// The field that holds the address a flow goes to.
    pub destination_field: String,
    /// First instant of the window, in milliseconds since the epoch; none for no lower bound.
    pub since: Option<i64>,
    /// First instant after the window, in milliseconds since the epoch; none for no upper bound.
    pub until: Option<i64>,
    /// A condition in SQL on the flows to count; none for all.
    pub filter: Option<String>,
    /// How many standard deviations above the mean a count must lie to stand out.
    pub sigma: Sigma,
}
