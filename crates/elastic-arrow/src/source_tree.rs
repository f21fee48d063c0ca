//! The paths that columns are read from.
//!
//! Owns: where a key of `_source`, dotted or not, leads. Must not know: documents.

use std::collections::HashMap;

/// The paths that columns are read from, as a tree.
#[derive(Debug, Default)]
pub(crate) struct SourceTree {
    pub(crate) columns: Vec<usize>,
    pub(crate) children: HashMap<String, SourceTree>,
}

impl SourceTree {
    pub(crate) fn insert(&mut self, path: &str, column: usize) {
        let mut node = self;
        for segment in path.split('.') {
            node = node.children.entry(segment.to_owned()).or_default();
        }
        node.columns.push(column);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// Where a key of this object leads; a dotted one leads further down.
    pub(crate) fn descend(&self, key: &str) -> Descent<'_> {
        let (mut node, mut passed): (&Self, &[usize]) = (self, &[]);
        for segment in key.split('.') {
            match node.children.get(segment) {
                Some(child) => (node, passed) = (child, &child.columns),
                None => return Descent::Beside(passed),
            }
        }
        Descent::At(node)
    }
}

/// Where a key leads.
pub(crate) enum Descent<'a> {
    At(&'a SourceTree),
    /// To no column, but below these.
    Beside(&'a [usize]),
}
