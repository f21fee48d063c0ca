//! What a user can say of a table.
//!
//! Owns: names, aliases from ES-Hadoop, and their checks. No option is a secret.

use datafusion::error::{DataFusionError, Result};
use elastic_arrow::{MetaField, UnknownTypes};
use elastic_client::{OptionError, ReadOptions};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::str::FromStr;

/// Checked options of a table.
#[derive(Clone, Debug)]
pub struct TableOptions {
    /// Base query, in the DSL.
    pub query: Value,
    /// Slices, and so partitions; as many as shards if none.
    pub slices: Option<NonZeroU32>,
    /// About how many documents a slice is to have at most; by it `slices` follow from a count.
    pub docs_per_slice: Option<NonZeroU32>,
    /// How the index is read.
    pub read: ReadOptions,
    /// Fields that are lists.
    pub arrays: BTreeSet<String>,
    /// Fields that are no columns.
    pub exclude: BTreeSet<String>,
    /// Which of `_id`, `_index` and `_source` are columns.
    pub metadata: Vec<MetaField>,
    /// Whether filters are sent.
    pub pushdown: Pushdown,
    /// What becomes of a field of a type that has no column type.
    pub unknown_types: UnknownTypes,
    /// What becomes of values that the server left out of what is read.
    pub ignored: Ignored,
}

/// Where filters are applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pushdown {
    /// By the server as far as it can, and again by DataFusion where that is not exact.
    #[default]
    On,
    /// By DataFusion alone.
    Off,
}

/// What becomes of values that the server left out of doc values, since they are longer than
/// `ignore_above` or malformed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ignored {
    /// The read fails.
    #[default]
    Error,
    /// They are null.
    Null,
}

const KNOWN: &[(&str, &[&str])] = &[
    ("query", &["es.query"]),
    ("slices", &[]),
    ("docs_per_slice", &["es.input.max.docs.per.partition"]),
    ("page_size", &["es.scroll.size"]),
    ("keep_alive", &["es.scroll.keepalive"]),
    ("read", &[]),
    ("arrays", &["es.read.field.as.array.include"]),
    ("exclude", &["es.read.field.exclude"]),
    ("metadata", &["es.read.metadata"]),
    ("pushdown", &[]),
    ("unknown_types", &[]),
    ("ignored", &[]),
    ("sample", &[]),
    ("seed", &[]),
];

fn refuse(message: String) -> DataFusionError {
    DataFusionError::Configuration(message)
}

impl TableOptions {
    /// Reads options as `CREATE EXTERNAL TABLE` or a caller gives them. `now` in the query's ranges
    /// is pinned to one moment, so that all pages of the read see the same bounds; elsewhere it is an error.
    pub fn parse(given: &HashMap<String, String>) -> Result<Self> {
        let mut values: HashMap<&str, &str> = HashMap::new();
        for (key, value) in given {
            // A key without a dot arrives as `format.key` from SQL.
            let short = key.strip_prefix("format.").unwrap_or(key);
            let Some((name, _)) =
                KNOWN.iter().find(|(name, aliases)| *name == short || aliases.contains(&short))
            else {
                let known: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
                let nearest = elastic_client::nearest(short, known.iter().copied());
                return Err(refuse(format!(
                    "unknown table option \"{short}\"{}; known are {}",
                    nearest.map(|name| format!(", did you mean \"{name}\"?")).unwrap_or_default(),
                    known.join(", ")
                )));
            };
            if values.insert(name, value).is_some() {
                return Err(refuse(format!("table option \"{name}\" is given twice")));
            }
        }
        let number = |name: &str| -> Result<Option<NonZeroU32>> {
            values
                .get(name)
                .map(|text| {
                    text.parse().map_err(|_| {
                        refuse(format!("table option {name} = \"{text}\" is not a number from 1"))
                    })
                })
                .transpose()
        };
        let names = |name: &str| -> BTreeSet<String> {
            let names = values.get(name).map(|text| text.split(',')).into_iter().flatten();
            names.map(|f| f.trim().to_owned()).filter(|f| !f.is_empty()).collect()
        };
        let (slices, docs_per_slice) = (number("slices")?, number("docs_per_slice")?);
        if slices.is_some() && docs_per_slice.is_some() {
            return Err(refuse(
                "table options slices and docs_per_slice say the same thing: give one".into(),
            ));
        }
        let text = |name: &str| values.get(name).copied();
        let read = ReadOptions {
            mode: parsed(text("read"))?,
            page_size: parsed(text("page_size"))?,
            keep_alive: parsed(text("keep_alive"))?,
        };
        let unknown_types = match values.get("unknown_types").copied() {
            None | Some("error") => UnknownTypes::Error,
            Some("json") => UnknownTypes::JsonText,
            Some(other) => {
                return Err(refuse(format!(
                    "table option unknown_types = \"{other}\" is none of error, json"
                )));
            }
        };
        let ignored = match values.get("ignored").copied() {
            None | Some("error") => Ignored::Error,
            Some("null") => Ignored::Null,
            Some(other) => {
                return Err(refuse(format!("table option ignored = \"{other}\" is none of error, null")));
            }
        };
        let truth = |name: &str, default: bool| match values.get(name).copied() {
            None => Ok(default),
            Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(refuse(format!("table option {name} = \"{other}\" is not true or false"))),
        };
        let query = match values.get("query") {
            Some(text) => {
                let base = elastic_client::parse_base_query(text)
                    .map_err(|e| refuse(format!("table option query: {e}")))?;
                let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
                elastic_client::pin_now(&elastic_client::translate_filtered(&base.query), &now)
                    .map_err(|e| refuse(format!("table option query: {e}")))?
            }
            None => serde_json::json!({ "match_all": {} }),
        };
        let query = sampled(query, values.get("sample").copied(), values.get("seed").copied())?;
        Ok(Self {
            query,
            slices,
            docs_per_slice,
            read,
            arrays: names("arrays"),
            exclude: names("exclude"),
            metadata: metadata(values.get("metadata").copied().unwrap_or("false"))?,
            pushdown: if truth("pushdown", true)? { Pushdown::On } else { Pushdown::Off },
            unknown_types,
            ignored,
        })
    }
}

/// A repeatable sample without replacement: each document draws from its sequence number and the
/// seed, so every read of the same documents draws alike.
fn sampled(query: Value, sample: Option<&str>, seed: Option<&str>) -> Result<Value> {
    let Some(text) = sample else {
        return match seed {
            Some(seed) => Err(refuse(format!("seed = {seed} is of no use without a sample"))),
            None => Ok(query),
        };
    };
    let share: f64 = text.parse().unwrap_or(f64::NAN);
    if !(share > 0.0 && share <= 1.0) {
        return Err(refuse(format!("sample = {text} is not a share above 0 and up to 1")));
    }
    let seed: i64 = match seed {
        Some(text) => text.parse().map_err(|_| refuse(format!("seed = \"{text}\" is not a whole number")))?,
        None => 42,
    };
    Ok(serde_json::json!({ "function_score": {
        "query": query,
        "random_score": { "seed": seed, "field": "_seq_no" },
        "boost_mode": "replace",
        "min_score": 1.0 - share,
    }}))
}

/// `true` stands for those that cost nothing.
fn metadata(text: &str) -> Result<Vec<MetaField>> {
    match text {
        "false" => return Ok(Vec::new()),
        "true" => return Ok(vec![MetaField::Id, MetaField::Index]),
        _ => {}
    }
    let mut fields = Vec::new();
    for name in text.split(',').map(str::trim) {
        let known = [MetaField::Id, MetaField::Index, MetaField::Source];
        let Some(field) = known.into_iter().find(|field| field.name() == name && !fields.contains(field))
        else {
            return Err(refuse(format!(
                "table option metadata = \"{text}\" is not true, false, or some of _id, _index, _source"
            )));
        };
        fields.push(field);
    }
    Ok(fields)
}

/// An option of every read; its default where it is not given.
fn parsed<T: FromStr<Err = OptionError> + Default>(text: Option<&str>) -> Result<T> {
    let value = text.map(T::from_str).transpose().map_err(|e| refuse(format!("table option {e}")))?;
    Ok(value.unwrap_or_default())
}
