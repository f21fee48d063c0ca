//! Functions of SQL that come with the tables.
//!
//! Owns: their list. Must not know: how a filter is pushed.

mod address;
mod cidr;
mod full_text;

pub(crate) use address::{AddressKey, IP_KEY, IP_TEXT};
pub(crate) use cidr::{CIDR, Network};
pub(crate) use full_text::{MATCH, match_refused};

use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

/// The function of this name, which is one of [`functions`].
pub(crate) fn function(name: &str) -> Result<Arc<ScalarUDF>> {
    let found = functions().into_iter().find(|function| function.name() == name);
    found.ok_or_else(|| DataFusionError::Internal(format!("there is no function {name}")))
}

/// All functions. They are serialized by name: every scheduler and executor has to register them.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::from(address::KeyFunction::new())),
        Arc::new(ScalarUDF::from(address::TextFunction::new())),
        Arc::new(ScalarUDF::from(cidr::CidrFunction::new())),
        Arc::new(ScalarUDF::from(full_text::MatchFunction::new())),
    ]
}
