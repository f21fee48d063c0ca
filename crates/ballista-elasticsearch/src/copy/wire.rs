//! The serialized form of COPYs and their sinks.
//!
//! Owns: their names and values in every format so far. Formats 1 and 2 differ only in `version`. Must not know:
//! the meaning of a value, or the envelope.

use super::options::CopyOptions;
use super::sink::{SinkSpec, SortedBy};
use super::target::{Existing as DomainExisting, Shape as DomainShape};
use super::{CopyId, CopySpec, FileKind};
use datafusion::error::{DataFusionError, Result};
use datafusion_elasticsearch::wire::{VERSION, version};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Copy {
    /// Is missing in format 1, and in a sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    id: String,
    format: Format,
    options: Options,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    Csv,
    Json,
    Parquet,
    Arrow,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    format: BTreeMap<String, String>,
    existing: Existing,
    shape: Option<Shape>,
    keep_partition_columns: Option<bool>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Existing {
    Refuse,
    Replace,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shape {
    File,
    Folder,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sink {
    /// Is missing in format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    copy: Copy,
    location: String,
    partition_by: Vec<String>,
    keep_partition_columns: bool,
    sorted_by: Vec<Sorted>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sorted {
    column: String,
    index: usize,
    descending: bool,
    nulls_first: bool,
}

/// Serializes a COPY to JSON.
///
/// # Errors
///
/// Returns an error if a value cannot be written as JSON.
pub(crate) fn encode_copy(copy: &CopySpec) -> Result<String> {
    encode(&Copy { version: Some(VERSION), ..Copy::from(copy) })
}

/// Deserializes a COPY from JSON in any format so far.
///
/// # Errors
///
/// Returns an error if the format or a value is unknown.
pub(crate) fn decode_copy(text: &str) -> Result<CopySpec> {
    decode::<Copy>("a COPY", text)?.into_spec()
}

/// Serializes the sink of a COPY to JSON.
///
/// # Errors
///
/// Returns an error if a value cannot be written as JSON.
pub(crate) fn encode_sink(sink: &SinkSpec) -> Result<String> {
    let SinkSpec { copy, location, partition_by, keep_partition_columns, sorted_by } = sink;
    let sorted_by = sorted_by.iter().map(|SortedBy { column, index, descending, nulls_first }| Sorted {
        column: column.clone(),
        index: *index,
        descending: *descending,
        nulls_first: *nulls_first,
    });
    encode(&Sink {
        version: Some(VERSION),
        copy: Copy::from(copy),
        location: location.clone(),
        partition_by: partition_by.clone(),
        keep_partition_columns: *keep_partition_columns,
        sorted_by: sorted_by.collect(),
    })
}

/// Deserializes the sink of a COPY from JSON in any format so far.
///
/// # Errors
///
/// Returns an error if the format or a value is unknown.
pub(crate) fn decode_sink(text: &str) -> Result<SinkSpec> {
    let sink: Sink = decode("the sink of a COPY", text)?;
    let sorted_by = sink.sorted_by.into_iter().map(|Sorted { column, index, descending, nulls_first }| {
        SortedBy { column, index, descending, nulls_first }
    });
    Ok(SinkSpec {
        copy: sink.copy.into_spec()?,
        location: sink.location,
        partition_by: sink.partition_by,
        keep_partition_columns: sink.keep_partition_columns,
        sorted_by: sorted_by.collect(),
    })
}

fn encode(sent: &impl Serialize) -> Result<String> {
    serde_json::to_string(sent).map_err(|e| DataFusionError::External(Box::new(e)))
}

fn decode<T: DeserializeOwned>(operation: &str, text: &str) -> Result<T> {
    version(operation, text)?;
    serde_json::from_str(text).map_err(|e| {
        DataFusionError::External(Box::new(e)).context(format!(
            "{operation} that arrived cannot be read: run one version on all nodes of the cluster"
        ))
    })
}

impl From<&CopySpec> for Copy {
    fn from(copy: &CopySpec) -> Self {
        let CopySpec { id, format, options } = copy;
        let CopyOptions { format: of_format, existing, shape, keep_partition_columns } = options;
        Self {
            version: None,
            id: id.as_str().to_owned(),
            format: match format {
                FileKind::Csv => Format::Csv,
                FileKind::Json => Format::Json,
                FileKind::Parquet => Format::Parquet,
                FileKind::Arrow => Format::Arrow,
            },
            options: Options {
                format: of_format.clone(),
                existing: match existing {
                    DomainExisting::Refuse => Existing::Refuse,
                    DomainExisting::Replace => Existing::Replace,
                },
                shape: shape.map(|shape| match shape {
                    DomainShape::File => Shape::File,
                    DomainShape::Folder => Shape::Folder,
                }),
                keep_partition_columns: *keep_partition_columns,
            },
        }
    }
}

impl Copy {
    fn into_spec(self) -> Result<CopySpec> {
        Ok(CopySpec {
            id: CopyId::try_from(self.id).map_err(DataFusionError::Plan)?,
            format: match self.format {
                Format::Csv => FileKind::Csv,
                Format::Json => FileKind::Json,
                Format::Parquet => FileKind::Parquet,
                Format::Arrow => FileKind::Arrow,
            },
            options: CopyOptions {
                format: self.options.format,
                existing: match self.options.existing {
                    Existing::Refuse => DomainExisting::Refuse,
                    Existing::Replace => DomainExisting::Replace,
                },
                shape: self.options.shape.map(|shape| match shape {
                    Shape::File => DomainShape::File,
                    Shape::Folder => DomainShape::Folder,
                }),
                keep_partition_columns: self.options.keep_partition_columns,
            },
        })
    }
}
