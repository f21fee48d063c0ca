//! The parts of a document that `_source` contains.
//!
//! Owns: the includes and excludes of `_source`, and the fields that `copy_to` fills. Must not know: columns.

use super::definition::flag;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// The parts of a document that `_source` contains.
pub(super) struct SourceRule {
    enabled: bool,
    includes: Vec<String>,
    excludes: Vec<String>,
}

impl SourceRule {
    pub(super) fn from_mapping(body: &Map<String, Value>) -> Self {
        let rule = body.get("_source").unwrap_or(&Value::Null);
        let enabled = flag(rule, "enabled", true) && rule.get("mode").is_none_or(|mode| mode != "disabled");
        Self { enabled, includes: patterns(rule.get("includes")), excludes: patterns(rule.get("excludes")) }
    }

    pub(super) fn refusal(&self, path: &str, json: bool) -> Option<String> {
        if !self.enabled {
            return Some("_source is disabled".to_owned());
        }
        if let Some(pattern) = self.excludes.iter().find(|pattern| excludes(pattern, path, json)) {
            return Some(format!("_source excludes \"{pattern}\""));
        }
        if !self.includes.is_empty() && !self.includes.iter().any(|pattern| covers(pattern, path)) {
            return Some("_source does not include it".to_owned());
        }
        None
    }
}

/// Adds the targets of `copy_to` in `properties` to `copied`. Copied values are not in `_source`.
pub(super) fn collect_copied(properties: &Value, copied: &mut HashSet<String>) {
    let Some(properties) = properties.as_object() else { return };
    for definition in properties.values() {
        match definition.get("copy_to") {
            Some(Value::String(target)) => {
                copied.insert(target.clone());
            }
            Some(Value::Array(targets)) => {
                copied.extend(targets.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            _ => {}
        }
        if let Some(children) = definition.get("properties") {
            collect_copied(children, copied);
        }
    }
}

fn patterns(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(pattern)) => vec![pattern.clone()],
        Some(Value::Array(patterns)) => {
            patterns.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns whether the pattern matches the path or one of its parent objects.
pub(super) fn covers(pattern: &str, path: &str) -> bool {
    matches_glob(pattern, path) || path.match_indices('.').any(|(dot, _)| matches_glob(pattern, &path[..dot]))
}

/// Returns whether the pattern excludes the path, or for a column of JSON text also a part of it. The mapping does not
/// contain the names of such parts.
fn excludes(pattern: &str, path: &str, json: bool) -> bool {
    if covers(pattern, path) {
        return true;
    }
    let below = format!("{path}.");
    let fixed = pattern.split('*').next().unwrap_or_default();
    json && (fixed.starts_with(&below) || pattern.contains('*') && below.starts_with(fixed))
}

fn matches_glob(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = tail.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}
