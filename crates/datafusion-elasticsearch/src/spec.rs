//! The specs of a table and of a scan, the same in every process.
//!
//! Owns: their values. Must not know: how they are serialized, planned or read.

use crate::options::{Aggregate, Ignored, Pushdown};
use elastic_arrow::Column;
use elastic_client::{ContextRequest, ReadOptions, Slice, SortKey};
use serde_json::Value;
use std::num::NonZeroU32;

/// The spec of a table. It has the name of a connection, never its URL or credentials, and is the same in every
/// process.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSpec {
    /// The name of the connection in the [`ConnectionRegistry`](elastic_client::ConnectionRegistry).
    pub connection: String,
    /// The index, index pattern or alias.
    pub index: String,
    /// All columns of the table.
    pub columns: Vec<Column>,
    /// The base query, in the query DSL.
    pub query: Value,
    /// The requested number of slices; one for each shard if `None`.
    pub slices: Option<NonZeroU32>,
    /// The read mode, the page size and the keep-alive.
    pub read: ReadOptions,
    /// Whether filters are sent to the server.
    pub pushdown: Pushdown,
    /// Whether the server computes aggregates.
    pub aggregate: Aggregate,
    /// How values dropped by `ignore_above` or `ignore_malformed` are handled.
    pub ignored: Ignored,
    /// Columns that have at most one value in each document that the query finds, as proved when the search context was
    /// opened: filters on them are exact.
    pub single: Vec<String>,
    /// Whether opening the search context has proved that no document has a value that [`Ignored::Error`] forbids.
    pub ignored_checked: bool,
    /// The slices of the open search context; `None` until [`open_contexts`](crate::open_contexts) opens it.
    pub open_slices: Option<Vec<Slice>>,
}

impl TableSpec {
    pub(crate) fn context_request(&self) -> ContextRequest {
        ContextRequest { index: self.index.clone(), read: self.read, slices: self.slices, matching: None }
    }
}

/// The spec of a scan without its slices, which are the rows of its child.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanSpec {
    /// The name of the connection in the [`ConnectionRegistry`](elastic_client::ConnectionRegistry).
    pub connection: String,
    /// The index of the table, for display and errors.
    pub index: String,
    /// The projected columns.
    pub columns: Vec<Column>,
    /// The query that is sent: the base query with the pushed filters.
    pub query: Value,
    /// The read mode, the page size and the keep-alive.
    pub read: ReadOptions,
    /// The maximum of rows that are read of each slice; all if `None`.
    pub limit: Option<NonZeroU32>,
    /// The order in which each slice is read, so that `limit` keeps its top rows; no order if empty.
    pub order: Vec<SortKey>,
    /// Whether the server may count and sort.
    pub pushdown: Pushdown,
    /// Whether the server computes aggregates.
    pub aggregate: Aggregate,
    /// The query for documents in which a value missing from doc values is an error; `None` if it is read as null.
    pub ignored: Option<Value>,
}

impl ScanSpec {
    /// Without columns there is nothing to read but the number of rows, so the scan requests a count.
    pub(crate) fn counts(&self) -> bool {
        self.columns.is_empty() && self.pushdown == Pushdown::On
    }
}
