//! Decoding one page into one batch.
//!
//! Owns: the form of a search response down to its hits (`hit`). Must not know: the request, or how a value is
//! converted.
//!
//! All code is generic over the deserializer. A second format would need only its own `json_text` and
//! `PageDecoder::decode`.

use std::collections::BTreeSet;
use std::fmt;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::error::Error;
use crate::field::Column;
use crate::hit::HitSeed;
use crate::layout::Layout;
use crate::rows::Rows;

/// The largest response, in bytes. The strings of a larger one might exceed Arrow's 32-bit offsets.
const MAX_BODY: usize = i32::MAX as usize;

/// The part of a search response besides its documents, as
/// [the search API](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/search-search.html) returns it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Envelope {
    /// Whether the response has both `timed_out` and `_shards.failed`. Without them, rows may be missing.
    pub complete: bool,
    /// Whether the search reached its time limit. Then rows may be missing.
    pub timed_out: bool,
    /// Whether the search ended early (`terminate_after`). Then rows may be missing.
    pub terminated_early: bool,
    /// The number of shards that the search reached.
    pub shards_total: Option<u64>,
    /// The number of shards that failed. Their rows are missing.
    pub shards_failed: u64,
    /// The first shard failure, as `type: reason`.
    pub shard_failure: Option<String>,
    /// The number of remote clusters that were skipped, failed, or returned partial results. Their rows are missing.
    pub clusters_incomplete: u64,
    /// The number of documents that match, if it is exact.
    pub total: Option<u64>,
    /// The id of the point in time (PIT) for the next request.
    pub pit_id: Option<String>,
    /// The id of the scroll for the next request.
    pub scroll_id: Option<String>,
    /// The number of documents of this page.
    pub hits: usize,
    /// The sort values of the last document, without those that fill columns.
    pub last_sort: Option<Vec<Value>>,
}

/// A decoded page.
#[derive(Clone, Debug)]
pub struct DecodedPage {
    /// The part of the response besides its documents.
    pub envelope: Envelope,
    /// The documents of the page.
    pub batch: RecordBatch,
}

/// Decodes pages into batches with the same columns.
#[derive(Debug)]
pub struct PageDecoder {
    layout: Layout,
}

impl PageDecoder {
    /// Returns a decoder of these columns.
    ///
    /// # Errors
    ///
    /// If a column is [`Unavailable`](crate::ReadFrom::Unavailable), if two columns have the same name, or if a path in
    /// `_source` is too deep.
    pub fn new(columns: Vec<Column>) -> Result<Self, Error> {
        Self::by_sort(columns, &BTreeSet::new())
    }

    /// Returns a decoder of pages in which the columns that `sorted` names are not in the part `fields`. Their values
    /// follow the first sort value of each hit, in the order of the columns. Name only columns that
    /// [are sort values](Column::is_sort_value).
    ///
    /// # Errors
    ///
    /// The same as of [`PageDecoder::new`].
    pub fn by_sort(columns: Vec<Column>, sorted: &BTreeSet<String>) -> Result<Self, Error> {
        Ok(Self { layout: Layout::try_new(columns, sorted)? })
    }

    /// Returns the schema of every batch.
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.layout.schema)
    }

    /// Returns the columns, in the order of the schema.
    pub fn columns(&self) -> &[Column] {
        &self.layout.columns
    }

    /// Decodes one search response in JSON.
    ///
    /// # Errors
    ///
    /// If the body is too large or is not a search response, or if requested metadata is missing. Also if a value does
    /// not fit its column. That error names the document.
    pub fn decode(&self, body: &[u8]) -> Result<DecodedPage, Error> {
        if body.len() > MAX_BODY {
            return Err(Error::TooLarge { bytes: body.len(), limit: MAX_BODY });
        }
        // Checked once for the whole body instead of once for each string.
        let text = std::str::from_utf8(body)
            .map_err(|e| Error::Malformed { bytes: body.len(), source: serde_json::Error::custom(e) })?;
        let mut rows = Rows::new(&self.layout);
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let response = PageSeed { rows: &mut rows }.deserialize(&mut deserializer);
        let response = response.and_then(|envelope| deserializer.end().map(|()| envelope));
        if let Some(error) = rows.error.take() {
            return Err(error);
        }
        let envelope = response.map_err(|source| Error::Malformed { bytes: body.len(), source })?;
        let batch = rows.finish()?;
        Ok(DecodedPage { envelope, batch })
    }
}

#[derive(Deserialize)]
struct Shards {
    total: Option<u64>,
    failed: Option<u64>,
    #[serde(default)]
    failures: Vec<Value>,
}

#[derive(Deserialize)]
struct Clusters {
    #[serde(default)]
    skipped: u64,
    #[serde(default)]
    partial: u64,
    #[serde(default)]
    failed: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Total {
    Number(u64),
    Counted { value: u64, relation: Option<String> },
}

impl Total {
    fn exact(self) -> Option<u64> {
        match self {
            Self::Number(value) => Some(value),
            Self::Counted { value, relation } => (relation.as_deref() == Some("eq")).then_some(value),
        }
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum PageKey {
    #[serde(rename = "_shards")]
    Shards,
    #[serde(rename = "_clusters")]
    Clusters,
    #[serde(rename = "_scroll_id")]
    ScrollId,
    PitId,
    TimedOut,
    TerminatedEarly,
    Hits,
    #[serde(other)]
    Other,
}

struct PageSeed<'a, 'd> {
    rows: &'a mut Rows<'d>,
}

impl<'de> DeserializeSeed<'de> for PageSeed<'_, '_> {
    type Value = Envelope;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Envelope, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PageSeed<'_, '_> {
    type Value = Envelope;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a search response")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
        let mut envelope = Envelope::default();
        let mut timed_out = None;
        let mut failed = None;
        while let Some(key) = map.next_key()? {
            match key {
                PageKey::Shards => {
                    let shards: Shards = map.next_value()?;
                    failed = shards.failed;
                    envelope.shards_total = shards.total;
                    envelope.shard_failure = shards.failures.first().map(failure_text);
                }
                PageKey::Clusters => {
                    let clusters: Clusters = map.next_value()?;
                    let counts = [clusters.skipped, clusters.partial, clusters.failed];
                    envelope.clusters_incomplete = counts.into_iter().fold(0, u64::saturating_add);
                }
                PageKey::ScrollId => envelope.scroll_id = map.next_value()?,
                PageKey::PitId => envelope.pit_id = map.next_value()?,
                PageKey::TimedOut => timed_out = map.next_value()?,
                PageKey::TerminatedEarly => {
                    envelope.terminated_early = map.next_value::<Option<bool>>()?.unwrap_or_default();
                }
                PageKey::Hits => {
                    map.next_value_seed(HitsSeed { rows: &mut *self.rows, envelope: &mut envelope })?;
                }
                PageKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        envelope.complete = timed_out.is_some() && failed.is_some();
        envelope.timed_out = timed_out.unwrap_or_default();
        envelope.shards_failed = failed.unwrap_or_default();
        envelope.hits = self.rows.rows;
        Ok(envelope)
    }
}

fn failure_text(failure: &Value) -> String {
    let reason = failure.get("reason").unwrap_or(failure);
    let part = |key| reason.get(key).and_then(Value::as_str);
    match (part("type"), part("reason")) {
        (Some(kind), Some(reason)) => format!("{kind}: {reason}"),
        (Some(text), None) | (None, Some(text)) => text.to_owned(),
        (None, None) => reason.to_string(),
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum HitsKey {
    Total,
    Hits,
    #[serde(other)]
    Other,
}

struct HitsSeed<'a, 'd> {
    rows: &'a mut Rows<'d>,
    envelope: &'a mut Envelope,
}

impl<'de> DeserializeSeed<'de> for HitsSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HitsSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the object \"hits\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key()? {
            match key {
                HitsKey::Total => {
                    self.envelope.total = map.next_value::<Option<Total>>()?.and_then(Total::exact)
                }
                HitsKey::Hits => {
                    self.envelope.last_sort = map.next_value_seed(HitList { rows: &mut *self.rows })?;
                }
                HitsKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

struct HitList<'a, 'd> {
    rows: &'a mut Rows<'d>,
}

impl<'de> DeserializeSeed<'de> for HitList<'_, '_> {
    type Value = Option<Vec<Value>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for HitList<'_, '_> {
    type Value = Option<Vec<Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of hits")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut last = None;
        while let Some(sort) = seq.next_element_seed(HitSeed { rows: &mut *self.rows })? {
            last = sort;
        }
        let Some(text) = last else { return Ok(None) };
        let keys = if self.rows.layout.sort_values.is_empty() {
            serde_json::from_str(&text)
        } else {
            serde_json::from_str(&text).map(|first| Some(vec![first]))
        };
        keys.map_err(A::Error::custom)
    }
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;

#[cfg(test)]
mod sort_values_tests;
