//! One slice, page by page, to its proven end.
//!
//! Owns: what a read is asked for and what it reports. Must not know: columns. Bytes become rows in a
//! [`DecodePage`].
//!
//! A module uses those before it only: `requests` builds what every search has, `pit` and `scroll` are the two
//! modes with their own state, `reader` reads by one of them, `count` counts in place of reading.

mod count;
mod pit;
mod reader;
mod requests;
mod scroll;

pub use reader::SliceReader;

use crate::ignored::IgnoredValues;
use crate::read_options::ReadOptions;
use crate::sort_key::SortKey;
use serde_json::Value;
use std::num::NonZeroU32;
use std::sync::atomic::AtomicU64;

/// What surrounds the rows of a page.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    /// Whether `_shards` and `timed_out` were both there.
    pub complete: bool,
    /// `timed_out`.
    pub timed_out: bool,
    /// `terminated_early`.
    pub terminated_early: bool,
    /// Clusters of `_clusters` that were skipped, failed, or answered in part.
    pub clusters_incomplete: u64,
    /// `_shards.failed`.
    pub shards_failed: u64,
    /// `_shards.total`, where it is told.
    pub shards_total: Option<u64>,
    /// The first shard failure's reason.
    pub shard_failure: Option<String>,
    /// `hits.total`, if exact.
    pub total: Option<u64>,
    /// The newest PIT id.
    pub pit_id: Option<String>,
    /// The newest scroll id.
    pub scroll_id: Option<String>,
    /// Rows on this page.
    pub hits: usize,
    /// The last row's sort values.
    pub last_sort: Option<Vec<Value>>,
}

/// Why a page could not become rows.
pub type DecodeError = Box<dyn std::error::Error + Send + Sync>;

/// Turns a page's bytes into rows.
pub trait DecodePage: Send + Sync {
    /// What a page becomes.
    type Rows: Send;
    /// Decodes the answer to one of a page's requests, by the place of its fields in [`PageOptions::fields`].
    fn decode(&self, part: usize, body: &[u8]) -> Result<(Envelope, Self::Rows), DecodeError>;
    /// Puts the fields of all requests side by side. Each has the same rows in the same order.
    fn join(&self, parts: Vec<Self::Rows>) -> Result<Self::Rows, DecodeError>;
}

/// Which fields the answer to one request carries.
#[derive(Clone, Debug, Default)]
pub struct FieldsRequest {
    /// `docvalue_fields`: name and format.
    pub doc_values: Vec<(String, Option<String>)>,
    /// `_source` includes; none if empty.
    pub source: Vec<String>,
    /// The whole `_source`.
    pub whole_source: bool,
    /// Whether `_id` and `_index` are wanted.
    pub metadata: bool,
}

impl FieldsRequest {
    fn reads_source(&self) -> bool {
        self.whole_source || !self.source.is_empty()
    }
}

/// How pages are asked for.
#[derive(Clone, Debug)]
pub struct PageOptions {
    /// The query, filters included.
    pub query: Value,
    /// The fields of each request for a page; all of them find the same rows.
    pub fields: Vec<FieldsRequest>,
    /// How the index is read.
    pub read: ReadOptions,
    /// As many rows are enough; every row that matches if none.
    pub limit: Option<NonZeroU32>,
    /// Which ignored values are an error; none of them if none.
    pub ignored: Option<IgnoredValues>,
    /// The order of rows; any if empty.
    pub order: Vec<SortKey>,
}

impl PageOptions {
    fn reads_source(&self) -> bool {
        self.fields.iter().any(FieldsRequest::reads_source)
    }

    /// The largest page that is of use once `read` rows are there.
    fn max_rows(&self, read: u64) -> u32 {
        let wanted = self.limit.map_or(u64::MAX, |limit| u64::from(limit.get()).saturating_sub(read));
        self.read.page_size.get().min(u32::try_from(wanted).unwrap_or(u32::MAX)).max(1)
    }
}

/// What reading cost, for metrics.
#[derive(Debug, Default)]
pub struct ReadCounters {
    /// Rows.
    pub documents: AtomicU64,
    /// Rows that the server said match.
    pub matched: AtomicU64,
    /// Body bytes.
    pub bytes: AtomicU64,
    /// Body bytes of the greatest page.
    pub peak_page_bytes: AtomicU64,
    /// Pages.
    pub pages: AtomicU64,
    /// Requests sent again.
    pub retries: AtomicU64,
    /// Time spent waiting for the server.
    pub wait_nanos: AtomicU64,
    /// Time spent decoding.
    pub decode_nanos: AtomicU64,
}
