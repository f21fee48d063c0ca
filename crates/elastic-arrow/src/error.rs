//! The error of this crate.
//!
//! Owns: the causes, with messages that can be understood without context. Must not know: callers.

use std::fmt;

use arrow::error::ArrowError;

/// Why mappings could not become columns, or a page could not become a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The type of a field has no column type.
    #[error(
        "field \"{field}\" of index \"{index}\" has type \"{field_type}\", which \
         has no column type; set the option unknown_types = json to read it as JSON text, \
         or name the field in exclude"
    )]
    UnknownType {
        /// The name of the index.
        index: String,
        /// The dotted name of the field.
        field: String,
        /// The type, as the mapping names it.
        field_type: String,
    },
    /// The mapping is invalid.
    #[error("mapping of index \"{index}\" is not usable at \"{field}\": {reason}")]
    InvalidMapping {
        /// The name of the index.
        index: String,
        /// The dotted name of the field, or `mappings` for the whole mapping.
        field: String,
        /// What is wrong with the mapping.
        reason: String,
    },
    /// A field has several types, and no column type can represent all of them without loss.
    #[error(
        "field \"{field}\" has types that do not fit one column: {types}; \
         name the field in the option exclude"
    )]
    Conflict {
        /// The dotted name of the field.
        field: String,
        /// Each type, with some of its indices.
        types: String,
    },
    /// The server cannot return the values of a column.
    #[error("column \"{column}\" cannot be read: {reason}")]
    Unavailable {
        /// The name of the column.
        column: String,
        /// Why the values cannot be returned.
        reason: String,
    },
    /// Two columns have the same name.
    #[error("column \"{column}\" is requested twice")]
    DuplicateColumn {
        /// The name of the column.
        column: String,
    },
    /// The response is not a search response, or is truncated.
    #[error("search response of {bytes} bytes cannot be parsed: {source}")]
    Malformed {
        /// The size of the response, in bytes.
        bytes: usize,
        /// The parser's error, with its position.
        #[source]
        source: serde_json::Error,
    },
    /// The response is so large that its strings may exceed Arrow's 32-bit offsets.
    #[error("search response of {bytes} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The size of the response, in bytes.
        bytes: usize,
        /// The largest size of a response, in bytes.
        limit: usize,
    },
    /// A value does not fit its column.
    #[error("{place}: field \"{field}\" of type {field_type} cannot hold {value}: {reason}")]
    Misfit {
        /// The document with the value.
        place: Box<Place>,
        /// The name of the column.
        field: String,
        /// The type of the column, as the mapping names it.
        field_type: String,
        /// The value, truncated to 100 characters.
        value: String,
        /// Why the value does not fit.
        reason: &'static str,
    },
    /// A document has several values for a column that is not a list.
    #[error("{place}: field \"{field}\" has more than one value, declare it: arrays = \"{field}\"")]
    MultipleValues {
        /// The document with the value.
        place: Box<Place>,
        /// The name of the column.
        field: String,
    },
    /// A hit has no `_id`, `_index` or `_source`, although a column needs it.
    #[error("{place}: \"{field}\" was requested and is missing in the response")]
    MissingMetadata {
        /// The document with the value.
        place: Box<Place>,
        /// `_id`, `_index` or `_source`.
        field: String,
    },
    /// Arrow could not build the batch.
    #[error("record batch cannot be built: {0}")]
    Arrow(#[from] ArrowError),
}

impl Error {
    /// Returns whether the same request may succeed if it is sent again. Only a malformed response is retryable.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Malformed { .. })
    }
}

/// The document of a value, as far as the response identifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The index of the document, if the response has it.
    pub index: Option<String>,
    /// The `_id` of the document, if the response has it.
    pub id: Option<String>,
    /// The row of the document in the page, from 0.
    pub row: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "document \"{id}\"")?,
            None => write!(f, "document at row {} of the page (_id unknown)", self.row)?,
        }
        match &self.index {
            Some(index) => write!(f, " of index \"{index}\""),
            None => f.write_str(" (index unknown)"),
        }
    }
}
