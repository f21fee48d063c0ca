//! The detection: from a table of flows to the addresses whose counts stand out.
//!
//! Owns: the statement, the exact threshold, the statistics and the findings. Must not know: where a table comes from,
//! or which engine runs the statement.
//!
//! [`validate`] checks a [`DetectSpec`] against a schema, [`plan_sql`] writes the statement, the caller runs it, and
//! [`read_detection`] reads its rows. A caller that has the counts ([`counts_sql`]) decides over them ([`decide_sql`]),
//! and can decide again without the addresses found ([`decide_rest_sql`]).

mod detection;
mod error;
mod sigma;
mod spec;
mod sql;
mod validate;
mod warning;

pub use detection::{ColumnStatistics, Detection, Direction, Finding, Statistics, read_detection};
pub use error::{Error, Result};
pub use sigma::Sigma;
pub use spec::DetectSpec;
pub use sql::{
    counts_by_join_sql, counts_sql, decide_rest_sql, decide_sql, documents_sql, pairs_sql, plan_sql,
};
pub use validate::validate;
pub use warning::{MAX_PEEL, Warning};

#[cfg(test)]
mod tests;
