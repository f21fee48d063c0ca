//! The definition of one field in a mapping.
//!
//! Owns: the parameters of a leaf field, and their defaults. Must not know: other fields.

use crate::field::{FieldType, KeywordSubfield};
use serde_json::Value;
use std::cmp::Reverse;

pub(super) fn has_doc_values(field_type: &FieldType, definition: &Value) -> bool {
    match field_type {
        FieldType::Keyword
        | FieldType::ConstantKeyword
        | FieldType::Ip
        | FieldType::Byte
        | FieldType::Short
        | FieldType::Integer
        | FieldType::Long
        | FieldType::UnsignedLong
        | FieldType::HalfFloat
        | FieldType::Float
        | FieldType::Double
        | FieldType::ScaledFloat
        | FieldType::Boolean
        | FieldType::Date
        | FieldType::DateNanos
        | FieldType::Version => flag(definition, "doc_values", true),
        // Elasticsearch always has them, OpenSearch only on request. A mapping does not reveal which of the two made
        // it.
        FieldType::Wildcard => flag(definition, "doc_values", false),
        FieldType::Text
        | FieldType::Binary
        | FieldType::GeoPoint
        | FieldType::Flattened
        | FieldType::Nested
        | FieldType::Object
        | FieldType::Unknown(_)
        | FieldType::Metadata(_) => false,
    }
}

/// The date formats whose texts can be parsed without the server. Lenient formats are not listed, because they read
/// numbers as years.
const PLAIN_DATE_FORMATS: [&str; 8] = [
    "epoch_millis",
    "strict_date",
    "strict_date_optional_time",
    "strict_date_optional_time_nanos",
    "strict_date_time",
    "strict_date_time_no_millis",
    "strictDateOptionalTime",
    "strictDateOptionalTimeNanos",
];

pub(super) fn date_refusal(field_type: &FieldType, definition: &Value) -> Option<String> {
    if !matches!(field_type, FieldType::Date | FieldType::DateNanos) {
        return None;
    }
    let format = definition.get("format")?.as_str()?;
    let plain = format.split("||").all(|part| PLAIN_DATE_FORMATS.contains(&part));
    (!plain).then(|| format!("its date format \"{format}\" is only understood by the server"))
}

/// Returns whether the server can print any date in the format of the field. It prints dates in the first format.
pub(super) fn prints_any_date(definition: &Value) -> bool {
    let first = definition.get("format").and_then(Value::as_str).and_then(|format| format.split("||").next());
    matches!(first, None | Some("strict_date_optional_time" | "date_optional_time"))
}

pub(super) fn limit(definition: &Value) -> Option<u32> {
    let limit = definition.get("ignore_above")?.as_u64()?;
    Some(u32::try_from(limit).unwrap_or(u32::MAX))
}

/// Returns the keyword multi-field that contains the most texts: without `ignore_above`, or with the greatest one.
pub(super) fn keyword_subfield(
    name: &str,
    field_type: &FieldType,
    definition: &Value,
) -> Option<KeywordSubfield> {
    if *field_type != FieldType::Text {
        return None;
    }
    let keywords = definition.get("fields")?.as_object()?.iter().filter_map(|(key, subfield)| {
        let keyword = subfield.get("type").and_then(Value::as_str) == Some("keyword");
        let usable = keyword && subfield.get("normalizer").is_none() && flag(subfield, "index", true);
        usable.then(|| KeywordSubfield { name: join(name, key), ignore_above: limit(subfield) })
    });
    keywords.min_by_key(|subfield| Reverse(subfield.ignore_above.unwrap_or(u32::MAX)))
}

pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// Returns a boolean parameter, which old versions may also store as text.
pub(super) fn flag(definition: &Value, key: &str, default: bool) -> bool {
    match definition.get(key) {
        Some(Value::Bool(value)) => *value,
        Some(Value::String(text)) if text == "true" => true,
        Some(Value::String(text)) if text == "false" => false,
        _ => default,
    }
}
