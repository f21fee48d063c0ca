//! The fields of an index, from its mapping.
//!
//! Owns: their full names, and which may hold a time or an address. Must not know: how a mapping is fetched.

use flowsigma_jobs::{KnownFields, known_fields};
use serde_json::Value;
use std::collections::BTreeMap;

/// How many candidates a message names.
const SHOWN: usize = 12;

/// The fields that all mappings of an index expression have together, by their full names, with their types.
pub(super) struct Fields(BTreeMap<String, String>);

impl Fields {
    pub(super) fn of_mappings<'a>(mappings: impl Iterator<Item = &'a Value>) -> Self {
        let mut fields = BTreeMap::new();
        for mapping in mappings {
            add_properties("", mapping, &mut fields);
        }
        Self(fields)
    }

    /// Returns the fields of a known schema that the index has.
    pub(super) fn known(&self) -> Option<KnownFields> {
        let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        known_fields(&names)
    }

    /// Returns the fields that may hold an address, those of type `ip` first, for people.
    pub(super) fn address_candidates(&self) -> String {
        let all: Vec<_> = ["ip", "keyword"].iter().flat_map(|kind| self.of_type(kind)).collect();
        shown(&all, "no field of type ip or keyword")
    }

    /// Returns the fields that may hold a time, for people.
    pub(super) fn time_candidates(&self) -> String {
        let all: Vec<_> = ["date", "date_nanos"].iter().flat_map(|kind| self.of_type(kind)).collect();
        shown(&all, "no field of type date")
    }

    /// Describes which flags are missing, and what may be their values. `given` are the time, source and destination
    /// fields.
    pub(super) fn refusal(&self, index: &str, given: &[Option<String>; 3]) -> String {
        let flags = ["--time-field", "--source-field", "--destination-field"];
        let missing = flags.iter().zip(given).filter(|(_, given)| given.is_none()).map(|(flag, _)| *flag);
        format!(
            "index \"{index}\" has the fields of no known schema of flows: give {}; times: {}; addresses: {}",
            missing.collect::<Vec<_>>().join(", "),
            self.time_candidates(),
            self.address_candidates()
        )
    }

    fn of_type<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(_, field_type)| *field_type == kind).map(|(name, _)| name.as_str())
    }
}

fn shown(names: &[&str], none: &str) -> String {
    match names.len() {
        0 => none.to_owned(),
        count if count > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
        _ => names.join(", "),
    }
}

/// Adds the fields of an object. An object with sub-fields is no field itself.
fn add_properties(prefix: &str, object: &Value, fields: &mut BTreeMap<String, String>) {
    let Some(properties) = object.get("properties").and_then(Value::as_object) else { return };
    for (name, field) in properties {
        let full = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if field.get("properties").is_some() {
            add_properties(&full, field, fields);
        } else if let Some(field_type) = field.get("type").and_then(Value::as_str) {
            fields.insert(full, field_type.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(mappings: &[Value]) -> Fields {
        Fields::of_mappings(mappings.iter())
    }

    #[test]
    fn nested_fields_of_several_indices_are_found_by_their_full_names() {
        let first = json!({"properties": {"@timestamp": {"type": "date"},
            "source": {"properties": {"ip": {"type": "ip"}}}}});
        let second = json!({"properties": {"destination": {"properties": {"ip": {"type": "ip"}}}}});
        let known = fields(&[first, second]).known().unwrap();
        assert_eq!(
            (known.time_field.as_str(), known.source_field.as_str(), known.destination_field.as_str()),
            ("@timestamp", "source.ip", "destination.ip")
        );
    }

    #[test]
    fn a_refusal_names_missing_flags_and_candidates_with_addresses_first() {
        let mapping = json!({"properties": {"at": {"type": "date"}, "zz": {"type": "ip"},
            "aa": {"type": "keyword"}, "bytes": {"type": "long"}}});
        let given = [None, Some("zz".to_owned()), None];
        assert_eq!(
            fields(&[mapping]).refusal("f", &given),
            "index \"f\" has the fields of no known schema of flows: give --time-field, --destination-field; times: at; \
             addresses: zz, aa"
        );
    }

    #[test]
    fn many_candidates_are_cut_and_none_is_said() {
        let names: Vec<String> = (10..30).map(|i| format!("f{i}")).collect();
        let properties: serde_json::Map<String, Value> =
            names.iter().map(|name| (name.clone(), json!({"type": "ip"}))).collect();
        let fields = fields(&[json!({ "properties": properties })]);
        assert!(fields.address_candidates().ends_with("f21 and 8 more"), "{}", fields.address_candidates());
        assert_eq!(fields.time_candidates(), "no field of type date");
    }
}
