//! The session settings that a client may send.
//!
//! Owns: the list. Must not know: what a setting does.
//!
//! A client sends all of its settings with each job. A setting with the scheduler's own value is always accepted.
//! Others must be on this list, which has only settings for planning and running a job: none that names a path,
//! and no fault injection.

use super::Refusal;
use ballista_core::serde::protobuf::KeyValuePair;
use datafusion::prelude::SessionConfig;
use std::collections::HashMap;

const ALLOWED: &[&str] = &[
    "ballista.client.",
    "ballista.job.name",
    "ballista.optimizer.",
    "ballista.planner.",
    "ballista.scheduler.",
    "ballista.shuffle.",
    // Ballista's client creates its own catalog and schema, and sends that setting.
    "datafusion.catalog.create_default_catalog_and_schema",
    "datafusion.catalog.default_catalog",
    "datafusion.catalog.default_schema",
    "datafusion.catalog.has_header",
    "datafusion.catalog.information_schema",
    "datafusion.catalog.newlines_in_values",
    "datafusion.execution.",
    "datafusion.explain.",
    "datafusion.format.",
    "datafusion.optimizer.",
    "datafusion.sql_parser.",
];

/// Rejects settings that differ from `defaults` and are not on the list.
pub(super) fn check(settings: &[KeyValuePair], defaults: &SessionConfig) -> Result<(), Refusal> {
    let entries = defaults.options().entries();
    let known: HashMap<&str, Option<&str>> =
        entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_deref())).collect();
    for KeyValuePair { key, value } in settings {
        let same = known.get(key.as_str()).is_some_and(|default| *default == value.as_deref());
        let listed = ALLOWED.iter().any(|allowed| match allowed.ends_with('.') {
            true => key.starts_with(allowed),
            false => key == allowed,
        });
        if !same && !listed && value.is_some() {
            return Err(Refusal::Forbidden(format!(
                "a cluster does not accept the session setting \"{key}\" from a client: do not change it"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ballista_core::extension::SessionConfigExt;

    fn pair(key: &str, value: &str) -> KeyValuePair {
        KeyValuePair { key: key.into(), value: Some(value.into()) }
    }

    #[test]
    fn only_how_a_job_runs_may_be_set() {
        let defaults = SessionConfig::new_with_ballista();
        let as_sent: Vec<KeyValuePair> = defaults
            .clone()
            .upgrade_for_ballista()
            .set_bool("datafusion.catalog.create_default_catalog_and_schema", false)
            .options()
            .entries()
            .into_iter()
            .map(|entry| KeyValuePair { key: entry.key, value: entry.value })
            .collect();
        assert_eq!(check(&as_sent, &defaults), Ok(()));
        assert_eq!(check(&[pair("datafusion.execution.batch_size", "77")], &defaults), Ok(()));
        assert_eq!(check(&[pair("ballista.planner.adaptive.enabled", "false")], &defaults), Ok(()));
        for key in [
            "datafusion.catalog.location",
            "datafusion.runtime.temp_directory",
            "ballista.testing.chaos_execution.enabled",
            "unknown.key",
        ] {
            let refused = check(&[pair(key, "x")], &defaults).unwrap_err().to_string();
            assert!(refused.contains(key), "{refused}");
        }
    }
}
