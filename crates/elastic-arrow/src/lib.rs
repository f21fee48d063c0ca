//! Elasticsearch and OpenSearch documents as Arrow.
//!
//! Owns: an index mapping into columns and an Arrow schema, and the bytes of one search answer into
//! a `RecordBatch`. Must not know HTTP, connections, retries or DataFusion.
//!
//! A module uses those before it only:
//! - `error`, `field`, `leaf`, `merge`, `mapping`: mappings become columns;
//! - `time`, `values`, `source_tree`, `layout`, `rows`, `json_text`, `source`, `hit`, `page`: pages become batches.

mod error;
mod field;
mod hit;
mod json_text;
mod layout;
mod leaf;
mod mapping;
mod merge;
mod page;
mod rows;
mod source;
mod source_tree;
mod time;
mod values;

pub use error::{Error, Place};
pub use field::{Column, FieldType, IP_TYPE, KeywordSubfield, MetaField, ReadFrom, TYPE_KEY, to_schema};
pub use mapping::{ConstantKeywords, IndexMapping, LongKeywords, SchemaOptions, UnknownTypes, plan_columns};
pub use page::{DecodedPage, Envelope, PageDecoder};
