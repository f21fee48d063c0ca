//! Talks to Elasticsearch and OpenSearch: connections, server kinds, snapshots, slices, pages.
//!
//! Owns: everything that is sent to a server, and the proof that what came back is whole.
//! Must not know: Arrow and DataFusion. A page's bytes are decoded by whoever reads it
//! ([`DecodePage`]).

mod budget;
mod config;
mod connection;
mod date_math;
mod error;
mod headers;
mod health;
mod held;
mod ignored;
mod index_name;
mod mapping;
mod nearest;
mod opening;
mod paging;
mod pit_limit;
mod query;
mod read;
mod read_options;
mod registry;
mod renewal;
mod request;
mod retry;
mod server;
mod shards;
mod slices;
mod snapshot;
mod sort_key;
mod tls;

pub use config::*;
pub use connection::Connection;
pub use error::{Error, HeldBy};
pub use ignored::IgnoredValues;
pub use index_name::check_index;
pub use mapping::{IndexMappings, check_query, fetch_count, fetch_mappings, fetch_older_than};
pub use nearest::nearest;
pub use query::*;
pub use read::{DecodeError, DecodePage, Envelope, FieldsRequest, PageOptions, ReadCounters, SliceReader};
pub use read_options::{KeepAlive, OptionError, PageRows, ReadMode, ReadOptions};
pub use registry::{ConnectionRegistry, ReadProgress};
pub use renewal::keep_snapshot;
pub use request::{Answer, Method, Repeat, Request};
pub use retry::RetryPolicy;
pub use server::{Product, Server, SnapshotSupport, Version, fetch_server};
pub use shards::fetch_shards;
pub use slices::{Cut, IndexShards, Slice, SliceSource, Sort, group_slices, plan_cuts};
pub use snapshot::{
    Snapshot, SnapshotKind, SnapshotRequest, close_snapshot, close_snapshot_soon, open_snapshot,
};
pub use sort_key::SortKey;
