//! Reading `_source`.
//!
//! Owns: finding columns in a document with dotted or nested keys. Must not know: how a value is converted, or the rest
//! of a page.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::json_text::json_text;
use crate::rows::Rows;
use crate::source_tree::{Descent, SourceTree};
use crate::values::MAX_DEPTH;

/// Reads the value at `tree` into the columns at and below it.
pub(crate) struct SourceSeed<'a, 'd> {
    pub(crate) tree: &'a SourceTree,
    pub(crate) rows: &'a mut Rows<'d>,
    pub(crate) depth: usize,
}

impl<'de> DeserializeSeed<'de> for SourceSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > MAX_DEPTH {
            return Err(serde::de::Error::custom("_source is nested too deep"));
        }
        if self.tree.columns.is_empty() {
            return deserializer.deserialize_any(self);
        }
        let text = json_text(deserializer)?;
        if !self.tree.is_empty() && text.trim_start().starts_with('{') {
            // Both "a" and "a.b" are fields, so an object at "a" can only contain "a.b".
            let mut inner = serde_json::Deserializer::from_str(&text);
            return inner.deserialize_any(self).map_err(serde::de::Error::custom);
        }
        for column in &self.tree.columns {
            self.rows.push_json(*column, &text);
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for SourceSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut previous = None;
        while let Some(child) =
            map.next_key_seed(KeySeed { tree: self.tree, previous, rows: &mut *self.rows })?
        {
            match child {
                Descent::At { tree, position } => {
                    previous = position.or(previous);
                    map.next_value_seed(SourceSeed { tree, rows: &mut *self.rows, depth: self.depth + 1 })?;
                }
                Descent::Beside(columns) => {
                    map.next_value::<IgnoredAny>()?;
                    for column in columns {
                        self.rows.keep_part(*column);
                    }
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        loop {
            let seed = SourceSeed { tree: self.tree, rows: &mut *self.rows, depth: self.depth + 1 };
            if seq.next_element_seed(seed)?.is_none() {
                return Ok(());
            }
        }
    }

    // A value in place of an object has no values for its leaves.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

struct KeySeed<'a, 'r, 'd> {
    tree: &'a SourceTree,
    /// The position of the key before it.
    previous: Option<usize>,
    rows: &'r mut Rows<'d>,
}

impl<'de, 'a> DeserializeSeed<'de> for KeySeed<'a, '_, '_> {
    type Value = Descent<'a>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl<'de, 'a> Visitor<'de> for KeySeed<'a, '_, '_> {
    type Value = Descent<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        let order = &mut self.rows.source_orders[self.tree.number];
        Ok(self.tree.descend(key, self.previous, order))
    }
}
