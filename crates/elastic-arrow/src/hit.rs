//! Reading one hit into one row.
//!
//! Owns: the keys of a hit: `fields`, `_source`, `_id`, `_index`, `sort`. Must not know: the page around it, or how a
//! value is converted.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::field::MetaField;
use crate::json_text::{JsonText, Text};
use crate::rows::Rows;
use crate::source::SourceSeed;
use crate::values::{Misfit, Scalar};

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum HitKey {
    #[serde(rename = "_index")]
    Index,
    #[serde(rename = "_id")]
    Id,
    #[serde(rename = "_source")]
    Source,
    Fields,
    Sort,
    #[serde(other)]
    Other,
}

/// Reads one hit into a row. Returns the JSON text of its sort values, or of the first one if the others fill columns.
pub(crate) struct HitSeed<'a, 'd> {
    pub(crate) rows: &'a mut Rows<'d>,
}

impl<'de> DeserializeSeed<'de> for HitSeed<'_, '_> {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HitSeed<'_, '_> {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a hit")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut id: Option<Text<'de>> = None;
        let mut index: Option<Text<'de>> = None;
        let mut sort = None;
        while let Some(key) = map.next_key()? {
            match key {
                HitKey::Id => id = Some(map.next_value()?),
                HitKey::Index => index = Some(map.next_value()?),
                HitKey::Sort if self.rows.layout.sort_values.is_empty() => {
                    sort = Some(map.next_value_seed(JsonText)?);
                }
                HitKey::Sort => sort = Some(map.next_value_seed(SortSeed { rows: &mut *self.rows })?),
                HitKey::Fields => {
                    map.next_value_seed(FieldsSeed { rows: &mut *self.rows })?;
                }
                HitKey::Source => read_source(&mut map, self.rows)?,
                HitKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if sort.is_none() && !self.rows.layout.sort_values.is_empty() {
            return Err(A::Error::custom("a hit without its sort values"));
        }
        let id = id.as_ref().map(|text| text.0.as_ref());
        if !self.rows.end_row(id, index.as_ref().map(|text| text.0.as_ref())) {
            return Err(A::Error::custom("the hit does not fit its columns"));
        }
        Ok(sort)
    }
}

fn read_source<'de, A: MapAccess<'de>>(map: &mut A, rows: &mut Rows<'_>) -> Result<(), A::Error> {
    let layout = rows.layout;
    let tree = &layout.source;
    let whole = layout.metadata.iter().find(|(meta, _)| *meta == MetaField::Source);
    let Some((_, column)) = whole else {
        if tree.is_empty() {
            return map.next_value::<IgnoredAny>().map(|_| ());
        }
        return map.next_value_seed(SourceSeed { tree, rows, depth: 0 });
    };
    let text = map.next_value_seed(JsonText)?;
    rows.push_source(*column, &text);
    if tree.is_empty() {
        return Ok(());
    }
    let mut inner = serde_json::Deserializer::from_str(&text);
    SourceSeed { tree, rows, depth: 0 }.deserialize(&mut inner).map_err(A::Error::custom)
}

/// Reads the sort values of a hit: a key of the order, whose JSON text it returns, and a value for each column.
struct SortSeed<'a, 'd> {
    rows: &'a mut Rows<'d>,
}

impl<'de> DeserializeSeed<'de> for SortSeed<'_, '_> {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for SortSeed<'_, '_> {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sort values", 1 + self.rows.layout.sort_values.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let layout = self.rows.layout;
        let key = seq.next_element_seed(JsonText)?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        for (place, &column) in layout.sort_values.iter().enumerate() {
            let value = seq.next_element_seed(ValuesSeed { rows: &mut *self.rows, column })?;
            value.ok_or_else(|| A::Error::invalid_length(1 + place, &self))?;
        }
        if seq.next_element::<IgnoredAny>()?.is_some() {
            return Err(A::Error::invalid_length(2 + layout.sort_values.len(), &self));
        }
        Ok(key)
    }
}

struct FieldsSeed<'a, 'd> {
    rows: &'a mut Rows<'d>,
}

impl<'de> DeserializeSeed<'de> for FieldsSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldsSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the object \"fields\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let layout = self.rows.layout;
        let mut previous = None;
        while let Some(position) = map.next_key_seed(FieldKey { rows: &mut *self.rows, previous })? {
            let Some(position) = position else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            previous = Some(position);
            map.next_value_seed(ValuesSeed { rows: &mut *self.rows, column: layout.doc_values[position] })?;
        }
        Ok(())
    }
}

/// Reads a key of `fields` as a position among the doc value columns.
struct FieldKey<'a, 'd> {
    rows: &'a mut Rows<'d>,
    /// The position of the key before it.
    previous: Option<usize>,
}

impl<'de> DeserializeSeed<'de> for FieldKey<'_, '_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl<'de> Visitor<'de> for FieldKey<'_, '_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let layout = self.rows.layout;
        Ok(self.rows.field_order.follow(self.previous, |hint| layout.position_of(name, hint)))
    }
}

/// Reads the values of one field: an array or a single value.
struct ValuesSeed<'a, 'd> {
    rows: &'a mut Rows<'d>,
    column: usize,
}

impl<'de> DeserializeSeed<'de> for ValuesSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValuesSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("doc values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(ValuesSeed { rows: &mut *self.rows, column: self.column })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.rows.keep(self.column, Err(Misfit::value("an object", "an object is not a value")));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.rows.push(self.column, Scalar::Boolean(value));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.rows.push(self.column, Scalar::Integer(value.into()));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.rows.push(self.column, Scalar::Integer(value.into()));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.rows.push(self.column, Scalar::Float(value));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.rows.push(self.column, Scalar::Text(value));
        Ok(())
    }
}
