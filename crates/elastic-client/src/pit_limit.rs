//! How many points in time (PITs) an OpenSearch holds open.
//!
//! Owns: asking for its limit, and recognising its refusal. Must not know: how else an index can be read.
//!
//! OpenSearch counts a PIT once for each of its shards, on the Elasticsearch node that holds the shard, and
//! refuses more than `search.max_open_pit_context` a node, 300 by default. Elasticsearch has no such limit.

use crate::connection::Connection;
use crate::error::Error;
use crate::paths;
use crate::request::{Method, Request};
use crate::server::fetch_json;
use crate::shards::Reached;
use serde_json::Value;

/// The setting of OpenSearch, as its errors name it.
pub(crate) const SETTING: &str = "search.max_open_pit_context";
/// The limit is not asked for where so few shards are read.
const FEW_SHARDS: u64 = 64;

/// Returns the limit of a node if all nodes together cannot hold a PIT on each of these shards. None if they can,
/// or if the server does not say: a user may not be allowed to read settings.
pub(crate) async fn find_exceeded(connection: &Connection, reached: &Reached) -> Option<u64> {
    if reached.shards() <= FEW_SHARDS {
        return None;
    }
    let request =
        Request::new(Method::Get, paths::cluster_settings(), "read the limit of open points in time")
            .with_param("include_defaults", "true")
            .with_param("filter_path", format!("*.{SETTING}"));
    match fetch_json(connection, request).await {
        Ok(settings) => exceeded(&settings, reached),
        Err(error) => {
            tracing::debug!(%error, "the limit of open points in time is not known");
            None
        }
    }
}

fn exceeded(settings: &Value, reached: &Reached) -> Option<u64> {
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let set = |level| number(&settings[level]["search"]["max_open_pit_context"]);
    let limit: u64 = ["transient", "persistent", "defaults"].into_iter().find_map(set)?;
    (reached.shards() > limit.saturating_mul(reached.nodes as u64)).then_some(limit)
}

/// Whether the server refused to open a PIT because it holds as many as it may.
pub(crate) fn is_exceeded(error: &Error) -> bool {
    matches!(error, Error::Status { reason, .. } if reason.contains(SETTING))
}

/// The error of a read that may not be done otherwise. `limit` is that of a node, if the server said it.
pub(crate) fn refused(index: &str, reached: &Reached, limit: Option<u64>) -> Error {
    let limit =
        limit.map_or_else(|| "fewer than are needed now".to_owned(), |limit| format!("{limit} a node"));
    Error::Refused(format!(
        "index \"{index}\": read = \"pit\" needs {} points in time on {} nodes, one a shard, and {SETTING} of the \
         server allows {limit}; raise that setting, name fewer indices, or use read = \"scroll\"",
        reached.shards(),
        reached.nodes
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slices::IndexShards;
    use serde_json::json;

    fn reached(shards: u32, nodes: usize) -> Reached {
        Reached { indices: vec![IndexShards { index: "a".into(), shards, filter: None }], nodes }
    }

    #[test]
    fn the_limit_is_of_a_node_and_as_the_last_who_set_it_said() {
        let limit = |text| json!({ "search": { "max_open_pit_context": text } });
        let defaults = json!({ "defaults": limit("300") });
        assert_eq!(exceeded(&defaults, &reached(300, 1)), None);
        assert_eq!(exceeded(&defaults, &reached(301, 1)), Some(300));
        assert_eq!(exceeded(&defaults, &reached(600, 2)), None);
        let set = json!({ "persistent": limit("100"), "transient": limit("50"), "defaults": limit("300") });
        assert_eq!(exceeded(&set, &reached(51, 1)), Some(50));
        assert_eq!(exceeded(&json!({}), &reached(9_999, 1)), None);
    }

    #[test]
    fn the_error_names_the_setting_and_what_to_do() {
        assert_eq!(
            refused("flows-*", &reached(320, 1), Some(300)).to_string(),
            "index \"flows-*\": read = \"pit\" needs 320 points in time on 1 nodes, one a shard, and \
             search.max_open_pit_context of the server allows 300 a node; raise that setting, name fewer indices, \
             or use read = \"scroll\""
        );
    }
}
