//! A client for Elasticsearch and OpenSearch: connections, server kinds, search contexts, slices, pages.
//!
//! Owns: every request to a server, and the checks that a response is complete. Must not know: Arrow and DataFusion, or
//! where a connection's description comes from. The caller decodes the bytes of a page ([`DecodePage`]).
//!
//! A module uses only modules that precede it in this list:
//! - `nearest`, `config`, `date_math`, `query`, `error`, `index_name`, `paths`, `request`: what a request asks for, and
//!   of which server;
//! - `product`, `retry`, `health`, `concurrency_limit`, `headers`, `tls`, `server_error`, `transport_error`, `open_contexts`,
//!   `connection`, `release`, `registry`: how a request is sent, and how it ended;
//! - `server`, `mapping`, `sort_key`, `slices`, `read_options`, `shards`, `matching`, `pit_limit`, `opening`, `context`, `renewal`,
//!   `totals`, `ignored`, `paging`, `read`: how an index is read;
//! - `bulk`: how documents are written.

mod bulk;
mod concurrency_limit;
mod config;
mod connection;
mod context;
mod date_math;
mod error;
mod headers;
mod health;
mod ignored;
mod index_name;
mod mapping;
mod matching;
mod nearest;
mod open_contexts;
mod opening;
mod paging;
mod paths;
mod pit_limit;
mod product;
mod query;
mod read;
mod read_options;
mod registry;
mod release;
mod renewal;
mod request;
mod retry;
mod server;
mod server_error;
mod shards;
mod single;
mod slices;
mod sort_key;
mod tls;
mod totals;
mod transport_error;

pub use bulk::{BulkDocument, BulkWriter};
pub use config::{
    Access, Auth, ClientCertificate, ConfigError, ConnectionConfig, Fingerprint, HeaderSource, Proxy,
    SecretSource, Tls, UrlProblem, Verify, parse_cloud_id, parse_node,
};
pub use connection::Connection;
pub use context::{
    ContextKind, ContextRequest, SearchContext, close_context, close_context_soon, open_context,
};
pub use error::{ContextOwner, Error};
pub use ignored::{IgnoredValues, refuse_ignored};
pub use index_name::check_index;
pub use mapping::{
    IndexMappings, check_query, distinct_mappings, fetch_count, fetch_mappings, fetch_older_than,
};
pub use nearest::nearest;
pub use product::{PitSupport, Product, Server, Version};
pub use query::{BaseQuery, QueryError, parse_base_query, pin_now, translate_filtered};
pub use read::{DecodeError, DecodePage, Envelope, FieldsRequest, PageOptions, ReadCounters, SliceReader};
pub use read_options::{KeepAlive, OptionError, PageRows, ReadMode, ReadOptions};
pub use registry::{ConnectionRegistry, ReadProgress};
pub use renewal::keep_context;
pub use request::{Idempotence, Method, Request, Response};
pub use retry::RetryPolicy;
pub use server::fetch_server;
pub use shards::fetch_shards;
pub use single::{SingleValued, fetch_single};
pub use slices::{Cut, IndexShards, Slice, SliceSource, Tiebreaker, group_slices, plan_cuts};
pub use sort_key::SortKey;
pub use totals::{Totals, fetch_totals};
