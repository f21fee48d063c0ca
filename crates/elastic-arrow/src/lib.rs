//! Elasticsearch and OpenSearch documents as Arrow.
//!
//! Owns: turning index mappings into columns and an Arrow schema, and the bytes of a search response into a
//! `RecordBatch`. Must not know: HTTP, connections, retries or DataFusion.
//!
//! A module uses only modules that precede it in this list:
//! - `error`, `field`, `leaf`, `merge`, `mapping`: from mappings to columns;
//! - `time`, `json_text`, `values`, `key_order`, `source_tree`, `layout`, `rows`, `source`, `hit`, `page`: from pages to batches.

mod error;
mod field;
mod hit;
mod json_text;
mod key_order;
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
