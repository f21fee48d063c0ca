//! The fields of one index, before the indices are merged to one schema.
//!
//! Owns: the data types only. Must not know: mappings, or the merge.

use crate::field::Column;
use std::collections::BTreeSet;

/// The fields of one index.
pub(crate) struct IndexFields {
    pub(crate) index: String,
    pub(crate) leaves: Vec<Leaf>,
    /// The names of objects. A leaf of another index must not have the same name.
    pub(crate) objects: BTreeSet<String>,
}

/// A leaf field, with its column for this index alone.
pub(crate) struct Leaf {
    pub(crate) column: Column,
    /// Why the values are not in `_source`. `None` if they are.
    pub(crate) not_in_source: Option<String>,
}
