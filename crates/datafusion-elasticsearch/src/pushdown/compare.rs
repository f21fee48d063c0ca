//! Comparisons of a column with a literal.
//!
//! Owns: which field types support which comparison. Must not know: the logic around it.

use super::address;
use super::column::{Terms, exists, terms, terms_of};
use super::comparison::{Comparison, range, term};
use super::number;
use super::query::{self, Query};
use super::translation::{Translation, or};
use datafusion::scalar::ScalarValue;
use elastic_arrow::{Column, FieldType, MetaField};
use serde_json::json;

/// Finds every document for which the comparison is true. If the server cannot evaluate it, the query still skips
/// documents without a value.
pub(super) fn compare(column: &Column, comparison: Comparison, value: &ScalarValue) -> Translation {
    let short = || terms_of(column, value.try_as_str()?.filter(|_| comparison == Comparison::Eq)?);
    let Some(terms) = terms(column).or_else(short) else {
        return Translation::inclusive(exists(column));
    };
    let Some(found) = search(column, &terms, comparison, value) else {
        return Translation::inclusive(exists(column));
    };
    found_late(&terms, found)
}

/// Adds the documents in which the field may be missing although they have the value.
pub(super) fn found_late(terms: &Terms<'_>, found: Translation) -> Translation {
    if terms.late {
        return or(vec![found, Translation::inclusive(Query::Missing(terms.field.to_owned()))]);
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
        // Ranges of these types do not follow the order of texts, or do not exist in all versions.
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
            // Every document has exactly one `_id`, so this `must_not` cannot hide a document with several values.
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

/// Whether a `wildcard` field reliably finds a text. OpenSearch 2.19 does not find the empty text, and its
/// versions differ in which wildcard characters need an escape.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.contains(['*', '?', '\\'])
}

/// The terms of a field without a normalizer are UTF-8 bytes. They sort by byte, as in DataFusion.
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
