//! The columns of a page, and the place of each column in a hit.
//!
//! Owns: the immutable plan of a decoder. Must not know: pages, or the values in them.

use std::collections::{BTreeSet, HashMap, HashSet};

use arrow::datatypes::SchemaRef;

use crate::error::Error;
use crate::field::{Column, FieldType, MetaField, ReadFrom, to_schema};
use crate::source_tree::SourceTree;
use crate::values::MAX_DEPTH;

/// The columns of a decoder, by their place in a hit.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) columns: Vec<Column>,
    pub(crate) schema: SchemaRef,
    /// The doc value columns in their order.
    pub(crate) doc_values: Vec<usize>,
    /// The position in `doc_values` of each name.
    by_name: HashMap<String, usize>,
    /// The columns that the sort values of a hit fill, after the first one, in this order.
    pub(crate) sort_values: Vec<usize>,
    pub(crate) source: SourceTree,
    pub(crate) metadata: Vec<(MetaField, usize)>,
}

impl Layout {
    /// Returns the layout of these columns. Those that `sorted` names are filled by sort values.
    ///
    /// # Errors
    ///
    /// If a column is `Unavailable`, if two columns have the same name, or if a path in `_source` is too deep.
    pub(crate) fn try_new(columns: Vec<Column>, sorted: &BTreeSet<String>) -> Result<Self, Error> {
        let schema = to_schema(&columns);
        let mut layout = Self {
            columns: Vec::new(),
            schema,
            doc_values: Vec::new(),
            by_name: HashMap::new(),
            sort_values: Vec::new(),
            source: SourceTree::default(),
            metadata: Vec::new(),
        };
        let mut names = HashSet::new();
        for (position, column) in columns.iter().enumerate() {
            if !names.insert(&column.name) {
                return Err(Error::DuplicateColumn { column: column.name.clone() });
            }
            match (&column.read_from, &column.field_type) {
                (ReadFrom::Unavailable { reason }, _) => {
                    return Err(Error::Unavailable { column: column.name.clone(), reason: reason.clone() });
                }
                (ReadFrom::Metadata, FieldType::Metadata(meta)) => layout.metadata.push((*meta, position)),
                (ReadFrom::Metadata, field_type) => {
                    let reason = format!("type {field_type} is not read from metadata");
                    return Err(Error::Unavailable { column: column.name.clone(), reason });
                }
                (ReadFrom::Source, _) if column.source_path.split('.').count() > MAX_DEPTH => {
                    let reason = format!("its path in _source has more than {MAX_DEPTH} levels");
                    return Err(Error::Unavailable { column: column.name.clone(), reason });
                }
                (ReadFrom::Source, _) => layout.source.insert(&column.source_path, position),
                (ReadFrom::DocValues { .. }, _) if sorted.contains(&column.name) => {
                    layout.sort_values.push(position);
                }
                (ReadFrom::DocValues { .. }, _) => {
                    layout.by_name.insert(column.name.clone(), layout.doc_values.len());
                    layout.doc_values.push(position);
                }
            }
        }
        layout.source.number(0);
        layout.columns = columns;
        Ok(layout)
    }

    /// Returns the position of `name` in `doc_values`, which probably is `hint`.
    pub(crate) fn position_of(&self, name: &str, hint: usize) -> Option<usize> {
        let hinted = self.doc_values.get(hint).filter(|column| self.columns[**column].name == name);
        if hinted.is_some() { Some(hint) } else { self.by_name.get(name).copied() }
    }
}
