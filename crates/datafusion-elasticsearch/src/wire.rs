//! The serialized form of tables, scans and slices that the client, the scheduler and the executors exchange.
//!
//! Owns: the names and values of every format so far, and their conversions. Must not know: I/O, or the envelope,
//! which the sender's crate owns.
//!
//! These structs describe only the serialized form. A field of a table or a scan may be renamed without a change
//! of the format. The conversions destructure tables and scans, so that a new field is a compile error until it is
//! serialized. A change here needs a new [`VERSION`]. `fuzz/seeds/codec` keeps the bytes of each format.
//!
//! | format | what is sent |
//! |---|---|
//! | 1 | has no `version`; each slice has the id of its point in time (PIT) |
//! | 2 | lists the ids of PITs once, and a slice names its own by number |
//! | 3 | says whether servers aggregate, and what was proved when the search context was opened |

mod column;
mod slice;
mod spec;

pub use slice::{from_batch, schema, to_batch};

use crate::spec::{ScanSpec, TableSpec};
use datafusion::error::{DataFusionError, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use slice::{SliceV1, Slices};
use spec::{Scan, Table};

/// The format that this version of the program writes. It reads this format and all earlier ones.
pub const VERSION: u32 = 3;

/// Returns the format that a JSON text declares; 1 if it declares none.
///
/// # Errors
///
/// Returns an error if the text is not a JSON object, or has a format that this version does not read. `operation`
/// names the expected content in the message, such as `a table`.
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

/// Serializes a table to JSON, in format [`VERSION`].
///
/// # Errors
///
/// Returns an error if a value cannot be written as JSON.
pub fn encode_table(table: &TableSpec) -> Result<String> {
    encode(&Table::<Slices>::of(table))
}

/// Deserializes a table from JSON in any format so far.
///
/// # Errors
///
/// Returns an error if the format or a value is unknown, or a value is out of bounds.
pub fn decode_table(text: &str) -> Result<TableSpec> {
    const WHAT: &str = "a table";
    let table = match version(WHAT, text)? {
        1 => decode::<Table<Vec<SliceV1>>>(WHAT, text)?.into_spec(|slices| Ok(slice::of_v1(slices))),
        _ => decode::<Table<Slices>>(WHAT, text)?.into_spec(Slices::into_domain),
    };
    table.map_err(|e| unreadable(WHAT, e))
}

/// Serializes a scan without its slices to JSON, in format [`VERSION`].
///
/// # Errors
///
/// Returns an error if a value cannot be written as JSON.
pub fn encode_scan(scan: &ScanSpec) -> Result<String> {
    encode(&Scan::of(scan))
}

/// Deserializes a scan from JSON in any format so far.
///
/// # Errors
///
/// Returns an error if the format or a value is unknown, or a value is out of bounds.
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

/// The reason why a value does not conform to the format.
type Invalid = Box<dyn std::error::Error + Send + Sync>;

fn unreadable(operation: &str, error: impl Into<Invalid>) -> DataFusionError {
    DataFusionError::External(error.into()).context(format!(
        "{operation} that arrived cannot be read: run one version on all nodes of the cluster"
    ))
}

#[cfg(test)]
mod tests;
