//! Reading one slice, page by page, with a check that no row is missing.
//!
//! Owns: the options of a read, and its counters. Must not know: columns. A [`DecodePage`] turns bytes into rows.
//!
//! A module uses only modules that precede it in this list. `requests` builds the common parts of every search. `pit`
//! and `scroll` are the two modes with their state. `sort_values` proves that a slice can be read by sort values. `tail`
//! reads the ends of a response before it is decoded, and `check` judges it after that. `reader` reads by one of the
//! modes, and `in_flight` sends its requests. `count` only counts the rows.

mod check;
mod count;
mod in_flight;
mod pit;
mod reader;
mod requests;
mod scroll;
mod sort_values;
mod tail;

pub use reader::SliceReader;

use crate::ignored::IgnoredValues;
use crate::read_options::ReadOptions;
use crate::sort_key::SortKey;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::atomic::AtomicU64;

/// The part of a search response besides its rows, as
/// [the search API](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/search-search.html) returns it.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    /// Whether the response has both `_shards` and `timed_out`.
    pub complete: bool,
    /// `timed_out`: the search reached its time limit, so rows may be missing.
    pub timed_out: bool,
    /// `terminated_early`: the server ended the search early, so rows may be missing.
    pub terminated_early: bool,
    /// The number of remote clusters in `_clusters` that were skipped, failed, or returned partial results.
    pub clusters_incomplete: u64,
    /// `_shards.failed`: the number of shards that failed.
    pub shards_failed: u64,
    /// `_shards.total`: the number of shards that the search reached, if the response has it.
    pub shards_total: Option<u64>,
    /// The reason of the first shard failure.
    pub shard_failure: Option<String>,
    /// `hits.total`: the number of rows that match, if it is exact.
    pub total: Option<u64>,
    /// The newest id of the point in time (PIT). The next request uses it.
    pub pit_id: Option<String>,
    /// The newest id of the scroll. The next request uses it.
    pub scroll_id: Option<String>,
    /// The number of rows of this page.
    pub hits: usize,
    /// The sort values of the last row, without those that fill columns.
    pub last_sort: Option<Vec<Value>>,
}

/// The error of a [`DecodePage`].
pub type DecodeError = Box<dyn std::error::Error + Send + Sync>;

/// Turns a page's bytes into rows.
pub trait DecodePage: Send + Sync {
    /// The decoded rows of a page.
    type Rows: Send;
    /// Decodes the response to one of a page's requests. `part` is the place of its fields in [`PageOptions::fields`].
    ///
    /// # Errors
    ///
    /// If the body is not a search response, or if a value does not fit its column.
    fn decode(&self, part: usize, body: &[u8]) -> Result<(Envelope, Self::Rows), DecodeError>;
    /// Joins the fields of all requests for a page. Each part has the same rows in the same order.
    ///
    /// # Errors
    ///
    /// If the parts do not fit together.
    fn join(&self, parts: Vec<Self::Rows>) -> Result<Self::Rows, DecodeError>;
    /// Returns the fields whose doc values a hit also has as sort values, unless a document has several of them, with
    /// their types as mappings name them.
    fn sortable(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
    /// Returns the fields of each request for a page, and their decoder, if these fields are read by sort values. `None`
    /// if no such decoder exists.
    fn by_sort(&self, _sorted: &BTreeSet<String>) -> Option<(Vec<FieldsRequest>, Self)>
    where
        Self: Sized,
    {
        None
    }
}

/// The fields that one request of a page returns.
#[derive(Clone, Debug, Default)]
pub struct FieldsRequest {
    /// The name and the format of each of
    /// [`docvalue_fields`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/search-fields.html).
    pub doc_values: Vec<(String, Option<String>)>,
    /// The name and the type of each field that is read by
    /// [`sort`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/sort-search-results.html) values. They
    /// follow the key of the order in each hit. Only a point in time is read so.
    pub sort_values: Vec<(String, String)>,
    /// The paths to return from `_source`. Empty returns nothing from it.
    pub source: Vec<String>,
    /// Whether to return all of `_source`.
    pub whole_source: bool,
    /// Whether to return `_id` and `_index`.
    pub metadata: bool,
}

impl FieldsRequest {
    fn reads_source(&self) -> bool {
        self.whole_source || !self.source.is_empty()
    }
}

/// The options of the requests for pages.
#[derive(Clone, Debug)]
pub struct PageOptions {
    /// The query in the server's DSL, with all filters.
    pub query: Value,
    /// The fields of each request for a page. All requests of a page return the same rows.
    pub fields: Vec<FieldsRequest>,
    /// The options that hold for every request of a read.
    pub read: ReadOptions,
    /// The read ends after at least this many rows. `None` reads every row that matches.
    pub limit: Option<NonZeroU32>,
    /// The dropped values that are an error. `None` reads dropped values as null.
    pub ignored: Option<IgnoredValues>,
    /// The order of the rows within the slice. Empty for any order.
    pub order: Vec<SortKey>,
}

impl PageOptions {
    fn reads_source(&self) -> bool {
        self.fields.iter().any(FieldsRequest::reads_source)
    }

    /// Returns the most rows that the next page needs after `read` rows.
    fn max_rows(&self, read: u64) -> u32 {
        let wanted = self.limit.map_or(u64::MAX, |limit| u64::from(limit.get()).saturating_sub(read));
        self.read.page_size.get().min(u32::try_from(wanted).unwrap_or(u32::MAX)).max(1)
    }
}

/// The counters of a read, for metrics.
#[derive(Debug, Default)]
pub struct ReadCounters {
    /// The number of rows read.
    pub documents: AtomicU64,
    /// The number of rows that match, as the server counted them.
    pub matched: AtomicU64,
    /// The size of all response bodies, in bytes.
    pub bytes: AtomicU64,
    /// The size of the response bodies of the largest page, in bytes.
    pub peak_page_bytes: AtomicU64,
    /// The number of pages.
    pub pages: AtomicU64,
    /// The number of retries.
    pub retries: AtomicU64,
    /// The time spent waiting for the server, in nanoseconds.
    pub wait_nanos: AtomicU64,
    /// The time spent decoding pages, in nanoseconds.
    pub decode_nanos: AtomicU64,
}
