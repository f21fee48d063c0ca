//! The JSON Schema of job files.
//!
//! Owns: the schema, and checking keys and types of a TOML table against it. Must not know: which values a key
//! may have.
//!
//! The schema is the only list of keys. This is not a validator of JSON Schema: it knows the forms that schemars
//! derives for [`Job`].

use crate::job::Job;
use serde_json::Value;

/// Returns the JSON Schema of job files.
pub fn json_schema() -> Value {
    schemars::schema_for!(Job).to_value()
}

/// Checks that a table has the keys of [`Job`], each with a value of its type.
pub(super) fn check_table(table: &toml::Table) -> Result<(), String> {
    let root = json_schema();
    Check { root: &root }.object(table, &root, "")
}

struct Check<'a> {
    root: &'a Value,
}

impl<'a> Check<'a> {
    fn value(&self, value: &toml::Value, schema: &'a Value, path: &str) -> Result<(), String> {
        let schema = self.resolve(schema);
        if let Some(variants) = schema["oneOf"].as_array() {
            let names: Vec<&str> = variants.iter().filter_map(|variant| variant["const"].as_str()).collect();
            if !names.is_empty() {
                return one_of(value, &names, path);
            }
            let table = value.as_table().ok_or_else(|| wrong(path, value, "a table"))?;
            return self.object(table, self.variant(table, variants, path)?, path);
        }
        match (type_of(schema), value) {
            (Some("object"), toml::Value::Table(table)) => self.object(table, schema, path),
            (Some("array"), toml::Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(item, &schema["items"], &format!("{path}[{index}]"))?;
                }
                Ok(())
            }
            (Some("string"), toml::Value::String(_))
            | (Some("number"), toml::Value::Integer(_) | toml::Value::Float(_))
            | (Some("boolean"), toml::Value::Boolean(_)) => Ok(()),
            (Some("integer"), toml::Value::Integer(number)) => {
                // All whole numbers of a job are unsigned.
                let maximum = if schema["format"] == "uint32" { i64::from(u32::MAX) } else { i64::MAX };
                if (0..=maximum).contains(number) {
                    Ok(())
                } else {
                    Err(wrong(path, value, &format!("a whole number from 0 to {maximum}")))
                }
            }
            (expected, _) => Err(wrong(path, value, expected_type(expected))),
        }
    }

    fn object(&self, table: &toml::Table, schema: &'a Value, path: &str) -> Result<(), String> {
        let properties = schema["properties"].as_object();
        let known = || properties.into_iter().flatten().map(|(key, _)| key.as_str());
        for (key, value) in table {
            let inner = join(path, key);
            match properties.and_then(|properties| properties.get(key)) {
                Some(property) => self.value(value, property, &inner)?,
                // A table of options, whose keys the schema does not know.
                None if schema["additionalProperties"].is_object() => {
                    self.value(value, &schema["additionalProperties"], &inner)?;
                }
                None => return Err(format!("unknown key {inner}{}", hint(key, known()))),
            }
        }
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !table.contains_key(required) {
                return Err(format!("{} is missing{}", join(path, required), self.meaning(schema, required)));
            }
        }
        Ok(())
    }

    /// Returns the variant of an enum that the key `type` names.
    fn variant(&self, table: &toml::Table, variants: &'a [Value], path: &str) -> Result<&'a Value, String> {
        let tag = |variant: &'a Value| variant["properties"]["type"]["const"].as_str();
        let known = || variants.iter().filter_map(tag);
        let path = join(path, "type");
        let given = table.get("type").ok_or_else(|| format!("{path} is missing{}", hint("", known())))?;
        let given_text = given.as_str().ok_or_else(|| wrong(&path, given, expected_type(Some("string"))))?;
        let variant = variants.iter().find(|variant| tag(variant) == Some(given_text));
        variant.ok_or_else(|| format!("{path} = {given_text:?} is unknown{}", hint(given_text, known())))
    }

    /// Returns what a key means: the first sentence of its description.
    fn meaning(&self, schema: &'a Value, key: &str) -> String {
        let property = &schema["properties"][key];
        let described =
            [property, self.resolve(property)].into_iter().find_map(|s| s["description"].as_str());
        described.map(|text| format!(": {}", text.trim_end_matches('.'))).unwrap_or_default()
    }

    /// Follows a reference, and takes the other side of "or null".
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
            return self.resolve(&self.root["$defs"][name]);
        }
        let some =
            schema["anyOf"].as_array().and_then(|sides| sides.iter().find(|side| side["type"] != "null"));
        some.map_or(schema, |some| self.resolve(some))
    }
}

/// Checks a value that is one of some words.
fn one_of(value: &toml::Value, names: &[&str], path: &str) -> Result<(), String> {
    match value.as_str() {
        Some(given) if names.contains(&given) => Ok(()),
        Some(given) => Err(format!("{path} = {given:?} is unknown{}", hint(given, names.iter().copied()))),
        None => Err(wrong(path, value, expected_type(Some("string")))),
    }
}

/// Returns the type of a schema, without "or null".
fn type_of(schema: &Value) -> Option<&str> {
    match &schema["type"] {
        Value::String(name) => Some(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ => None,
    }
}

fn expected_type(name: Option<&str>) -> &'static str {
    match name {
        Some("string") => "a text in quotes",
        Some("number") => "a number",
        Some("integer") => "a whole number",
        Some("boolean") => "true or false",
        Some("array") => "a list",
        _ => "a table",
    }
}

/// Returns the path of a key. A key with other characters than TOML's bare keys have is quoted.
fn join(path: &str, key: &str) -> String {
    let is_bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let key = if is_bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn hint<'a>(given: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match elastic_client::nearest(given, known.clone()) {
        Some(nearest) => format!(", did you mean {nearest:?}?"),
        None => format!(", known are {}", known.map(|key| format!("{key:?}")).collect::<Vec<_>>().join(", ")),
    }
}

/// Shows the value unless it is a table or a list, or may be a secret.
fn wrong(path: &str, value: &toml::Value, expected: &str) -> String {
    match value {
        toml::Value::Table(_) => format!("{path} is a table: expected {expected}"),
        toml::Value::Array(_) => format!("{path} is a list: expected {expected}"),
        _ if super::check::names_secret(path) => format!("{path}: expected {expected}"),
        _ => format!("{path} = {value}: expected {expected}"),
    }
}
