//! The errors of this crate.
//!
//! Owns: the messages. Must not know: who prints them.
//!
//! The crate does no I/O, so none of its errors is worth a retry.

use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// The result of a function of this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a detection cannot be described, or its rows cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The threshold is not a decimal within its bounds.
    #[error("sigma {text:?} is not usable: {reason}")]
    Sigma {
        /// The text as given.
        text: String,
        /// The reason.
        reason: &'static str,
    },
    /// A field of the spec does not exist in the table.
    #[error("table {table:?} has no field {field:?}{}", suggest(.nearest))]
    UnknownField {
        /// The table.
        table: String,
        /// The field.
        field: String,
        /// The existing field with the most similar name, if one is similar.
        nearest: Option<String>,
    },
    /// An address field has a type whose values are not addresses.
    #[error("field {field:?} has type {data_type}: {reason}, and an address must be a string or an integer")]
    NotAnAddress {
        /// The field.
        field: String,
        /// Its type.
        data_type: DataType,
        /// The reason.
        reason: &'static str,
    },
    /// The time field has a type that cannot be compared with a window in UTC.
    #[error("time field {field:?} has type {data_type}: a window needs a date, or a timestamp in UTC")]
    NotATime {
        /// The field.
        field: String,
        /// Its type.
        data_type: DataType,
    },
    /// The time field has whole seconds, and a bound of the window does not.
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
    /// The window is empty.
    #[error("the window is empty: since {since} is not before until {until}")]
    EmptyWindow {
        /// The first instant of the window, in milliseconds since the epoch.
        since: i64,
        /// The first instant after it, in milliseconds since the epoch.
        until: i64,
    },
    /// A column of the result is missing, or has a value that the statement cannot produce.
    #[error("result column {column:?}: {problem}")]
    Response {
        /// The column.
        column: &'static str,
        /// The problem.
        problem: String,
    },
    /// A column of the result cannot be cast to its expected type.
    #[error("result column {column:?} cannot be converted: {source}")]
    Convert {
        /// The column.
        column: &'static str,
        /// Arrow's error.
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
