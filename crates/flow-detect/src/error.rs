//! Everything that can go wrong in this crate. Owns the messages; must not know who shows them.
//!
//! Nothing here does I/O, so no error of this crate is worth a retry.

use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a detection could not be described or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The threshold is not an exact decimal in range.
    #[error("sigma {text:?} is not usable: {reason}")]
    Sigma {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A field of the spec is not in the table.
    #[error("table {table:?} has no field {field:?}{}", suggest(.nearest))]
    UnknownField {
        /// The table.
        table: String,
        /// The field that is missing.
        field: String,
        /// The field whose name is nearest, if any is near.
        nearest: Option<String>,
    },
    /// An address field has a type whose values are not addresses.
    #[error("field {field:?} has type {data_type}: {reason}, and an address must be a string or an integer")]
    NotAnAddress {
        /// The field.
        field: String,
        /// Its type.
        data_type: DataType,
        /// Why it cannot be grouped.
        reason: &'static str,
    },
    /// The time field is no time, or not one that can be compared with a UTC window.
    #[error("time field {field:?} has type {data_type}: a window needs a date, or a timestamp in UTC")]
    NotATime {
        /// The field.
        field: String,
        /// Its type.
        data_type: DataType,
    },
    /// The time field counts whole seconds, and the window does not.
    #[error(
        "time field {field:?} has type {data_type}: a window on it must begin and end on whole seconds, \
         not at {instant} ms"
    )]
    BetweenSeconds {
        /// The field.
        field: String,
        /// Its type.
        data_type: DataType,
        /// The bound, in milliseconds since the epoch.
        instant: i64,
    },
    /// The window holds no instant.
    #[error("the window is empty: since {since} is not before until {until}")]
    EmptyWindow {
        /// First instant of the window.
        since: i64,
        /// First instant after it.
        until: i64,
    },
    /// A column of the answer is missing or holds what the statement cannot produce.
    #[error("answer column {column:?}: {problem}")]
    Response {
        /// The column.
        column: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A column of the answer could not be brought to its type.
    #[error("answer column {column:?} could not be converted: {source}")]
    Convert {
        /// The column.
        column: &'static str,
        /// What Arrow said.
        #[source]
        source: ArrowError,
    },
}

fn suggest(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!(", did you mean {name:?}?"),
        None => String::new(),
    }
}
