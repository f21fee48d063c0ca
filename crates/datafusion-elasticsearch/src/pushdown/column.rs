//! The columns in a filter.
//!
//! Owns: which column an operand is, which queries the server supports on it, and which casts around it are
//! allowed. Must not know: comparisons.

use super::query::Query;
use crate::functions::IP_KEY;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::logical_expr::Expr;
use elastic_arrow::{Column, FieldType, ReadFrom};

/// Returns the column of `expr`, which may be below a cast that keeps every value and their order.
pub(super) fn operand<'a>(expr: &Expr, columns: &'a [Column]) -> Option<&'a Column> {
    match expr {
        Expr::Column(name) => columns.iter().find(|c| c.name == name.name),
        Expr::Cast(cast) => {
            let Expr::Column(_) = &*cast.expr else { return None };
            let column = operand(&cast.expr, columns)?;
            keeps_values(&column.data_type(), cast.field.data_type()).then_some(column)
        }
        _ => None,
    }
}

/// Returns the address column whose keys `expr` computes.
pub(super) fn keyed<'a>(expr: &Expr, columns: &'a [Column]) -> Option<&'a Column> {
    let Expr::ScalarFunction(function) = expr else { return None };
    let [address] = function.args.as_slice() else { return None };
    let column = operand(address, columns).filter(|_| function.func.name() == IP_KEY)?;
    (column.field_type == FieldType::Ip && !column.array).then_some(column)
}

/// Returns a list column, and a scalar column of its elements.
pub(super) fn array_element<'a>(expr: &Expr, columns: &'a [Column]) -> Option<(&'a Column, Column)> {
    let column = operand(expr, columns).filter(|column| column.array)?;
    Some((column, Column { array: false, ..column.clone() }))
}

/// Whether a cast keeps every value. Integers from 2^53 lose digits as `Float64`; `number.rs` handles these.
fn keeps_values(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, LargeUtf8, Timestamp, UInt64, Utf8, Utf8View,
    };
    let utc = |zone: &Option<std::sync::Arc<str>>| zone.as_deref().is_none_or(is_utc);
    match (from, to) {
        (Utf8, Utf8 | LargeUtf8 | Utf8View) | (Float32, Float64) => true,
        (Int8, Int16 | Int32 | Int64) | (Int16, Int32 | Int64) | (Int32, Int64) => true,
        (Int8 | Int16 | Int32 | Int64 | UInt64, Float64) => true,
        (Int8 | Int16 | Int32 | Int64 | UInt64, Decimal128(precision, scale)) => {
            *scale >= 0 && i16::from(*precision) - i16::from(*scale) >= 20
        }
        (Timestamp(TimeUnit::Millisecond, None), Timestamp(unit, zone)) => {
            *unit != TimeUnit::Second && utc(zone)
        }
        (Timestamp(TimeUnit::Nanosecond, None), Timestamp(TimeUnit::Nanosecond, zone)) => utc(zone),
        _ => false,
    }
}

/// Whether a time zone is UTC, the zone of timestamps without a zone.
pub(super) fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "+00:00" | "Z")
}

/// Whether a column is read from doc values, which `exists` also tests.
pub(super) fn is_doc_values(column: &Column) -> bool {
    matches!(column.read_from, ReadFrom::DocValues { .. })
}

/// Finds every document in which the column is not null. A value that exists only in `_source`, such as one from
/// before the field was mapped, is missing to the server.
pub(super) fn exists(column: &Column) -> Query {
    if is_doc_values(column) { Query::Exists(column.name.clone()) } else { Query::All }
}

/// Finds exactly the documents in which the column is null. A `null_value` is in doc values, and is read from
/// there too.
pub(super) fn is_missing(column: &Column) -> Query {
    if is_doc_values(column) { Query::Missing(column.name.clone()) } else { Query::All }
}

/// The field whose terms are the values of a column.
pub(super) struct Terms<'a> {
    pub(super) field: &'a str,
    /// The values are read from `_source`, and the field may miss some of them: earlier documents have no value in
    /// a sub-field that was mapped later. A query must also find the documents without the field.
    pub(super) late: bool,
}

/// Returns the field in which the values of a scalar column can be searched.
///
/// A value longer than `ignore_above` has no doc value and no term, and the column reads it as null. This is not
/// so for columns read from `_source`, and an array with some values over the limit has only a part of them in the
/// field. These columns are not searched. Nor are columns of several types, because their ranges and spellings
/// differ.
pub(super) fn terms(column: &Column) -> Option<Terms<'_>> {
    if column.array || column.mixed {
        return None;
    }
    match (&column.read_from, &column.field_type) {
        (ReadFrom::DocValues { .. }, _) if column.indexed && !column.normalizer => {
            Some(Terms { field: &column.name, late: false })
        }
        (ReadFrom::Source, FieldType::Text) => {
            let subfield =
                column.keyword_subfield.as_ref().filter(|subfield| subfield.ignore_above.is_none());
            subfield.map(|subfield| Terms { field: &subfield.name, late: true })
        }
        (ReadFrom::Source, FieldType::Keyword | FieldType::Wildcard)
            if column.indexed && !column.normalizer && column.ignore_above.is_none() =>
        {
            Some(Terms { field: &column.name, late: true })
        }
        (ReadFrom::Metadata, _) => Some(Terms { field: &column.name, late: false }),
        _ => None,
    }
}

/// Returns the field in which a short text can be searched although longer values of the column are missing there.
/// It is enough for `=`: every document with this text has its term.
///
/// Servers count `ignore_above` in UTF-16 units. A text never has more of them than bytes.
pub(super) fn terms_of<'a>(column: &'a Column, text: &str) -> Option<Terms<'a>> {
    if column.array || column.mixed || !matches!(column.read_from, ReadFrom::Source) {
        return None;
    }
    let (field, limit) = match &column.field_type {
        FieldType::Text => {
            let subfield = column.keyword_subfield.as_ref()?;
            (&subfield.name, subfield.ignore_above?)
        }
        FieldType::Keyword if column.indexed && !column.normalizer => (&column.name, column.ignore_above?),
        _ => return None,
    };
    (text.len() <= limit as usize).then_some(Terms { field, late: true })
}
