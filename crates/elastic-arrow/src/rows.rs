//! The rows of a page while it is read.
//!
//! Owns: the builders of all columns, and the document of a refused value. Must not know: the form of a page.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Place};
use crate::field::MetaField;
use crate::key_order::KeyOrder;
use crate::layout::Layout;
use crate::values::{ColumnBuilder, Misfit, Scalar};

/// The rows of a page while it is read.
pub(crate) struct Rows<'d> {
    pub(crate) layout: &'d Layout,
    builders: Vec<ColumnBuilder>,
    pub(crate) rows: usize,
    /// The first value of this row that was refused. The error is made at the end of the row, because `_id` may follow
    /// the value.
    misfit: Option<(usize, Misfit)>,
    pub(crate) error: Option<Error>,
    /// Whether the row has its whole `_source`.
    whole_source: bool,
    /// The order of the keys of `fields`.
    pub(crate) field_order: KeyOrder,
    /// The order of the keys of each object in `_source`, by its number.
    pub(crate) source_orders: Vec<KeyOrder>,
}

impl<'d> Rows<'d> {
    pub(crate) fn new(layout: &'d Layout) -> Self {
        let builders = layout.columns.iter().map(ColumnBuilder::new).collect();
        Self {
            layout,
            builders,
            rows: 0,
            misfit: None,
            error: None,
            whole_source: false,
            field_order: KeyOrder::new(layout.doc_values.len()),
            source_orders: layout.source.orders(),
        }
    }

    pub(crate) fn push(&mut self, column: usize, value: Scalar<'_>) {
        let result = self.builders[column].push(value);
        self.keep(column, result);
    }

    pub(crate) fn push_json(&mut self, column: usize, text: &str) {
        let result = self.builders[column].push_json(text);
        self.keep(column, result);
    }

    pub(crate) fn push_source(&mut self, column: usize, text: &str) {
        self.whole_source = true;
        self.push_json(column, text);
    }

    pub(crate) fn keep(&mut self, column: usize, result: Result<(), Misfit>) {
        if let Err(misfit) = result {
            self.misfit.get_or_insert((column, misfit));
        }
    }

    /// Records that a dotted key has a value below this column. For a column of JSON text that is an error, because its
    /// text would not contain the value.
    pub(crate) fn keep_part(&mut self, column: usize) {
        if self.layout.columns[column].field_type.is_json() {
            let reason = "an object given by dotted keys, which cannot be assembled";
            self.misfit.get_or_insert((column, Misfit::value("…", reason)));
        }
    }

    /// Ends a row. Returns `false` if the page cannot be used, with the reason in `error`.
    pub(crate) fn end_row(&mut self, id: Option<&str>, index: Option<&str>) -> bool {
        for (meta, column) in &self.layout.metadata {
            let value = match meta {
                MetaField::Id => id,
                MetaField::Index => index,
                MetaField::Source if self.whole_source => continue,
                MetaField::Source => None,
            };
            let Some(value) = value else {
                let place = self.place(id, index);
                self.error = Some(Error::MissingMetadata { place, field: meta.name().to_owned() });
                return false;
            };
            if let Err(misfit) = self.builders[*column].push(Scalar::Text(value)) {
                self.misfit.get_or_insert((*column, misfit));
            }
        }
        if let Some((column, misfit)) = self.misfit.take() {
            self.error = Some(self.describe(column, misfit, self.place(id, index)));
            return false;
        }
        self.whole_source = false;
        for builder in &mut self.builders {
            builder.end_row();
        }
        self.rows += 1;
        true
    }

    fn place(&self, id: Option<&str>, index: Option<&str>) -> Box<Place> {
        Box::new(Place { index: index.map(str::to_owned), id: id.map(str::to_owned), row: self.rows })
    }

    fn describe(&self, column: usize, misfit: Misfit, place: Box<Place>) -> Error {
        let column = &self.layout.columns[column];
        let field = column.name.clone();
        match misfit {
            Misfit::Several => Error::MultipleValues { place, field },
            Misfit::Value { shown, reason } => Error::Misfit {
                place,
                field,
                field_type: column.field_type.to_string(),
                value: shown,
                reason,
            },
        }
    }

    pub(crate) fn finish(self) -> Result<RecordBatch, Error> {
        let mut arrays = Vec::with_capacity(self.builders.len());
        for builder in self.builders {
            arrays.push(builder.finish()?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        Ok(RecordBatch::try_new_with_options(SchemaRef::clone(&self.layout.schema), arrays, &options)?)
    }
}
