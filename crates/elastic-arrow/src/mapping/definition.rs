//! What the definition of one field says.
//!
//! Owns: the parameters of a mapping's leaf, and their defaults. Must not know: other fields.

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
        // Elasticsearch always has them, OpenSearch only on request, and a mapping does not tell
        // which of the two it comes from.
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

/// Date formats whose texts have one meaning without the server. The lenient ones take numbers as years.
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

/// Dates are printed by the first of a field's formats.
pub(super) fn prints_any_date(definition: &Value) -> bool {
    let first = definition.get("format").and_then(Value::as_str).and_then(|format| format.split("||").next());
    matches!(first, None | Some("strict_date_optional_time" | "date_optional_time"))
}

pub(super) fn limit(definition: &Value) -> Option<u32> {
    let limit = definition.get("ignore_above")?.as_u64()?;
    Some(u32::try_from(limit).unwrap_or(u32::MAX))
}

/// One that has all texts rather than one that has the shorter ones.
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

/// A boolean setting, which old versions also keep as text.
pub(super) fn flag(definition: &Value, key: &str, default: bool) -> bool {
    match definition.get(key) {
        Some(Value::Bool(value)) => *value,
        Some(Value::String(text)) if text == "true" => true,
        Some(Value::String(text)) if text == "false" => false,
        _ => default,
    }
}
