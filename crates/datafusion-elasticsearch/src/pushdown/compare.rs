//! A column against a literal.
//!
//! Owns: which kind of field takes which comparison. Must not know: the logic around it.

use super::address;
use super::column::{Terms, present, terms, terms_of};
use super::comparison::{Comparison, range, term};
use super::number;
use super::query::{self, Query};
use super::translation::{Translation, or};
use datafusion::scalar::ScalarValue;
use elastic_arrow::{Column, FieldType, MetaField};
use serde_json::json;

/// Finds every document for which the comparison is true. Where the server cannot be asked it, a
/// document without a value is still none.
pub(super) fn compare(column: &Column, comparison: Comparison, value: &ScalarValue) -> Translation {
    let short = || terms_of(column, value.try_as_str()?.filter(|_| comparison == Comparison::Eq)?);
    let Some(terms) = terms(column).or_else(short) else {
        return Translation::inclusive(present(column));
    };
    let Some(found) = search(column, &terms, comparison, value) else {
        return Translation::inclusive(present(column));
    };
    found_late(&terms, found)
}

/// With the documents that may lack the field although they have the value.
pub(super) fn found_late(terms: &Terms<'_>, found: Translation) -> Translation {
    if terms.late {
        return or(vec![found, Translation::inclusive(Query::Lacks(terms.field.to_owned()))]);
    }
    found
}

fn search(
    column: &Column,
    terms: &Terms<'_>,
    comparison: Comparison,
    value: &ScalarValue,
) -> Option<Translation> {
    match &column.field_type {
        FieldType::Keyword | FieldType::Text => Some(text(terms.field, comparison, value.try_as_str()??)),
        // Their ranges are not texts' order, or are not there in all versions.
        FieldType::Wildcard if !is_plain(value.try_as_str()??) => None,
        FieldType::ConstantKeyword | FieldType::Wildcard | FieldType::Version => {
            let value = value.try_as_str()??;
            (comparison == Comparison::Eq).then(|| Translation::inclusive(term(terms.field, json!(value))))
        }
        FieldType::Ip => address::compare_text(terms.field, comparison, value.try_as_str()??),
        FieldType::Byte
        | FieldType::Short
        | FieldType::Integer
        | FieldType::Long
        | FieldType::UnsignedLong => number::integer(&column.field_type, terms.field, comparison, value),
        FieldType::HalfFloat | FieldType::Float | FieldType::Double | FieldType::ScaledFloat => {
            number::float(&column.field_type, terms.field, comparison, value)
        }
        FieldType::Boolean => {
            let ScalarValue::Boolean(Some(truth)) = value else { return None };
            match comparison {
                Comparison::Eq => Some(Translation::strict(term(terms.field, json!(truth)))),
                Comparison::NotEq => Some(Translation::strict(term(terms.field, json!(!truth)))),
                Comparison::Lt | Comparison::LtEq | Comparison::Gt | Comparison::GtEq => None,
            }
        }
        FieldType::Date => number::date(terms.field, comparison, value),
        FieldType::DateNanos => number::date_nanos(terms.field, comparison, value),
        FieldType::Metadata(MetaField::Id) => {
            let ids = json!({ "ids": { "values": [value.try_as_str()??] } });
            // A document always has one, so that here `must_not` hides none with another value.
            match comparison {
                Comparison::Eq => Some(Translation::exact(Query::Leaf(ids))),
                Comparison::NotEq => {
                    Some(Translation::exact(Query::Leaf(json!({ "bool": { "must_not": ids } }))))
                }
                Comparison::Lt | Comparison::LtEq | Comparison::Gt | Comparison::GtEq => None,
            }
        }
        FieldType::Metadata(MetaField::Index | MetaField::Source)
        | FieldType::Binary
        | FieldType::GeoPoint
        | FieldType::Flattened
        | FieldType::Nested
        | FieldType::Object
        | FieldType::Unknown(_) => None,
    }
}

/// Whether a `wildcard` field finds a text for sure: OpenSearch 2.19 does not find the empty one, and
/// its versions differ in what of wild characters is to be escaped.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.contains(['*', '?', '\\'])
}

/// Terms without a normalizer are the text's UTF-8 bytes, and their order is that of bytes, as it is
/// in DataFusion.
fn text(field: &str, comparison: Comparison, value: &str) -> Translation {
    Translation::strict(match comparison {
        Comparison::Eq => term(field, json!(value)),
        Comparison::NotEq => {
            query::or(vec![range(field, json!({ "lt": value })), range(field, json!({ "gt": value }))])
        }
        Comparison::Lt => range(field, json!({ "lt": value })),
        Comparison::LtEq => range(field, json!({ "lte": value })),
        Comparison::Gt => range(field, json!({ "gt": value })),
        Comparison::GtEq => range(field, json!({ "gte": value })),
    })
}
