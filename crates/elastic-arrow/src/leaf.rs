//! The fields of one mapping, before the mappings of all indices are merged to one schema.
//!
//! Owns: the data types only. Must not know: mappings, or the merge.

use crate::field::Column;
use std::collections::BTreeSet;

/// The fields of one mapping, which all of its indices have.
pub(crate) struct IndexFields<'a> {
    /// The first index with this mapping. Errors name it.
    pub(crate) index: &'a str,
    /// All indices with this mapping: their positions among the planned indices, ascending, and their names.
    pub(crate) indices: Vec<(usize, &'a str)>,
    pub(crate) leaves: Vec<Leaf>,
    /// The names of objects. A leaf of another index must not have the same name.
    pub(crate) objects: BTreeSet<String>,
}

/// A leaf field, with its column for this mapping alone.
pub(crate) struct Leaf {
    pub(crate) column: Column,
    /// Why the values are not in `_source`. `None` if they are.
    pub(crate) not_in_source: Option<String>,
}
