//! The product and the version of a server, and what follows from them.
//!
//! Owns: the kind of search context that a server supports, how it counts, and for how long a connection knows its
//! server. Must not know: how these are fetched.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The product of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Elasticsearch.
    Elasticsearch,
    /// OpenSearch.
    OpenSearch,
}

/// The version of a server: major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Reads a version such as `8.8.2`, `3.0.0-beta1` or `2`. Missing parts are 0. Returns `None` if the major version
    /// is not a number.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(['.', '-']).map(|p| p.parse::<u32>().ok());
        let major = parts.next()??;
        Some(Self(major, parts.next().flatten().unwrap_or(0), parts.next().flatten().unwrap_or(0)))
    }
}

/// A server's product and version. A server that does not reveal its version is assumed to be recent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// The product.
    pub product: Product,
    /// The version, if the server reveals it.
    pub version: Option<Version>,
}

/// The kind of search context that a server supports for a sliced read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PitSupport {
    /// One PIT over all indices, sliced by shard: Elasticsearch 7.15 and later
    /// ([API](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/point-in-time-api.html)).
    SharedPit,
    /// One PIT for each index, because a shared PIT skips rows: OpenSearch 2.4 and later
    /// ([API](https://docs.opensearch.org/latest/search-plugins/searching-data/point-in-time-api/)).
    PitPerIndex,
    /// Only sliced scrolls.
    ScrollOnly,
}

impl Server {
    /// The version since which Elasticsearch lists in `_ignored` the fields with a value dropped by `ignore_above`.
    ///
    /// The list is made when a document is indexed, so the version that created the index decides.
    pub const NOTES_IGNORED_KEYWORDS: (u32, u32) = (7, 15);

    /// Returns whether `_ignored` lists the fields with a value dropped by `ignore_above`. Every server lists those
    /// with a value dropped by `ignore_malformed`.
    pub fn notes_ignored_keywords(&self) -> bool {
        match self.product {
            Product::Elasticsearch => {
                let (major, minor) = Self::NOTES_IGNORED_KEYWORDS;
                self.version.is_none_or(|v| v >= Version(major, minor, 0))
            }
            Product::OpenSearch => false,
        }
    }

    /// Returns whether the server says `terminated_early` beside aggregations when it counts from its index. It does
    /// when it searches the segments of a shard
    /// [concurrently](https://docs.opensearch.org/latest/search-plugins/concurrent-segment-search/), by default since
    /// OpenSearch 3.0.
    pub(crate) fn ends_counter_early(&self) -> bool {
        self.product == Product::OpenSearch && self.version.is_some_and(|v| v >= Version(3, 0, 0))
    }

    /// Returns the kind of search context that this server supports.
    pub fn pit_support(&self) -> PitSupport {
        let since = |version| self.version.is_none_or(|v| v >= version);
        match self.product {
            Product::Elasticsearch if since(Version(7, 15, 0)) => PitSupport::SharedPit,
            Product::OpenSearch if since(Version(2, 4, 0)) => PitSupport::PitPerIndex,
            Product::Elasticsearch | Product::OpenSearch => PitSupport::ScrollOnly,
        }
    }

    /// Reads the setting `server` of a connection, such as `elasticsearch 8.8.2`. Returns `None` if it names no known
    /// product.
    pub(crate) fn parse_declared(text: &str) -> Option<Self> {
        let (product, version) = text.split_once([' ', '-']).unwrap_or((text, ""));
        let product = match product.to_ascii_lowercase().as_str() {
            "elasticsearch" => Product::Elasticsearch,
            "opensearch" => Product::OpenSearch,
            _ => return None,
        };
        Some(Self { product, version: Version::parse(version) })
    }
}

/// How long the product and the version of a server are remembered: a statement needs them for its table and for its
/// search context. A server that is upgraded is asked again.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);

/// How a server counts the documents that match, beside aggregations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    /// From the index, if it can.
    FromIndex,
    /// Document by document.
    EachDocument,
}

/// What a connection remembers of its server.
#[derive(Debug, Default)]
pub(crate) struct KnownServer {
    server: Mutex<Option<(Instant, Server)>>,
    ended_counter_early: AtomicBool,
}

impl KnownServer {
    pub(crate) fn get(&self) -> Option<Server> {
        let known = *self.server.lock().unwrap_or_else(PoisonError::into_inner);
        known.filter(|(since, _)| since.elapsed() < REMEMBERED_FOR).map(|(_, server)| server)
    }

    pub(crate) fn set(&self, server: Server) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), server));
    }

    /// Returns how the server is to count: from its index, unless its version or a response showed that it then says
    /// `terminated_early`.
    pub(crate) fn counting(&self) -> Counting {
        let by_version = || self.get().is_some_and(|server| server.ends_counter_early());
        match self.ended_counter_early.load(Ordering::Relaxed) || by_version() {
            true => Counting::EachDocument,
            false => Counting::FromIndex,
        }
    }

    /// Remembers that a response of the server, which counted from its index, said `terminated_early`.
    pub(crate) fn ended_counter_early(&self) {
        self.ended_counter_early.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pit_support_follows_from_product_and_version() {
        for (text, expected) in [
            ("elasticsearch 9.2.0", PitSupport::SharedPit),
            ("elasticsearch 7.15.0", PitSupport::SharedPit),
            ("elasticsearch 7.14.2", PitSupport::ScrollOnly),
            ("elasticsearch", PitSupport::SharedPit),
            ("opensearch 3.3.0", PitSupport::PitPerIndex),
            ("opensearch-2.4.0", PitSupport::PitPerIndex),
            ("opensearch 2.3.1", PitSupport::ScrollOnly),
        ] {
            assert_eq!(Server::parse_declared(text).unwrap().pit_support(), expected, "{text}");
        }
        assert_eq!(Server::parse_declared("solr 9"), None);
    }

    #[test]
    fn a_server_is_known_for_a_while() {
        let server = Server::parse_declared("opensearch 2.19.1").unwrap();
        let known = KnownServer::default();
        assert_eq!(known.get(), None);
        known.set(server);
        assert_eq!(known.get(), Some(server));
        let before = Instant::now().checked_sub(REMEMBERED_FOR).unwrap();
        let known = KnownServer { server: Mutex::new(Some((before, server))), ..KnownServer::default() };
        assert_eq!(known.get(), None);
    }

    #[test]
    fn documents_are_counted_one_by_one_if_the_counter_ends_early() {
        let known = KnownServer::default();
        assert_eq!(known.counting(), Counting::FromIndex);
        for (declared, expected) in [
            ("opensearch 3.3.0", Counting::EachDocument),
            ("opensearch 2.19.1", Counting::FromIndex),
            ("elasticsearch 9.2.0", Counting::FromIndex),
        ] {
            known.set(Server::parse_declared(declared).unwrap());
            assert_eq!(known.counting(), expected, "{declared}");
        }
        known.ended_counter_early();
        assert_eq!(known.counting(), Counting::EachDocument);
    }
}
