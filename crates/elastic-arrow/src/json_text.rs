//! Values as JSON text.
//!
//! Owns: taking a value as it stands. Must not know: what it is a value of.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer};
use serde_json::value::RawValue;

/// A value as JSON text, untouched.
pub(crate) fn json_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, str>, D::Error> {
    let raw = <&'de RawValue>::deserialize(deserializer)?;
    Ok(Cow::Borrowed(raw.get()))
}

/// The same as a seed.
pub(crate) struct JsonText;

impl<'de> DeserializeSeed<'de> for JsonText {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        json_text(deserializer)
    }
}
