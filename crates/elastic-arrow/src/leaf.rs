//! What one index says of its fields, before several indices become one schema.
//!
//! Owns: the form alone. Must not know: mappings, nor what is merged.

use crate::field::Column;
use std::collections::BTreeSet;

/// The leaves of one index.
pub(crate) struct IndexFields {
    pub(crate) index: String,
    pub(crate) leaves: Vec<Leaf>,
    /// Names of objects, which no leaf of another index may have.
    pub(crate) objects: BTreeSet<String>,
}

/// One leaf: its column as this index alone has it.
pub(crate) struct Leaf {
    pub(crate) column: Column,
    /// Why `_source` does not hold its values, if it does not.
    pub(crate) not_in_source: Option<String>,
}
