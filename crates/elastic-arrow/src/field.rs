//! Field types and columns.
//!
//! Owns: the description of a column: its Arrow type, and where its values are read from. Must not know: mappings as
//! JSON, or pages.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// A keyword [multi-field](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/multi-fields.html) whose terms
/// are the unchanged texts of its parent field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeywordSubfield {
    /// The dotted name of the multi-field.
    pub name: String,
    /// The smallest
    /// [`ignore_above`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/ignore-above.html) of all indices.
    /// Longer texts have no term.
    pub ignore_above: Option<u32>,
}

/// The key in an Arrow field's metadata for the server's type of the field. It is set if the Arrow type does not define
/// how values compare.
pub const TYPE_KEY: &str = "elasticsearch.type";

/// The value of [`TYPE_KEY`] for a column of IP addresses. Its texts are addresses in their canonical form.
pub const IP_TYPE: &str = "ip";

/// The type of a field, as [mappings name
/// it](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/mapping-types.html). An object is not a column, but
/// its leaves are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// The type `keyword`.
    Keyword,
    /// The type `constant_keyword`.
    ConstantKeyword,
    /// The type `wildcard`.
    Wildcard,
    /// The types `text`, `match_only_text` and `search_as_you_type`.
    Text,
    /// The type `ip`.
    Ip,
    /// The type `byte`.
    Byte,
    /// The type `short`.
    Short,
    /// The types `integer` and `token_count`.
    Integer,
    /// The type `long`.
    Long,
    /// The type `unsigned_long`.
    UnsignedLong,
    /// The type `half_float`.
    HalfFloat,
    /// The type `float`.
    Float,
    /// The type `double`.
    Double,
    /// The type `scaled_float`.
    ScaledFloat,
    /// The type `boolean`.
    Boolean,
    /// The type `date`, in milliseconds.
    Date,
    /// The type `date_nanos`, in nanoseconds.
    DateNanos,
    /// The type `binary`. The column has its base64 text.
    Binary,
    /// The type `version`.
    Version,
    /// The type `geo_point`. The column has JSON text.
    GeoPoint,
    /// The types `flattened` and `flat_object`. The column has JSON text.
    Flattened,
    /// The type `nested`. The column has JSON text.
    Nested,
    /// An object with `"enabled": false`. The column has JSON text.
    Object,
    /// Any other type, by name. The column has JSON text. It exists only on request, see
    /// [`UnknownTypes`](crate::UnknownTypes).
    Unknown(String),
    /// A column with metadata of the document.
    Metadata(MetaField),
}

impl FieldType {
    /// Returns the type that mappings call `name`, or `None` if it has no column type.
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

    /// Returns whether the column has JSON text instead of a value.
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

    /// Returns the Arrow type of one value.
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

    /// Returns the format in which the server prints doc values exactly, if it is not the default one.
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

/// The metadata of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MetaField {
    /// The document's `_id`.
    Id,
    /// The concrete index of the document, `_index`.
    Index,
    /// The document as JSON text, `_source`.
    Source,
}

impl MetaField {
    /// Returns the name of the column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "_id",
            Self::Index => "_index",
            Self::Source => "_source",
        }
    }
}

/// The part of a hit from which the values of a column are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The part `fields`, which the request parameter
    /// [`docvalue_fields`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/search-fields.html) fills.
    DocValues {
        /// The requested `format`. `None` for the default one.
        format: Option<String>,
    },
    /// The part `_source`, at the column's `source_path`.
    Source,
    /// The keys of the hit itself, such as `_id`.
    Metadata,
    /// The values cannot be read. The column may be in a schema, but decoding it is an error.
    Unavailable {
        /// Why the values cannot be read.
        reason: String,
    },
}

/// A column: a leaf field of one or several indices, or metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The dotted name of the field, which is also its name in queries.
    pub name: String,
    /// The type of the column, which can represent the values of all indices.
    pub field_type: FieldType,
    /// The part of a hit from which the values are read.
    pub read_from: ReadFrom,
    /// Whether the column is a list, as declared by [`SchemaOptions::arrays`](crate::SchemaOptions::arrays).
    pub array: bool,
    /// The path in `_source`. It differs from `name` for aliases and multi-fields.
    pub source_path: String,
    /// Whether the field is indexed, and so searchable, in every index.
    pub indexed: bool,
    /// Whether the field has doc values in every index.
    pub doc_values: bool,
    /// A keyword multi-field without `normalizer`, if the field is a text that has one in every index.
    pub keyword_subfield: Option<KeywordSubfield>,
    /// Whether the field has a `normalizer` in some index. Then its doc values and terms differ from the original text.
    pub normalizer: bool,
    /// The smallest `ignore_above` of all indices. Longer values have neither terms nor doc values.
    pub ignore_above: Option<u32>,
    /// Whether the field has a `null_value` in some index. Then an explicit null is searched and read as that value.
    pub null_value: bool,
    /// For dates: whether the server can print any date in the format of every index. It prints dates when it sorts by
    /// the field.
    pub prints_any_date: bool,
    /// Whether the field is a runtime field in some index. Then the server runs a script for each value that it reads.
    pub computed: bool,
    /// Whether the field has different types in different indices.
    pub mixed: bool,
    /// Names of the field besides `name` and `source_path`: the targets of an alias, and other paths in `_source`. In
    /// `_ignored` the server lists the field under these names, too.
    pub targets: BTreeSet<String>,
}

impl Column {
    /// Returns a column of metadata.
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
            computed: false,
            mixed: false,
            targets: BTreeSet::new(),
        }
    }

    /// Returns the Arrow type of the column, which is a list for arrays.
    pub fn data_type(&self) -> DataType {
        let value = self.field_type.value_type();
        if self.array { DataType::List(Arc::new(Field::new_list_field(value, true))) } else { value }
    }

    /// Returns whether the sort values of a hit have the same text as its doc values, or null if the document has no
    /// value. That holds only for documents with at most one value: of several, the server sorts by the least. Numbers
    /// and dates are no such columns, because the server sorts documents without a value by a number. Runtime fields
    /// are none, because a proof of that would run their script twice more for each document.
    pub fn is_sort_value(&self) -> bool {
        let is_text = matches!(self.field_type, FieldType::Keyword | FieldType::Ip);
        is_text
            && !self.array
            && !self.mixed
            && !self.computed
            && matches!(self.read_from, ReadFrom::DocValues { .. })
    }

    /// Returns the Arrow field, which is always nullable. The field of an `ip` column has [`TYPE_KEY`] in its metadata,
    /// because the order of addresses differs from the order of their texts.
    pub fn to_arrow(&self) -> Field {
        let field = Field::new(&self.name, self.data_type(), true);
        match self.field_type {
            FieldType::Ip => field.with_metadata([(TYPE_KEY.to_owned(), IP_TYPE.to_owned())].into()),
            _ => field,
        }
    }

    /// Returns a phrase for the part of a hit from which the values are read, such as "doc values".
    pub fn origin(&self) -> &'static str {
        match &self.read_from {
            ReadFrom::DocValues { .. } => "doc values",
            ReadFrom::Source => "_source",
            ReadFrom::Metadata => "metadata",
            ReadFrom::Unavailable { .. } => "nowhere",
        }
    }

    /// Returns the field and the format for `docvalue_fields`, if the column is read from doc values.
    pub fn doc_value_field(&self) -> Option<(&str, Option<&str>)> {
        match &self.read_from {
            ReadFrom::DocValues { format } => Some((&self.name, format.as_deref())),
            ReadFrom::Source | ReadFrom::Metadata | ReadFrom::Unavailable { .. } => None,
        }
    }

    /// Returns the path in `_source`, if the column is read from there.
    pub fn source_field(&self) -> Option<&str> {
        match &self.read_from {
            ReadFrom::Source => Some(&self.source_path),
            ReadFrom::DocValues { .. } | ReadFrom::Metadata | ReadFrom::Unavailable { .. } => None,
        }
    }
}

/// Returns the Arrow schema of `columns`, in their order.
pub fn to_schema(columns: &[Column]) -> SchemaRef {
    let fields: Vec<Field> = columns.iter().map(Column::to_arrow).collect();
    Arc::new(Schema::new(fields))
}
