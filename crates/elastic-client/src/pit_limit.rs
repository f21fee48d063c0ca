//! OpenSearch's limit on open points in time (PITs).
//!
//! Owns: reading the limit, and recognising the error of an exceeded limit. Must not know: other ways to read an index.
//!
//! OpenSearch counts a PIT once for each of its shards, on the OpenSearch node with the shard. Each node allows
//! `search.max_open_pit_context` of them, 300 by default. Elasticsearch has no such limit.

use crate::connection::Connection;
use crate::error::Error;
use crate::paths;
use crate::request::{Method, Request};
use crate::server::fetch_json;
use crate::shards::Reached;
use serde_json::Value;

/// The name of the setting, as OpenSearch's errors contain it.
pub(crate) const SETTING: &str = "search.max_open_pit_context";
/// The limit is not read if at most this many shards are read.
const FEW_SHARDS: u64 = 64;

/// Returns the limit per OpenSearch node if all nodes together do not allow a PIT on each of these shards. Returns
/// `None` if they do, or if the limit is unknown, because the user may lack the permission to read settings.
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
            tracing::debug!(%error, "the limit of open points in time is unknown");
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

/// Returns whether the server refused to open a PIT because its limit is reached.
pub(crate) fn is_exceeded(error: &Error) -> bool {
    matches!(error, Error::Status { reason, .. } if reason.contains(SETTING))
}

/// Returns the error of a read with `read = "pit"` that exceeds the limit. `limit` is the limit per node, if known.
pub(crate) fn refused(index: &str, reached: &Reached, limit: Option<u64>) -> Error {
    let limit =
        limit.map_or_else(|| "fewer than are needed now".to_owned(), |limit| format!("{limit} per node"));
    Error::Refused(format!(
        "index \"{index}\": read = \"pit\" needs {} points in time on {} OpenSearch nodes, one for each \
         shard, but {SETTING} of the server allows {limit}; raise that setting, name fewer indices, or use \
         read = \"scroll\"",
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
            "index \"flows-*\": read = \"pit\" needs 320 points in time on 1 OpenSearch nodes, one for each \
             shard, but search.max_open_pit_context of the server allows 300 per node; raise that setting, \
             name fewer indices, or use read = \"scroll\""
        );
    }
}
