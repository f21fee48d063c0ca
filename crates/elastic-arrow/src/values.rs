//! Converting values to Arrow arrays.
//!
//! Owns: one builder for each column, the values that it accepts, and rows with no value or several values. Must not
//! know: the form of a page.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanBuilder, ListArray, PrimitiveBuilder, StringBuilder};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMillisecondType, TimestampNanosecondType, UInt64Type,
};
use arrow::error::ArrowError;
use serde_json::value::RawValue;

use crate::field::{Column, FieldType};
use crate::json_text::Text;
use crate::time::{epoch_millis_to_nanos, iso_to_nanos};

/// The most levels of nested arrays or objects that are read.
pub(crate) const MAX_DEPTH: usize = 100;

const NANOS_A_MILLI: i128 = 1_000_000;

/// A value as a page contains it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scalar<'a> {
    Text(&'a str),
    Integer(i128),
    Float(f64),
    Boolean(bool),
}

/// Why a value was refused.
#[derive(Debug)]
pub(crate) enum Misfit {
    Value { shown: String, reason: &'static str },
    Several,
}

impl Misfit {
    pub(crate) fn value(shown: &str, reason: &'static str) -> Self {
        let mut cut: String = shown.chars().take(100).collect();
        if cut.len() < shown.len() {
            cut.push('…');
        }
        Self::Value { shown: cut, reason }
    }

    fn scalar(value: Scalar<'_>, reason: &'static str) -> Self {
        match value {
            Scalar::Text(text) => {
                let Self::Value { shown, reason } = Self::value(text, reason) else { return Self::Several };
                Self::Value { shown: format!("\"{shown}\""), reason }
            }
            Scalar::Integer(value) => Self::value(&value.to_string(), reason),
            Scalar::Float(value) => Self::value(&value.to_string(), reason),
            Scalar::Boolean(value) => Self::value(&value.to_string(), reason),
        }
    }
}

/// Builds one column, row by row.
pub(crate) struct ColumnBuilder {
    values: Values,
    json: bool,
    ip: bool,
    geo_point: bool,
    in_row: usize,
    list: Option<Lists>,
}

#[derive(Default)]
struct Lists {
    lengths: Vec<usize>,
    valid: Vec<bool>,
}

impl ColumnBuilder {
    pub(crate) fn new(column: &Column) -> Self {
        Self {
            values: Values::new(&column.field_type),
            json: column.field_type.is_json(),
            ip: column.field_type == FieldType::Ip,
            geo_point: column.field_type == FieldType::GeoPoint,
            in_row: 0,
            list: column.array.then(Lists::default),
        }
    }

    /// Adds a value from doc values.
    pub(crate) fn push(&mut self, value: Scalar<'_>) -> Result<(), Misfit> {
        self.reserve_slot()?;
        self.values.append(value)?;
        self.in_row += 1;
        Ok(())
    }

    /// Adds JSON text from `_source`: a value, an array of values, or null.
    pub(crate) fn push_json(&mut self, text: &str) -> Result<(), Misfit> {
        if self.json && self.list.is_none() {
            return self.push_json_value(text.trim());
        }
        self.push_json_array(text.trim(), 0)
    }

    fn push_json_array(&mut self, text: &str, depth: usize) -> Result<(), Misfit> {
        if !text.starts_with('[') || (self.json && depth > 0) {
            return self.push_json_value(text);
        }
        if depth == MAX_DEPTH {
            return Err(Misfit::value(text, "arrays are nested too deep"));
        }
        let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text) else {
            return Err(Misfit::value(text, "not an array"));
        };
        // An array with a number, such as `[lon, lat]`, is a single point.
        if self.geo_point && elements.iter().any(|element| is_number(element.get())) {
            return self.push_json_value(text);
        }
        for element in elements {
            self.push_json_array(element.get(), depth + 1)?;
        }
        Ok(())
    }

    fn push_json_value(&mut self, text: &str) -> Result<(), Misfit> {
        if text == "null" || is_empty_array(text) {
            return Ok(());
        }
        self.reserve_slot()?;
        self.append_json_value(text)?;
        self.in_row += 1;
        Ok(())
    }

    fn append_json_value(&mut self, text: &str) -> Result<(), Misfit> {
        if self.json {
            return self.values.append(Scalar::Text(text));
        }
        match text.as_bytes().first() {
            Some(b'"') => {
                let Ok(Text(string)) = serde_json::from_str(text) else {
                    return Err(Misfit::value(text, "not a string"));
                };
                if self.ip {
                    return self.values.append(Scalar::Text(&canonical_ip(&string)));
                }
                self.values.append_source_string(&string)
            }
            Some(b't') => self.values.append_source_boolean(true),
            Some(b'f') => self.values.append_source_boolean(false),
            Some(b'{') => Err(Misfit::value(text, "an object is not a value")),
            _ => self.values.append_source_number(text),
        }
    }

    fn reserve_slot(&self) -> Result<(), Misfit> {
        if self.list.is_none() && self.in_row > 0 { Err(Misfit::Several) } else { Ok(()) }
    }

    /// Ends a row. A row without a value is null, also for lists.
    pub(crate) fn end_row(&mut self) {
        match &mut self.list {
            Some(lists) => {
                lists.lengths.push(self.in_row);
                lists.valid.push(self.in_row > 0);
            }
            None if self.in_row == 0 => self.values.append_null(),
            None => {}
        }
        self.in_row = 0;
    }

    pub(crate) fn finish(self) -> Result<ArrayRef, ArrowError> {
        let values = self.values.finish();
        let Some(lists) = self.list else { return Ok(values) };
        let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        let offsets = OffsetBuffer::<i32>::from_lengths(lists.lengths);
        let array = ListArray::try_new(item, offsets, values, Some(NullBuffer::from(lists.valid)))?;
        Ok(Arc::new(array))
    }
}

fn is_empty_array(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| inner.trim().is_empty())
}

fn is_number(text: &str) -> bool {
    text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// Returns an address in the form of doc values. A text that is not an address is unchanged, because it was not indexed
/// as one.
fn canonical_ip(text: &str) -> Cow<'_, str> {
    match text.parse::<IpAddr>() {
        Ok(address) => Cow::Owned(address.to_canonical().to_string()),
        Err(_) => Cow::Borrowed(text),
    }
}

enum Values {
    Byte(PrimitiveBuilder<Int8Type>),
    Short(PrimitiveBuilder<Int16Type>),
    Integer(PrimitiveBuilder<Int32Type>),
    Long(PrimitiveBuilder<Int64Type>),
    UnsignedLong(PrimitiveBuilder<UInt64Type>),
    Float(PrimitiveBuilder<Float32Type>),
    Double(PrimitiveBuilder<Float64Type>),
    Boolean(BooleanBuilder),
    Millis(PrimitiveBuilder<TimestampMillisecondType>),
    Nanos(PrimitiveBuilder<TimestampNanosecondType>),
    Text(StringBuilder),
}

impl Values {
    fn new(field_type: &FieldType) -> Self {
        match field_type {
            FieldType::Byte => Self::Byte(PrimitiveBuilder::new()),
            FieldType::Short => Self::Short(PrimitiveBuilder::new()),
            FieldType::Integer => Self::Integer(PrimitiveBuilder::new()),
            FieldType::Long => Self::Long(PrimitiveBuilder::new()),
            FieldType::UnsignedLong => Self::UnsignedLong(PrimitiveBuilder::new()),
            FieldType::HalfFloat | FieldType::Float => Self::Float(PrimitiveBuilder::new()),
            FieldType::Double | FieldType::ScaledFloat => Self::Double(PrimitiveBuilder::new()),
            FieldType::Boolean => Self::Boolean(BooleanBuilder::new()),
            FieldType::Date => Self::Millis(PrimitiveBuilder::new()),
            FieldType::DateNanos => Self::Nanos(PrimitiveBuilder::new()),
            FieldType::Keyword
            | FieldType::ConstantKeyword
            | FieldType::Wildcard
            | FieldType::Text
            | FieldType::Ip
            | FieldType::Binary
            | FieldType::Version
            | FieldType::GeoPoint
            | FieldType::Flattened
            | FieldType::Nested
            | FieldType::Object
            | FieldType::Unknown(_)
            | FieldType::Metadata(_) => Self::Text(StringBuilder::new()),
        }
    }

    fn append(&mut self, value: Scalar<'_>) -> Result<(), Misfit> {
        match self {
            Self::Byte(builder) => append_integer(builder, value),
            Self::Short(builder) => append_integer(builder, value),
            Self::Integer(builder) => append_integer(builder, value),
            Self::Long(builder) => append_integer(builder, value),
            Self::UnsignedLong(builder) => append_integer(builder, value),
            Self::Float(builder) => {
                let number = to_f64(value)? as f32;
                if number.is_infinite() {
                    return Err(Misfit::scalar(value, "out of range"));
                }
                builder.append_value(number);
                Ok(())
            }
            Self::Double(builder) => {
                builder.append_value(to_f64(value)?);
                Ok(())
            }
            Self::Boolean(builder) => {
                let Scalar::Boolean(truth) = value else {
                    return Err(Misfit::scalar(value, "not a boolean"));
                };
                builder.append_value(truth);
                Ok(())
            }
            Self::Millis(builder) => append_integer(builder, millis_value(value)?),
            Self::Nanos(builder) => append_integer(builder, nanos_value(value)?),
            Self::Text(builder) => {
                let Scalar::Text(text) = value else { return Err(Misfit::scalar(value, "not a string")) };
                builder.append_value(text);
                Ok(())
            }
        }
    }

    /// Adds a string from `_source`. Elasticsearch coerces numbers, booleans and dates given as text.
    fn append_source_string(&mut self, text: &str) -> Result<(), Misfit> {
        let shown = Scalar::Text(text);
        match self {
            Self::Text(_) => self.append(shown),
            Self::Boolean(_) => match text {
                "true" => self.append(Scalar::Boolean(true)),
                "false" | "" => self.append(Scalar::Boolean(false)),
                _ => Err(Misfit::scalar(shown, "not a boolean")),
            },
            Self::Millis(builder) => {
                // A `date` is indexed in milliseconds, without the digits below.
                let millis = source_date_text(text)?.div_euclid(NANOS_A_MILLI);
                append_integer(builder, Scalar::Integer(millis))
            }
            Self::Nanos(builder) => append_integer(builder, Scalar::Integer(source_date_text(text)?)),
            Self::Byte(_)
            | Self::Short(_)
            | Self::Integer(_)
            | Self::Long(_)
            | Self::UnsignedLong(_)
            | Self::Float(_)
            | Self::Double(_) => match self.append_source_number(text) {
                Err(Misfit::Value { reason, .. }) => Err(Misfit::scalar(shown, reason)),
                other => other,
            },
        }
    }

    fn append_source_boolean(&mut self, truth: bool) -> Result<(), Misfit> {
        match self {
            Self::Text(_) => self.append(Scalar::Text(if truth { "true" } else { "false" })),
            _ => self.append(Scalar::Boolean(truth)),
        }
    }

    /// Adds a number from its text, so that it is not rounded in between.
    fn append_source_number(&mut self, text: &str) -> Result<(), Misfit> {
        match self {
            // Requests filter _source, and a server that filters it prints 2.10 as 2.1.
            Self::Text(_) if text.contains(['.', 'e', 'E']) => Err(Misfit::value(
                text,
                "a number with a fraction in a text field, which the server may print differently",
            )),
            Self::Text(_) => self.append(Scalar::Text(text)),
            Self::Float(_) | Self::Double(_) => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => self.append(Scalar::Float(number)),
                _ => Err(Misfit::value(text, "not a number")),
            },
            Self::Boolean(_) => Err(Misfit::value(text, "not a boolean")),
            Self::Millis(builder) => {
                let nanos = source_date_number(text)?;
                if nanos.rem_euclid(NANOS_A_MILLI) != 0 {
                    return Err(Misfit::value(text, "not whole milliseconds"));
                }
                append_integer(builder, Scalar::Integer(nanos / NANOS_A_MILLI))
            }
            Self::Nanos(builder) => append_integer(builder, Scalar::Integer(source_date_number(text)?)),
            Self::Byte(_) | Self::Short(_) | Self::Integer(_) | Self::Long(_) | Self::UnsignedLong(_) => {
                match whole_number(text) {
                    Some(number) => self.append(Scalar::Integer(number)),
                    None => Err(Misfit::value(text, "not a whole number")),
                }
            }
        }
    }

    fn append_null(&mut self) {
        match self {
            Self::Byte(builder) => builder.append_null(),
            Self::Short(builder) => builder.append_null(),
            Self::Integer(builder) => builder.append_null(),
            Self::Long(builder) => builder.append_null(),
            Self::UnsignedLong(builder) => builder.append_null(),
            Self::Float(builder) => builder.append_null(),
            Self::Double(builder) => builder.append_null(),
            Self::Boolean(builder) => builder.append_null(),
            Self::Millis(builder) => builder.append_null(),
            Self::Nanos(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Byte(mut builder) => Arc::new(builder.finish()),
            Self::Short(mut builder) => Arc::new(builder.finish()),
            Self::Integer(mut builder) => Arc::new(builder.finish()),
            Self::Long(mut builder) => Arc::new(builder.finish()),
            Self::UnsignedLong(mut builder) => Arc::new(builder.finish()),
            Self::Float(mut builder) => Arc::new(builder.finish()),
            Self::Double(mut builder) => Arc::new(builder.finish()),
            Self::Boolean(mut builder) => Arc::new(builder.finish()),
            Self::Millis(mut builder) => Arc::new(builder.finish()),
            Self::Nanos(mut builder) => Arc::new(builder.finish()),
            Self::Text(mut builder) => Arc::new(builder.finish()),
        }
    }
}

fn append_integer<T>(builder: &mut PrimitiveBuilder<T>, value: Scalar<'_>) -> Result<(), Misfit>
where
    T: ArrowPrimitiveType,
    T::Native: TryFrom<i128>,
{
    let Scalar::Integer(number) = value else { return Err(Misfit::scalar(value, "not a whole number")) };
    let Ok(native) = T::Native::try_from(number) else { return Err(Misfit::scalar(value, "out of range")) };
    builder.append_value(native);
    Ok(())
}

fn to_f64(value: Scalar<'_>) -> Result<f64, Misfit> {
    match value {
        Scalar::Float(number) => Ok(number),
        Scalar::Integer(number) => Ok(number as f64),
        Scalar::Text(_) | Scalar::Boolean(_) => Err(Misfit::scalar(value, "not a number")),
    }
}

/// Converts doc values of a `date` in the format `epoch_millis`, which is the text of a whole number.
fn millis_value(value: Scalar<'_>) -> Result<Scalar<'_>, Misfit> {
    match value {
        Scalar::Integer(_) => Ok(value),
        Scalar::Text(text) => match text.parse::<i64>() {
            Ok(millis) => Ok(Scalar::Integer(millis.into())),
            Err(_) => Err(Misfit::scalar(value, "not whole milliseconds")),
        },
        Scalar::Float(_) | Scalar::Boolean(_) => Err(Misfit::scalar(value, "not whole milliseconds")),
    }
}

/// Converts doc values of a `date_nanos`, which are ISO-8601 or milliseconds with a fraction.
fn nanos_value(value: Scalar<'_>) -> Result<Scalar<'_>, Misfit> {
    match value {
        Scalar::Integer(millis) => match millis.checked_mul(NANOS_A_MILLI) {
            Some(nanos) => Ok(Scalar::Integer(nanos)),
            None => Err(Misfit::scalar(value, "out of range")),
        },
        Scalar::Text(text) => match epoch_millis_to_nanos(text).or_else(|| iso_to_nanos(text)) {
            Some(nanos) => Ok(Scalar::Integer(nanos)),
            None => Err(Misfit::scalar(value, "not a date with nanoseconds")),
        },
        Scalar::Float(_) | Scalar::Boolean(_) => Err(Misfit::scalar(value, "not a date with nanoseconds")),
    }
}

fn source_date_text(text: &str) -> Result<i128, Misfit> {
    if let Some(nanos) = iso_to_nanos(text) {
        return Ok(nanos);
    }
    match source_date_number(text) {
        Ok(nanos) => Ok(nanos),
        Err(_) => Err(Misfit::scalar(Scalar::Text(text), "neither an ISO-8601 date nor epoch milliseconds")),
    }
}

/// Converts a number in `_source` to nanoseconds. Refuses four digits, which `strict_date_optional_time` reads as a
/// year and `epoch_millis` as milliseconds.
fn source_date_number(text: &str) -> Result<i128, Misfit> {
    if text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Misfit::value(text, "ambiguous: a year or milliseconds"));
    }
    epoch_millis_to_nanos(text).ok_or_else(|| Misfit::value(text, "not epoch milliseconds"))
}

/// Parses a whole number such as `5`, `-5` or `5.0`. Returns `None` for `5.7` and `5e3`.
fn whole_number(text: &str) -> Option<i128> {
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    whole.parse().ok()
}
