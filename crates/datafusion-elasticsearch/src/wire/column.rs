//! The serialized form of columns and sort keys.
//!
//! Owns: their names and values. Must not know: tables.

use elastic_arrow::{
    Column as Domain, FieldType as DomainType, KeywordSubfield, MetaField, ReadFrom as DomainSource,
};
use elastic_client::SortKey as DomainKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Column {
    name: String,
    field_type: FieldType,
    read_from: ReadFrom,
    array: bool,
    source_path: String,
    indexed: bool,
    doc_values: bool,
    keyword_subfield: Option<Subfield>,
    normalizer: bool,
    ignore_above: Option<u32>,
    null_value: bool,
    /// Is missing in the first plans of format 1.
    #[serde(default)]
    prints_any_date: bool,
    /// Since format 3, and only if it is true: executors without it read all other columns.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    computed: bool,
    mixed: bool,
    /// Is missing in the first plans of format 1.
    #[serde(default)]
    targets: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subfield {
    name: String,
    ignore_above: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FieldType {
    Keyword,
    ConstantKeyword,
    Wildcard,
    Text,
    Ip,
    Byte,
    Short,
    Integer,
    Long,
    UnsignedLong,
    HalfFloat,
    Float,
    Double,
    ScaledFloat,
    Boolean,
    Date,
    DateNanos,
    Binary,
    Version,
    GeoPoint,
    Flattened,
    Nested,
    Object,
    Unknown(String),
    Metadata(Meta),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Meta {
    Id,
    Index,
    Source,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ReadFrom {
    DocValues { format: Option<String> },
    Source,
    Metadata,
    Unavailable { reason: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SortKey {
    field: String,
    descending: bool,
    missing_first: bool,
    unmapped_type: String,
}

impl From<&Domain> for Column {
    fn from(column: &Domain) -> Self {
        let Domain {
            name,
            field_type,
            read_from,
            array,
            source_path,
            indexed,
            doc_values,
            keyword_subfield,
            normalizer,
            ignore_above,
            null_value,
            prints_any_date,
            computed,
            mixed,
            targets,
        } = column.clone();
        Self {
            name,
            field_type: field_type.into(),
            read_from: read_from.into(),
            array,
            source_path,
            indexed,
            doc_values,
            keyword_subfield: keyword_subfield
                .map(|KeywordSubfield { name, ignore_above }| Subfield { name, ignore_above }),
            normalizer,
            ignore_above,
            null_value,
            prints_any_date,
            computed,
            mixed,
            targets,
        }
    }
}

impl From<Column> for Domain {
    fn from(sent: Column) -> Self {
        Self {
            name: sent.name,
            field_type: sent.field_type.into(),
            read_from: sent.read_from.into(),
            array: sent.array,
            source_path: sent.source_path,
            indexed: sent.indexed,
            doc_values: sent.doc_values,
            keyword_subfield: sent
                .keyword_subfield
                .map(|Subfield { name, ignore_above }| KeywordSubfield { name, ignore_above }),
            normalizer: sent.normalizer,
            ignore_above: sent.ignore_above,
            null_value: sent.null_value,
            prints_any_date: sent.prints_any_date,
            computed: sent.computed,
            mixed: sent.mixed,
            targets: sent.targets,
        }
    }
}

impl From<DomainType> for FieldType {
    fn from(from: DomainType) -> Self {
        match from {
            DomainType::Keyword => Self::Keyword,
            DomainType::ConstantKeyword => Self::ConstantKeyword,
            DomainType::Wildcard => Self::Wildcard,
            DomainType::Text => Self::Text,
            DomainType::Ip => Self::Ip,
            DomainType::Byte => Self::Byte,
            DomainType::Short => Self::Short,
            DomainType::Integer => Self::Integer,
            DomainType::Long => Self::Long,
            DomainType::UnsignedLong => Self::UnsignedLong,
            DomainType::HalfFloat => Self::HalfFloat,
            DomainType::Float => Self::Float,
            DomainType::Double => Self::Double,
            DomainType::ScaledFloat => Self::ScaledFloat,
            DomainType::Boolean => Self::Boolean,
            DomainType::Date => Self::Date,
            DomainType::DateNanos => Self::DateNanos,
            DomainType::Binary => Self::Binary,
            DomainType::Version => Self::Version,
            DomainType::GeoPoint => Self::GeoPoint,
            DomainType::Flattened => Self::Flattened,
            DomainType::Nested => Self::Nested,
            DomainType::Object => Self::Object,
            DomainType::Unknown(name) => Self::Unknown(name),
            DomainType::Metadata(field) => Self::Metadata(field.into()),
        }
    }
}

impl From<FieldType> for DomainType {
    fn from(from: FieldType) -> Self {
        match from {
            FieldType::Keyword => Self::Keyword,
            FieldType::ConstantKeyword => Self::ConstantKeyword,
            FieldType::Wildcard => Self::Wildcard,
            FieldType::Text => Self::Text,
            FieldType::Ip => Self::Ip,
            FieldType::Byte => Self::Byte,
            FieldType::Short => Self::Short,
            FieldType::Integer => Self::Integer,
            FieldType::Long => Self::Long,
            FieldType::UnsignedLong => Self::UnsignedLong,
            FieldType::HalfFloat => Self::HalfFloat,
            FieldType::Float => Self::Float,
            FieldType::Double => Self::Double,
            FieldType::ScaledFloat => Self::ScaledFloat,
            FieldType::Boolean => Self::Boolean,
            FieldType::Date => Self::Date,
            FieldType::DateNanos => Self::DateNanos,
            FieldType::Binary => Self::Binary,
            FieldType::Version => Self::Version,
            FieldType::GeoPoint => Self::GeoPoint,
            FieldType::Flattened => Self::Flattened,
            FieldType::Nested => Self::Nested,
            FieldType::Object => Self::Object,
            FieldType::Unknown(name) => Self::Unknown(name),
            FieldType::Metadata(field) => Self::Metadata(field.into()),
        }
    }
}

impl From<MetaField> for Meta {
    fn from(field: MetaField) -> Self {
        match field {
            MetaField::Id => Self::Id,
            MetaField::Index => Self::Index,
            MetaField::Source => Self::Source,
        }
    }
}

impl From<Meta> for MetaField {
    fn from(sent: Meta) -> Self {
        match sent {
            Meta::Id => Self::Id,
            Meta::Index => Self::Index,
            Meta::Source => Self::Source,
        }
    }
}

impl From<DomainSource> for ReadFrom {
    fn from(read_from: DomainSource) -> Self {
        match read_from {
            DomainSource::DocValues { format } => Self::DocValues { format },
            DomainSource::Source => Self::Source,
            DomainSource::Metadata => Self::Metadata,
            DomainSource::Unavailable { reason } => Self::Unavailable { reason },
        }
    }
}

impl From<ReadFrom> for DomainSource {
    fn from(sent: ReadFrom) -> Self {
        match sent {
            ReadFrom::DocValues { format } => Self::DocValues { format },
            ReadFrom::Source => Self::Source,
            ReadFrom::Metadata => Self::Metadata,
            ReadFrom::Unavailable { reason } => Self::Unavailable { reason },
        }
    }
}

impl From<&DomainKey> for SortKey {
    fn from(key: &DomainKey) -> Self {
        let DomainKey { field, descending, missing_first, unmapped_type } = key.clone();
        Self { field, descending, missing_first, unmapped_type }
    }
}

impl From<SortKey> for DomainKey {
    fn from(sent: SortKey) -> Self {
        Self {
            field: sent.field,
            descending: sent.descending,
            missing_first: sent.missing_first,
            unmapped_type: sent.unmapped_type,
        }
    }
}
