//! The paths of the server's APIs.
//!
//! Owns: the paths of requests. Must not know: the bodies of requests.
//!
//! The official client builds the paths of Elasticsearch. The paths that only OpenSearch has are built here. Every
//! index expression is checked first ([`check_index`]).

use crate::error::Error;
use crate::index_name::check_index;
use elasticsearch::cluster::ClusterGetSettingsParts;
use elasticsearch::indices::{IndicesGetMappingParts, IndicesGetSettingsParts};
use elasticsearch::nodes::NodesInfoParts;
use elasticsearch::security::SecurityAuthenticateParts;
use elasticsearch::{
    ClearScrollParts, ClosePointInTimeParts, CountParts, FieldCapsParts, InfoParts, OpenPointInTimeParts,
    ScrollParts, SearchParts, SearchShardsParts,
};

/// Returns the path of the server's product and version.
pub(crate) fn info() -> String {
    InfoParts::None.url().into_owned()
}

/// Returns the path of the information about the Elasticsearch node that responds.
pub(crate) fn local_node() -> String {
    NodesInfoParts::NodeId(&["_local"]).url().into_owned()
}

/// Returns the path of the information about the authenticated user.
pub(crate) fn authenticate() -> String {
    SecurityAuthenticateParts::None.url().into_owned()
}

/// Returns the path of a search in the point in time that its body names.
pub(crate) fn search() -> String {
    SearchParts::None.url().into_owned()
}

/// Returns the path of a search in indices.
pub(crate) fn search_index(index: &str) -> Result<String, Error> {
    check_index(index)?;
    Ok(SearchParts::Index(&[index]).url().into_owned())
}

/// Returns the path of the list of shards that a search in indices reaches.
pub(crate) fn search_shards(index: &str) -> Result<String, Error> {
    check_index(index)?;
    Ok(SearchShardsParts::Index(&[index]).url().into_owned())
}

/// Returns the path of the number of documents that match a query.
pub(crate) fn count(index: &str) -> Result<String, Error> {
    check_index(index)?;
    Ok(CountParts::Index(&[index]).url().into_owned())
}

/// Returns the path of the mappings of indices.
pub(crate) fn mapping(index: &str) -> Result<String, Error> {
    check_index(index)?;
    Ok(IndicesGetMappingParts::Index(&[index]).url().into_owned())
}

/// Returns the path of the types of fields in indices.
pub(crate) fn field_types(index: &str) -> Result<String, Error> {
    check_index(index)?;
    Ok(FieldCapsParts::Index(&[index]).url().into_owned())
}

/// Returns the path of one setting of indices.
pub(crate) fn setting(index: &str, name: &str) -> Result<String, Error> {
    check_index(index)?;
    Ok(IndicesGetSettingsParts::IndexName(&[index], &[name]).url().into_owned())
}

/// Returns the path of the settings of the cluster.
pub(crate) fn cluster_settings() -> String {
    ClusterGetSettingsParts::None.url().into_owned()
}

/// Returns how many bytes an index expression has in a path.
pub(crate) fn expression_bytes(index: &str) -> usize {
    SearchParts::Index(&[index]).url().len().saturating_sub("//_search".len())
}

/// Returns the path of the next page of a scroll.
pub(crate) fn scroll() -> String {
    ScrollParts::None.url().into_owned()
}

/// Returns the path that closes the scrolls that the body names.
pub(crate) fn clear_scroll() -> String {
    ClearScrollParts::None.url().into_owned()
}

/// Returns the path of Elasticsearch that opens a point in time on indices.
pub(crate) fn open_pit(index: &str) -> Result<String, Error> {
    check_index(index)?;
    Ok(OpenPointInTimeParts::Index(&[index]).url().into_owned())
}

/// Returns the path of Elasticsearch that closes the point in time that the body names.
pub(crate) fn close_pit() -> String {
    ClosePointInTimeParts::None.url().into_owned()
}

/// Returns the path of OpenSearch that opens a point in time on indices: the path of a search, with one more segment.
pub(crate) fn open_opensearch_pit(index: &str) -> Result<String, Error> {
    Ok(format!("{}/point_in_time", search_index(index)?))
}

/// Returns the path of OpenSearch that closes the points in time that the body names.
pub(crate) fn close_opensearch_pits() -> String {
    format!("{}/point_in_time", search())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_servers() {
        for (path, expected) in [
            (info(), "/"),
            (local_node(), "/_nodes/_local"),
            (authenticate(), "/_security/_authenticate"),
            (search(), "/_search"),
            (cluster_settings(), "/_cluster/settings"),
            (scroll(), "/_search/scroll"),
            (clear_scroll(), "/_search/scroll"),
            (close_pit(), "/_pit"),
            (close_opensearch_pits(), "/_search/point_in_time"),
        ] {
            assert_eq!(path, expected);
        }
        assert_eq!(expression_bytes("a:b"), "a%3Ab".len());
        let index = "eu:<a-{now/d}>,b*";
        for (path, api) in [
            (search_index(index), "_search"),
            (search_shards(index), "_search_shards"),
            (count(index), "_count"),
            (mapping(index), "_mapping"),
            (setting(index, "index.version.created"), "_settings/index.version.created"),
            (open_pit(index), "_pit"),
            (open_opensearch_pit(index), "_search/point_in_time"),
        ] {
            assert_eq!(path.unwrap(), format!("/eu%3A%3Ca-%7Bnow%2Fd%7D%3E,b*/{api}"));
        }
    }

    #[test]
    fn names_aliases_patterns_and_date_math_are_sent_percent_encoded() {
        for (expression, path) in [
            ("flows", "/flows/_mapping"),
            ("flows-*,-flows-2020*,Alias", "/flows-*,-flows-2020*,Alias/_mapping"),
            ("_all", "/_all/_mapping"),
            ("*", "/*/_mapping"),
            (".internal,.ds-flows-000001", "/.internal,.ds-flows-000001/_mapping"),
            ("...", "/.../_mapping"),
            ("a%b", "/a%25b/_mapping"),
            ("a~b", "/a%7Eb/_mapping"),
            ("größe", "/gr%C3%B6%C3%9Fe/_mapping"),
            ("eu:flows-*", "/eu%3Aflows-*/_mapping"),
            ("eu:<flows-{now/d}>", "/eu%3A%3Cflows-%7Bnow%2Fd%7D%3E/_mapping"),
            ("flows::failures", "/flows%3A%3Afailures/_mapping"),
            ("<flows-{now/d}>", "/%3Cflows-%7Bnow%2Fd%7D%3E/_mapping"),
            (
                "<flows-{now-1M/M{yyyy.MM|+01:00}}-*>,other",
                "/%3Cflows-%7Bnow-1M%2FM%7Byyyy.MM%7C%2B01%3A00%7D%7D-*%3E,other/_mapping",
            ),
            ("<flows-{2026-01-01||/M}>", "/%3Cflows-%7B2026-01-01%7C%7C%2FM%7D%3E/_mapping"),
        ] {
            assert_eq!(mapping(expression).unwrap(), path);
        }
    }

    #[test]
    fn no_path_is_made_of_what_is_no_index() {
        let paths = [search_index, search_shards, count, mapping, open_pit, open_opensearch_pit];
        for path in paths {
            path("a/b").unwrap_err();
        }
        setting("..", "x").unwrap_err();
    }
}
