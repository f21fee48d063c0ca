//! The SQL functions of this crate.
//!
//! Owns: the list of functions. Must not know: how a filter is pushed.

mod address;
mod cidr;
mod full_text;

pub(crate) use address::{AddressKey, IP_KEY, IP_TEXT};
pub(crate) use cidr::{CIDR, Network};
pub(crate) use full_text::{MATCH, match_refused};

use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

/// Returns the function with this name, which must be one of [`functions`].
pub(crate) fn function(name: &str) -> Result<Arc<ScalarUDF>> {
    let found = functions().into_iter().find(|function| function.name() == name);
    found.ok_or_else(|| DataFusionError::Internal(format!("there is no function {name}")))
}

/// Returns all SQL functions of this crate: `ip_key`, `ip_text`, `cidr` and `match`. Plans are serialized with the
/// name of a function only, so every scheduler and executor must register them.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::from(address::KeyFunction::new())),
        Arc::new(ScalarUDF::from(address::TextFunction::new())),
        Arc::new(ScalarUDF::from(cidr::CidrFunction::new())),
        Arc::new(ScalarUDF::from(full_text::MatchFunction::new())),
    ]
}
