//! The options of a table.
//!
//! Owns: option names, their ES-Hadoop aliases, and their validation. No option is a secret.

use datafusion::error::{DataFusionError, Result};
use elastic_arrow::{MetaField, UnknownTypes};
use elastic_client::{OptionError, ReadOptions};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::str::FromStr;

/// The validated options of a table.
#[derive(Clone, Debug)]
pub struct TableOptions {
    /// The base query, in the [query
    /// DSL](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/query-dsl.html).
    pub query: Value,
    /// The number of slices, and therefore of partitions; one for each shard if `None`.
    pub slices: Option<NonZeroU32>,
    /// The approximate maximum of documents in a slice. The number of slices is derived from a count of documents.
    pub docs_per_slice: Option<NonZeroU32>,
    /// The read mode, the page size and the keep-alive.
    pub read: ReadOptions,
    /// The fields that are list columns.
    pub arrays: BTreeSet<String>,
    /// The fields that get no column.
    pub exclude: BTreeSet<String>,
    /// The metadata fields among `_id`, `_index` and `_source` that are columns.
    pub metadata: Vec<MetaField>,
    /// Whether filters are sent to the server.
    pub pushdown: Pushdown,
    /// Whether the server computes aggregates.
    pub aggregate: Aggregate,
    /// How a field whose type has no column type is handled.
    pub unknown_types: UnknownTypes,
    /// How values dropped by `ignore_above` or `ignore_malformed` are handled.
    pub ignored: Ignored,
}

/// Where filters are applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pushdown {
    /// The server applies them as far as it can. DataFusion repeats every filter that the server does not apply
    /// exactly.
    #[default]
    On,
    /// Only DataFusion applies them. A `match` is still sent, because only the server can evaluate it.
    Off,
}

/// Whether the server computes `GROUP BY`, `count`, `sum`, `min`, `max` and `avg`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregate {
    /// The server computes them for every slice in which the result is exact and the groups are few. DataFusion computes
    /// them for the others.
    #[default]
    Auto,
    /// As [`Aggregate::Auto`], but many groups are fetched, too, and a slice that the server cannot aggregate is an
    /// error.
    Always,
    /// DataFusion computes them.
    Never,
}

/// How a scan handles values that are missing from doc values because the server dropped them: by
/// [`ignore_above`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/ignore-above.html) or
/// [`ignore_malformed`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/ignore-malformed.html).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ignored {
    /// The scan fails at the first document with such a value.
    #[default]
    Error,
    /// Such values are null.
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
    ("aggregate", &[]),
    ("unknown_types", &[]),
    ("ignored", &[]),
    ("sample", &[]),
    ("seed", &[]),
];

fn refuse(message: String) -> DataFusionError {
    DataFusionError::Configuration(message)
}

impl TableOptions {
    /// Parses and validates options, given by `CREATE EXTERNAL TABLE` or by a caller.
    ///
    /// `now` in a range of the query is replaced by the current time, so that all pages see the same bounds.
    ///
    /// # Errors
    ///
    /// Returns an error if an option is unknown, given twice or invalid. It also fails if both `slices` and
    /// `docs_per_slice` are given, or if the query has a `now` outside of a range.
    pub fn parse(given: &HashMap<String, String>) -> Result<Self> {
        let mut values: HashMap<&str, &str> = HashMap::new();
        for (key, value) in given {
            // SQL passes a key without a dot as `format.key`.
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
                "table options slices and docs_per_slice both set the number of slices: give only one".into(),
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
        let aggregate = match values.get("aggregate").copied() {
            None | Some("auto") => Aggregate::Auto,
            Some("always") => Aggregate::Always,
            Some("never") => Aggregate::Never,
            Some(other) => {
                return Err(refuse(format!(
                    "table option aggregate = \"{other}\" is none of auto, always, never"
                )));
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
            aggregate,
            unknown_types,
            ignored,
        })
    }
}

/// Draws a repeatable sample without replacement. A document's draw depends only on its sequence number and the
/// seed, so every read of the same documents draws the same sample.
fn sampled(query: Value, sample: Option<&str>, seed: Option<&str>) -> Result<Value> {
    let Some(text) = sample else {
        return match seed {
            Some(seed) => Err(refuse(format!("seed = {seed} has no effect without the option sample"))),
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

/// `true` stands for `_id` and `_index`, which cost nothing to read.
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

/// Parses an option that every read has; returns its default if it is not given.
fn parsed<T: FromStr<Err = OptionError> + Default>(text: Option<&str>) -> Result<T> {
    let value = text.map(T::from_str).transpose().map_err(|e| refuse(format!("table option {e}")))?;
    Ok(value.unwrap_or_default())
}
