//! Tables, scans and slices as they are sent from one node of the cluster to another.
//!
//! Owns: the names and the values of what is sent, in every format so far, and its conversions. Must not know:
//! I/O, or the envelope, which is that of whoever sends.
//!
//! The structs in here are only for what is sent: a field of a table or a scan may be renamed without a change of
//! it, and the conversions take tables and scans apart, so that a new field of these is a compile error until it is
//! sent. What changes in here needs a new [`VERSION`]; the bytes of each format so far are kept in
//! `fuzz/seeds/codec`.
//!
//! | format | what is sent |
//! |---|---|
//! | 1 | has no `version`; each slice has the id of its point in time (PIT) |
//! | 2 | lists the ids of PITs once, and a slice names its own by number |

mod column;
mod slice;
mod spec;

pub use slice::{from_batch, schema, to_batch};

use crate::exec::ScanSpec;
use crate::table::TableSpec;
use datafusion::error::{DataFusionError, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use slice::{SliceV1, Slices};
use spec::{Scan, Table};

/// The format that this version of the program writes. It reads this one and all before.
pub const VERSION: u32 = 2;

/// Returns the format that a JSON text says it has: 1 where it says none.
///
/// # Errors
///
/// If the text is no JSON object, or has a format that this version does not read. `operation` is what it should be,
/// such as `a table`.
pub fn version(operation: &str, text: &str) -> Result<u32> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(default = "first")]
        version: u32,
    }
    let Head { version } = serde_json::from_str(text).map_err(|e| unreadable(operation, e))?;
    if (1..=VERSION).contains(&version) {
        return Ok(version);
    }
    Err(DataFusionError::Plan(format!(
        "{operation} arrived in format {version}, and this version reads formats 1 to {VERSION}: run one version on all \
         nodes of the cluster"
    )))
}

pub(crate) fn first() -> u32 {
    1
}

/// The JSON text of a table, in format [`VERSION`].
///
/// # Errors
///
/// If it cannot be written as JSON.
pub fn encode_table(table: &TableSpec) -> Result<String> {
    encode(&Table::<Slices>::of(table))
}

/// Reads a table of any format so far.
///
/// # Errors
///
/// If the format or a value is not known, or a value is out of its bounds.
pub fn decode_table(text: &str) -> Result<TableSpec> {
    const WHAT: &str = "a table";
    let table = match version(WHAT, text)? {
        1 => decode::<Table<Vec<SliceV1>>>(WHAT, text)?.into_spec(|slices| Ok(slice::of_v1(slices))),
        _ => decode::<Table<Slices>>(WHAT, text)?.into_spec(Slices::into_domain),
    };
    table.map_err(|e| unreadable(WHAT, e))
}

/// The JSON text of a scan, without its slices, in format [`VERSION`].
///
/// # Errors
///
/// If it cannot be written as JSON.
pub fn encode_scan(scan: &ScanSpec) -> Result<String> {
    encode(&Scan::of(scan))
}

/// Reads a scan of any format so far. Both have the same fields.
///
/// # Errors
///
/// If the format or a value is not known, or a value is out of its bounds.
pub fn decode_scan(text: &str) -> Result<ScanSpec> {
    const WHAT: &str = "a scan";
    version(WHAT, text)?;
    decode::<Scan>(WHAT, text)?.into_spec().map_err(|e| unreadable(WHAT, e))
}

fn encode(sent: &impl Serialize) -> Result<String> {
    serde_json::to_string(sent).map_err(|e| DataFusionError::External(Box::new(e)))
}

fn decode<T: DeserializeOwned>(operation: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| unreadable(operation, e))
}

/// A value that is not what the format allows.
type Invalid = Box<dyn std::error::Error + Send + Sync>;

fn unreadable(operation: &str, error: impl Into<Invalid>) -> DataFusionError {
    DataFusionError::External(error.into()).context(format!(
        "{operation} that arrived cannot be read: run one version on all nodes of the cluster"
    ))
}

#[cfg(test)]
mod tests;
