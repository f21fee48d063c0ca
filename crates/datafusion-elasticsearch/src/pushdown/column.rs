//! Columns as filters see them.
//!
//! Owns: which column an operand is, what the server can be asked of it, and what a cast around it
//! may be. Must not know: comparisons.

use super::query::Query;
use crate::functions::IP_KEY;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::logical_expr::Expr;
use elastic_arrow::{Column, FieldType, ReadFrom};

/// The column that `expr` is, under a cast that keeps every value and their order.
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

/// The address column whose keys `expr` is.
pub(super) fn keyed<'a>(expr: &Expr, columns: &'a [Column]) -> Option<&'a Column> {
    let Expr::ScalarFunction(function) = expr else { return None };
    let [address] = function.args.as_slice() else { return None };
    let column = operand(address, columns).filter(|_| function.func.name() == IP_KEY)?;
    (column.field_type == FieldType::Ip && !column.array).then_some(column)
}

/// A list column, and a scalar one with its values.
pub(super) fn array_element<'a>(expr: &Expr, columns: &'a [Column]) -> Option<(&'a Column, Column)> {
    let column = operand(expr, columns).filter(|column| column.array)?;
    Some((column, Column { array: false, ..column.clone() }))
}

/// Integers as `Float64` lose digits from 2^53 on: `number.rs` minds that.
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

/// Whether a time zone is the one that dates without any are in.
pub(super) fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "+00:00" | "Z")
}

/// Read from doc values, which `exists` asks too.
pub(super) fn is_doc_values(column: &Column) -> bool {
    matches!(column.read_from, ReadFrom::DocValues { .. })
}

/// Finds every document in which the column is not null. A value that only `_source` has, say from
/// before the field was mapped, does not exist to the server.
pub(super) fn present(column: &Column) -> Query {
    if is_doc_values(column) { Query::Exists(column.name.clone()) } else { Query::All }
}

/// Finds every document in which the column is null, and no other: a `null_value` is among the doc
/// values, and read from there as well.
pub(super) fn lacks(column: &Column) -> Query {
    if is_doc_values(column) { Query::Lacks(column.name.clone()) } else { Query::All }
}

/// The field in which a column's values are terms.
pub(super) struct Terms<'a> {
    pub(super) field: &'a str,
    /// Values are read from `_source`, and the field may lack some of them: a sub-field that was
    /// mapped later is not in earlier documents. Those that lack it are to be found as well.
    pub(super) late: bool,
}

/// Where the values of a scalar column can be searched.
///
/// Doc values over `ignore_above` are read as null, and have no term either. Of values read from
/// `_source` that is not so, and an array with some values over it has a part of its values in the
/// field: those columns are not searched. Nor are columns of several types, whose ranges and
/// spellings differ.
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

/// Where a text can be searched in a column whose longer values are not: for `=` that is enough, a
/// document that has this text has its term, whatever else it holds.
///
/// Servers count `ignore_above` in UTF-16 units, of which a text never has more than bytes.
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
