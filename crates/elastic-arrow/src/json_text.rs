//! Values as JSON text.
//!
//! Owns: reading a value as unchanged JSON text, and strings without a copy. Must not know: the field of the value.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer};
use serde_json::value::RawValue;

/// A string, borrowed from the page unless it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// Returns the next value as unchanged JSON text.
pub(crate) fn json_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, str>, D::Error> {
    let raw = <&'de RawValue>::deserialize(deserializer)?;
    Ok(Cow::Borrowed(raw.get()))
}

/// [`json_text`] as a seed.
pub(crate) struct JsonText;

impl<'de> DeserializeSeed<'de> for JsonText {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        json_text(deserializer)
    }
}
