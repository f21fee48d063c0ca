//! The paths in `_source` that columns are read from.
//!
//! Owns: following a dotted or plain key of `_source`. Must not know: documents.

use std::collections::HashMap;

/// The paths in `_source` that columns are read from, as a tree.
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

    /// Follows a key of this object. A dotted key descends several levels.
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

/// The place that a key leads to.
pub(crate) enum Descent<'a> {
    At(&'a SourceTree),
    /// A place without columns, below these columns.
    Beside(&'a [usize]),
}
