//! The paths in `_source` that columns are read from.
//!
//! Owns: following a dotted or plain key of `_source`. Must not know: documents.

use std::collections::HashMap;

use crate::key_order::KeyOrder;

/// The paths in `_source` that columns are read from, as a tree.
#[derive(Debug, Default)]
pub(crate) struct SourceTree {
    /// The place of this object among all objects of the tree. See [`SourceTree::number`].
    pub(crate) number: usize,
    pub(crate) columns: Vec<usize>,
    children: Vec<Child>,
    /// The position in `children` of each name.
    by_name: HashMap<String, usize>,
}

#[derive(Debug)]
struct Child {
    name: String,
    tree: SourceTree,
}

impl SourceTree {
    pub(crate) fn insert(&mut self, path: &str, column: usize) {
        let mut node = self;
        for segment in path.split('.') {
            let position = node.by_name.get(segment).copied().unwrap_or_else(|| {
                node.by_name.insert(segment.to_owned(), node.children.len());
                node.children.push(Child { name: segment.to_owned(), tree: Self::default() });
                node.children.len() - 1
            });
            node = &mut node.children[position].tree;
        }
        node.columns.push(column);
    }

    /// Numbers the objects of the complete tree from `next`. Returns the number after the last one.
    pub(crate) fn number(&mut self, next: usize) -> usize {
        self.number = next;
        self.children.iter_mut().fold(next + 1, |next, child| child.tree.number(next))
    }

    /// Returns the order of keys of each object, by its number, before any document is read.
    pub(crate) fn orders(&self) -> Vec<KeyOrder> {
        let mut orders = vec![KeyOrder::new(self.children.len())];
        orders.extend(self.children.iter().flat_map(|child| child.tree.orders()));
        orders
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// Returns the child of this object that a plain key leads to, with its position, which probably is `hint`.
    fn child(&self, key: &str, hint: usize) -> Option<usize> {
        let hinted = self.children.get(hint).is_some_and(|child| child.name == key);
        if hinted { Some(hint) } else { self.by_name.get(key).copied() }
    }

    /// Follows a key of this object. A dotted key descends several levels.
    pub(crate) fn descend(&self, key: &str, previous: Option<usize>, order: &mut KeyOrder) -> Descent<'_> {
        // The name of a child has no dot.
        if let Some(position) = order.follow(previous, |hint| self.child(key, hint)) {
            return Descent::At { tree: &self.children[position].tree, position: Some(position) };
        }
        let (mut node, mut passed): (&Self, &[usize]) = (self, &[]);
        for segment in key.split('.') {
            match node.by_name.get(segment).map(|position| &node.children[*position].tree) {
                Some(child) => (node, passed) = (child, &child.columns),
                None => return Descent::Beside(passed),
            }
        }
        Descent::At { tree: node, position: None }
    }
}

/// The place that a key leads to.
pub(crate) enum Descent<'a> {
    At {
        tree: &'a SourceTree,
        /// The position among the children, unless the key is dotted.
        position: Option<usize>,
    },
    /// A place without columns, below these columns.
    Beside(&'a [usize]),
}
