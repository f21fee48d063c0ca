//! The one error of this crate.
//!
//! Owns: what went wrong, in words that stand alone. Must not know who reads it.

use std::fmt;

use arrow::error::ArrowError;

/// Why a mapping could not become columns, or a page could not become a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A type this crate has no column for.
    #[error(
        "field \"{field}\" of index \"{index}\" has type \"{field_type}\", which has no column type; with the option unknown_types = json it is a column of JSON text, by exclude it is none"
    )]
    UnknownType {
        /// The index.
        index: String,
        /// The field.
        field: String,
        /// Its type, as the mapping spells it.
        field_type: String,
    },
    /// A mapping that is not one.
    #[error("mapping of index \"{index}\" is not usable at \"{field}\": {reason}")]
    InvalidMapping {
        /// The index.
        index: String,
        /// The field, or `mappings` for the whole.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// One name, several types, and no type that holds them all without loss.
    #[error(
        "field \"{field}\" has types that do not fit one column: {types}; by the option exclude it is none"
    )]
    Conflict {
        /// The field.
        field: String,
        /// Each type with its indices.
        types: String,
    },
    /// A column that no answer can hold.
    #[error("column \"{column}\" cannot be read: {reason}")]
    Unavailable {
        /// The column.
        column: String,
        /// Why.
        reason: String,
    },
    /// Two columns of one name.
    #[error("column \"{column}\" is asked for twice")]
    DuplicateColumn {
        /// The column.
        column: String,
    },
    /// An answer that is no search answer: cut off, or of another shape.
    #[error("search answer of {bytes} bytes cannot be parsed: {source}")]
    Malformed {
        /// How many bytes came.
        bytes: usize,
        /// Where parsing stopped.
        #[source]
        source: serde_json::Error,
    },
    /// An answer whose strings might not fit Arrow's 32 bit offsets.
    #[error("search answer of {bytes} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// How many bytes came.
        bytes: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// A value that its column cannot hold.
    #[error("{place}: field \"{field}\" of type {field_type} cannot hold {value}: {reason}")]
    Misfit {
        /// The document.
        place: Box<Place>,
        /// The column.
        field: String,
        /// Its type.
        field_type: String,
        /// The value, cut to 100 characters.
        value: String,
        /// Why it does not fit.
        reason: &'static str,
    },
    /// Several values in a column of one.
    #[error("{place}: field \"{field}\" has more than one value, declare it: arrays = \"{field}\"")]
    MultipleValues {
        /// The document.
        place: Box<Place>,
        /// The column.
        field: String,
    },
    /// A hit without `_id` or `_index`, which was asked for.
    #[error("{place}: the answer lacks \"{field}\", which was asked for")]
    MissingMetadata {
        /// The document.
        place: Box<Place>,
        /// `_id` or `_index`.
        field: String,
    },
    /// Arrow refused the arrays.
    #[error("record batch cannot be built: {0}")]
    Arrow(#[from] ArrowError),
}

impl Error {
    /// Whether asking the server once more may help: only a broken answer.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Malformed { .. })
    }
}

/// Where in a page a document stands, as far as the answer tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its index.
    pub index: Option<String>,
    /// Its `_id`.
    pub id: Option<String>,
    /// Its row in the page, from 0.
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
