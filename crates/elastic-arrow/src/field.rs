//! Field types and columns.
//!
//! Owns: what a column is, its Arrow type, and where its values are read from. Must not know
//! mappings as JSON, nor pages.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// A multi-field whose terms are the texts of its field, as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeywordSubfield {
    /// Its dotted name.
    pub name: String,
    /// The smallest `ignore_above`: longer texts have no term.
    pub ignore_above: Option<u32>,
}

/// The key of an Arrow field's metadata under which the server's type stands, where the Arrow type does not
/// say how values compare.
pub const TYPE_KEY: &str = "elasticsearch.type";

/// The value under [`TYPE_KEY`] of a column whose texts are addresses, in their canonical spelling.
pub const IP_TYPE: &str = "ip";

/// The type of a field. Objects are not columns, their leaves are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// `keyword`.
    Keyword,
    /// `constant_keyword`.
    ConstantKeyword,
    /// `wildcard`.
    Wildcard,
    /// `text`, `match_only_text`, `search_as_you_type`.
    Text,
    /// `ip`.
    Ip,
    /// `byte`.
    Byte,
    /// `short`.
    Short,
    /// `integer`, `token_count`.
    Integer,
    /// `long`.
    Long,
    /// `unsigned_long`.
    UnsignedLong,
    /// `half_float`.
    HalfFloat,
    /// `float`.
    Float,
    /// `double`.
    Double,
    /// `scaled_float`.
    ScaledFloat,
    /// `boolean`.
    Boolean,
    /// `date`.
    Date,
    /// `date_nanos`.
    DateNanos,
    /// `binary`: its base64 text.
    Binary,
    /// `version`.
    Version,
    /// `geo_point`: JSON text.
    GeoPoint,
    /// `flattened`, `flat_object`: JSON text.
    Flattened,
    /// `nested`: JSON text.
    Nested,
    /// An object with `"enabled": false`: JSON text.
    Object,
    /// Any other type, on request: JSON text.
    Unknown(String),
    /// A column about the document.
    Metadata(MetaField),
}

impl FieldType {
    /// The leaf type a mapping calls `name`, or `None`.
    pub(crate) fn from_mapping(name: &str) -> Option<Self> {
        Some(match name {
            "keyword" => Self::Keyword,
            "constant_keyword" => Self::ConstantKeyword,
            "wildcard" => Self::Wildcard,
            "text" | "match_only_text" | "search_as_you_type" => Self::Text,
            "ip" => Self::Ip,
            "byte" => Self::Byte,
            "short" => Self::Short,
            "integer" | "token_count" => Self::Integer,
            "long" => Self::Long,
            "unsigned_long" => Self::UnsignedLong,
            "half_float" => Self::HalfFloat,
            "float" => Self::Float,
            "double" => Self::Double,
            "scaled_float" => Self::ScaledFloat,
            "boolean" => Self::Boolean,
            "date" => Self::Date,
            "date_nanos" => Self::DateNanos,
            "binary" => Self::Binary,
            "version" => Self::Version,
            "geo_point" => Self::GeoPoint,
            "flattened" | "flat_object" => Self::Flattened,
            "nested" => Self::Nested,
            _ => return None,
        })
    }

    /// Whether the column holds JSON text rather than a value.
    pub fn is_json(&self) -> bool {
        match self {
            Self::GeoPoint | Self::Flattened | Self::Nested | Self::Object | Self::Unknown(_) => true,
            Self::Metadata(meta) => *meta == MetaField::Source,
            Self::Keyword
            | Self::ConstantKeyword
            | Self::Wildcard
            | Self::Text
            | Self::Ip
            | Self::Byte
            | Self::Short
            | Self::Integer
            | Self::Long
            | Self::UnsignedLong
            | Self::HalfFloat
            | Self::Float
            | Self::Double
            | Self::ScaledFloat
            | Self::Boolean
            | Self::Date
            | Self::DateNanos
            | Self::Binary
            | Self::Version => false,
        }
    }

    /// The Arrow type of one value.
    pub fn value_type(&self) -> DataType {
        match self {
            Self::Byte => DataType::Int8,
            Self::Short => DataType::Int16,
            Self::Integer => DataType::Int32,
            Self::Long => DataType::Int64,
            Self::UnsignedLong => DataType::UInt64,
            Self::HalfFloat | Self::Float => DataType::Float32,
            Self::Double | Self::ScaledFloat => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Date => DataType::Timestamp(TimeUnit::Millisecond, None),
            Self::DateNanos => DataType::Timestamp(TimeUnit::Nanosecond, None),
            Self::Keyword
            | Self::ConstantKeyword
            | Self::Wildcard
            | Self::Text
            | Self::Ip
            | Self::Binary
            | Self::Version
            | Self::GeoPoint
            | Self::Flattened
            | Self::Nested
            | Self::Object
            | Self::Unknown(_)
            | Self::Metadata(_) => DataType::Utf8,
        }
    }

    /// The format doc values are asked in, so that they come back exact.
    pub(crate) fn doc_value_format(&self) -> Option<String> {
        match self {
            Self::Date => Some("epoch_millis".to_owned()),
            Self::DateNanos => Some("strict_date_optional_time_nanos".to_owned()),
            _ => None,
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyword => "keyword",
            Self::ConstantKeyword => "constant_keyword",
            Self::Wildcard => "wildcard",
            Self::Text => "text",
            Self::Ip => "ip",
            Self::Byte => "byte",
            Self::Short => "short",
            Self::Integer => "integer",
            Self::Long => "long",
            Self::UnsignedLong => "unsigned_long",
            Self::HalfFloat => "half_float",
            Self::Float => "float",
            Self::Double => "double",
            Self::ScaledFloat => "scaled_float",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::DateNanos => "date_nanos",
            Self::Binary => "binary",
            Self::Version => "version",
            Self::GeoPoint => "geo_point",
            Self::Flattened => "flattened",
            Self::Nested => "nested",
            Self::Object => "object",
            Self::Unknown(name) => name,
            Self::Metadata(meta) => meta.name(),
        })
    }
}

/// What is known about a document besides its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MetaField {
    /// `_id`.
    Id,
    /// `_index`.
    Index,
    /// `_source`: the document as JSON text.
    Source,
}

impl MetaField {
    /// The column's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "_id",
            Self::Index => "_index",
            Self::Source => "_source",
        }
    }
}

/// Which part of a hit holds a column's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// `fields`, asked for by `docvalue_fields`.
    DocValues {
        /// The `format` to ask for.
        format: Option<String>,
    },
    /// `_source`, at the column's `source_path`.
    Source,
    /// The hit itself.
    Metadata,
    /// Nowhere: decoding the column is an error, having it in the schema is not.
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// One column: a leaf field under its dotted name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The dotted name, also for queries.
    pub name: String,
    /// The type, widened over all indices.
    pub field_type: FieldType,
    /// Where values are read from.
    pub read_from: ReadFrom,
    /// Declared an array: a list column.
    pub array: bool,
    /// The path in `_source`; differs from `name` for aliases and multi-fields.
    pub source_path: String,
    /// Searchable in every index (`"index": false` nowhere).
    pub indexed: bool,
    /// Has doc values in every index.
    pub doc_values: bool,
    /// For text: a keyword multi-field without `normalizer`.
    pub keyword_subfield: Option<KeywordSubfield>,
    /// Has a `normalizer` in some index: doc values and terms are not the text as sent.
    pub normalizer: bool,
    /// The smallest `ignore_above`: longer values have neither terms nor doc values.
    pub ignore_above: Option<u32>,
    /// Has a `null_value` in some index: an explicit null is found and read as that value.
    pub null_value: bool,
    /// Of dates: the server can print any number of milliseconds by the format of every index, as it
    /// does when it orders by the field.
    pub prints_any_date: bool,
    /// Has different types in different indices, widened to `field_type`.
    pub mixed: bool,
    /// What else the field is named in some index where it is an alias, or there are several paths to
    /// it in `_source`: what servers note of it, they note under these.
    pub targets: BTreeSet<String>,
}

impl Column {
    /// A metadata column.
    pub(crate) fn metadata(meta: MetaField, read_from: ReadFrom) -> Self {
        Self {
            name: meta.name().to_owned(),
            field_type: FieldType::Metadata(meta),
            read_from,
            array: false,
            source_path: meta.name().to_owned(),
            indexed: meta != MetaField::Source,
            doc_values: false,
            keyword_subfield: None,
            normalizer: false,
            ignore_above: None,
            null_value: false,
            prints_any_date: false,
            mixed: false,
            targets: BTreeSet::new(),
        }
    }

    /// The Arrow type: a list for arrays.
    pub fn data_type(&self) -> DataType {
        let value = self.field_type.value_type();
        if self.array { DataType::List(Arc::new(Field::new_list_field(value, true))) } else { value }
    }

    /// The Arrow field, always nullable. That of an `ip` column says so in its metadata: the order of
    /// addresses is not that of their texts.
    pub fn to_arrow(&self) -> Field {
        let field = Field::new(&self.name, self.data_type(), true);
        match self.field_type {
            FieldType::Ip => field.with_metadata([(TYPE_KEY.to_owned(), IP_TYPE.to_owned())].into()),
            _ => field,
        }
    }

    /// The field and format to ask for in `docvalue_fields`, if read from there.
    pub fn doc_value_field(&self) -> Option<(&str, Option<&str>)> {
        match &self.read_from {
            ReadFrom::DocValues { format } => Some((&self.name, format.as_deref())),
            ReadFrom::Source | ReadFrom::Metadata | ReadFrom::Unavailable { .. } => None,
        }
    }

    /// The path to ask for in `_source`, if read from there.
    pub fn source_field(&self) -> Option<&str> {
        match &self.read_from {
            ReadFrom::Source => Some(&self.source_path),
            ReadFrom::DocValues { .. } | ReadFrom::Metadata | ReadFrom::Unavailable { .. } => None,
        }
    }
}

/// The Arrow schema of `columns`, in their order.
pub fn to_schema(columns: &[Column]) -> SchemaRef {
    let fields: Vec<Field> = columns.iter().map(Column::to_arrow).collect();
    Arc::new(Schema::new(fields))
}
