//! Functions of SQL that come with the tables.
//!
//! Owns: their list. Must not know: how a filter is pushed.

mod cidr;
mod full_text;

pub(crate) use cidr::{CIDR, Network};
pub(crate) use full_text::{MATCH, match_refused};

use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

/// All functions. They travel by name: every node has to register them.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::from(cidr::CidrFunction::new())),
        Arc::new(ScalarUDF::from(full_text::MatchFunction::new())),
    ]
}
