//! The concrete indices and shards of an index expression.
//!
//! Owns: fetching them, and dividing them into groups that one point in time (PIT) may span. Must not know: PITs.

use crate::connection::Connection;
use crate::error::Error;
use crate::paths;
use crate::request::{Method, Request};
use crate::server::fetch_json;
use crate::slices::IndexShards;
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use std::collections::BTreeMap;

/// The most concurrent requests of one kind.
pub(crate) const CONCURRENT_REQUESTS: usize = 16;
/// The most percent-encoded bytes of names in one path. Servers accept a request line of 4,096 bytes.
const PATH_BYTES: usize = 3_000;

/// What an index expression reaches.
#[derive(Debug)]
pub(crate) struct Reached {
    /// The concrete indices, sorted by name.
    pub(crate) indices: Vec<IndexShards>,
    /// The number of Elasticsearch nodes with copies of their shards.
    pub(crate) nodes: usize,
}

impl Reached {
    pub(crate) fn shards(&self) -> u64 {
        self.indices.iter().map(|index| u64::from(index.shards)).sum()
    }
}

/// Returns the concrete indices of an index expression with the number of [shards that a search
/// reaches](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/search-shards.html), sorted by name.
///
/// # Errors
///
/// If the server refuses or does not respond, if a shard has no started copy, or if the expression matches no index.
pub async fn fetch_shards(connection: &Connection, index: &str) -> Result<Vec<IndexShards>, Error> {
    Ok(fetch_reached(connection, index).await?.indices)
}

pub(crate) async fn fetch_reached(connection: &Connection, index: &str) -> Result<Reached, Error> {
    let operation = format!("find the shards of index \"{index}\"");
    let path = paths::search_shards(index)?;
    let body = fetch_json(connection, Request::new(Method::Get, path, &operation)).await?;
    let reached = read_reached(&operation, &body)?;
    if reached.indices.is_empty() {
        return Err(Error::Refused(format!(
            "{operation}: connection \"{}\" has no index of that name that this user may see",
            connection.name()
        )));
    }
    Ok(reached)
}

fn read_reached(operation: &str, body: &Value) -> Result<Reached, Error> {
    let Some(groups) = body["shards"].as_array() else {
        return Err(Error::Protocol { operation: operation.to_owned(), detail: "no \"shards\"".into() });
    };
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for group in groups {
        let Some(name) = group[0]["index"].as_str() else {
            let detail = "a shard has no started copy".into();
            return Err(Error::Incomplete { operation: operation.to_owned(), detail });
        };
        *counts.entry(name).or_default() += 1;
    }
    let indices = counts.into_iter().map(|(name, shards)| IndexShards {
        index: name.to_owned(),
        shards,
        filter: body["indices"][name].get("filter").cloned(),
    });
    let nodes = body["nodes"].as_object().map_or(1, |nodes| nodes.len().max(1));
    Ok(Reached { indices: indices.collect(), nodes })
}

/// Returns the first of `indices` whose shards the expression `asked` reaches only in part, with the number of all its
/// shards. The cause is an alias with routing.
///
/// # Errors
///
/// If the server refuses or does not respond, or if an index was deleted.
pub(crate) async fn find_routed<'a>(
    connection: &Connection,
    asked: &str,
    indices: &'a [IndexShards],
) -> Result<Option<(&'a IndexShards, u32)>, Error> {
    let others: Vec<&IndexShards> = indices.iter().filter(|reached| reached.index != asked).collect();
    let expressions = join_names(&others, usize::MAX);
    let whole: Vec<IndexShards> = futures::stream::iter(expressions)
        .map(|group| async move { fetch_shards(connection, &group.index).await })
        .buffered(CONCURRENT_REQUESTS)
        .try_concat()
        .await?;
    let whole: BTreeMap<&str, u32> = whole.iter().map(|i| (i.index.as_str(), i.shards)).collect();
    for index in others {
        let Some(&shards) = whole.get(index.index.as_str()) else {
            let operation = format!("find the shards of index \"{}\"", index.index);
            return Err(Error::Incomplete { operation, detail: "the index was deleted".into() });
        };
        if shards != index.shards {
            return Ok(Some((index, shards)));
        }
    }
    Ok(None)
}

/// Divides indices into groups with the same filter, in their order. The name of a group is an index expression. A
/// group has at most `max_shards` shards, or is a single index. Pure.
pub(crate) fn group_indices(indices: &[IndexShards], max_shards: u32) -> Vec<IndexShards> {
    let mut groups: Vec<IndexShards> = Vec::new();
    let mut filters: Vec<Option<&Value>> = Vec::new();
    for index in indices {
        let filter = index.filter.as_ref();
        if !filters.contains(&filter) {
            filters.push(filter);
        }
    }
    for filter in filters {
        let alike: Vec<&IndexShards> = indices.iter().filter(|i| i.filter.as_ref() == filter).collect();
        groups.extend(join_names(&alike, max_shards as usize));
    }
    groups
}

/// Joins consecutive names up to the limits of shards and of bytes in a path.
fn join_names(indices: &[&IndexShards], max_shards: usize) -> Vec<IndexShards> {
    let mut groups: Vec<IndexShards> = Vec::new();
    let mut bytes = 0;
    for &index in indices {
        let more = paths::expression_bytes(&index.index) + 1;
        let fits = |group: &&mut IndexShards| {
            group.shards as usize + index.shards as usize <= max_shards && bytes + more <= PATH_BYTES
        };
        match groups.last_mut().filter(fits) {
            Some(group) => {
                group.index.push(',');
                group.index.push_str(&index.index);
                group.shards += index.shards;
                bytes += more;
            }
            None => {
                groups.push(index.clone());
                bytes = more;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn index(name: &str, shards: u32, filter: Option<Value>) -> IndexShards {
        IndexShards { index: name.into(), shards, filter }
    }

    fn names(groups: &[IndexShards]) -> Vec<(&str, u32)> {
        groups.iter().map(|group| (group.index.as_str(), group.shards)).collect()
    }

    #[test]
    fn groups_have_one_filter_and_as_many_shards_as_allowed() {
        let filter = || Some(json!({ "term": { "site": "a" } }));
        let indices = [
            index("a", 2, None),
            index("b", 1, filter()),
            index("c", 2, None),
            index("d", 9, None),
            index("e", 1, filter()),
        ];
        let groups = group_indices(&indices, 4);
        assert_eq!(names(&groups), [("a,c", 4), ("d", 9), ("b,e", 2)]);
        assert_eq!(groups[2].filter, filter());
        assert_eq!(names(&group_indices(&indices, 3)), [("a", 2), ("c", 2), ("d", 9), ("b,e", 2)]);
    }

    #[test]
    fn names_that_a_path_does_not_hold_are_more_groups() {
        let indices: Vec<IndexShards> =
            (0..1_000).map(|i| index(&format!("gr\u{f6}\u{df}e-{i:04}"), 1, None)).collect();
        let groups = group_indices(&indices, u32::MAX);
        assert_eq!(groups.iter().map(|group| group.shards).sum::<u32>(), 1_000);
        assert!(groups.len() > 1);
        for group in &groups {
            let path = paths::search_shards(&group.index).unwrap();
            assert!(path.len() < 4_000, "{}", path.len());
        }
    }

    #[test]
    fn shards_are_counted_by_index_and_a_missing_copy_is_an_error() {
        let copy = |index: &str| json!([{ "index": index, "shard": 0 }]);
        let body = json!({
            "nodes": { "n1": {}, "n2": {} },
            "indices": { "a": {}, "b": { "filter": { "match_all": {} } } },
            "shards": [copy("b"), copy("a"), copy("b")],
        });
        let reached = read_reached("find", &body).unwrap();
        assert_eq!((reached.nodes, reached.shards()), (2, 3));
        assert_eq!(names(&reached.indices), [("a", 1), ("b", 2)]);
        assert_eq!(reached.indices[1].filter, Some(json!({ "match_all": {} })));
        assert!(read_reached("find", &json!({ "shards": [[]] })).is_err());
    }
}
