//! What nearly might have been sent, made by choices.

use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use datafusion::arrow::array::{ArrayRef, Int64Array, LargeStringArray, StringArray, StringViewArray};
use datafusion_elasticsearch::{ScanSpec, wire};
use elastic_arrow::{Column, MetaField};
use fuzz_bodies::json::{one_of, scalar, value};
use fuzz_bodies::some_columns;
use serde_json::{Map, Value, json};

use crate::scan::{CONNECTION, Slices};
use crate::wire::{Body, encode};

const NAMES: &[&str] = &["a", "b", "a.b", "", ".", "\u{e9}", "_id", "_source"];
const WORDS: &[&str] = &["match_all", "bool", "filter", "term", "a", "b", "doc_values", "source", "id"];
const TYPES: &[&str] = &[
    "keyword",
    "constant_keyword",
    "wildcard",
    "text",
    "ip",
    "byte",
    "short",
    "integer",
    "long",
    "unsigned_long",
    "half_float",
    "float",
    "double",
    "scaled_float",
    "boolean",
    "date",
    "date_nanos",
    "binary",
    "version",
    "geo_point",
    "flattened",
    "nested",
    "object",
];

pub(crate) fn scan(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut spec = travelling(u)?;
    spec.insert("limit".into(), one_or_none(u)?);
    let ignored = if u.arbitrary()? { Value::Null } else { value(u, WORDS, 3)? };
    spec.insert("ignored".into(), ignored);
    let mut order = Vec::new();
    for _ in 0..u.int_in_range(0..=2)? {
        order.push(json!({
            "field": one_of(u, NAMES)?,
            "descending": u.arbitrary::<bool>()?,
            "missing_first": u.arbitrary::<bool>()?,
            "unmapped_type": one_of(u, TYPES)?,
        }));
    }
    spec.insert("order".into(), order.into());
    spec.insert("pushdown".into(), json!(one_of(u, &["on", "off"])?));
    let format = format(u)?;
    if format.has_aggregates(u)? {
        spec.insert("aggregate".into(), aggregates(u)?);
    }
    spec.insert("version".into(), json!(format.number()));
    let text = text(u, spec)?;
    Ok(encode(if u.ratio(1, 30)? { Body::Table(text) } else { Body::Scan(text) }))
}

/// Mostly a pushed aggregate, which has no content.
pub(crate) fn aggregate(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let text = if u.ratio(1, 8)? { value(u, WORDS, 2)?.to_string() } else { String::new() };
    Ok(encode(Body::Aggregate(text)))
}

pub(crate) fn table(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut spec = travelling(u)?;
    spec.insert("slices".into(), one_or_none(u)?);
    spec.insert("read".into(), json!(one_of(u, &["auto", "pit", "scroll", "other"])?));
    spec.insert("pushdown".into(), json!(one_of(u, &["on", "on", "off"])?));
    spec.insert("ignored".into(), json!(one_of(u, &["error", "null"])?));
    let format = format(u)?;
    if format.has_aggregates(u)? {
        let mut single = Vec::new();
        for _ in 0..u.int_in_range(0..=2)? {
            single.push(one_of(u, NAMES)?);
        }
        spec.insert("aggregate".into(), aggregates(u)?);
        spec.insert("single".into(), json!(single));
        spec.insert("ignored_checked".into(), json!(u.arbitrary::<bool>()?));
    }
    let mut slices = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        slices.push(slice(u, format)?);
    }
    let snapshot = match format {
        Format::First => slices.into(),
        Format::Second | Format::Third => {
            json!({ "contexts": ["46ToAwMDaWR5BXV1aWQy", "p"], "slices": slices })
        }
    };
    spec.insert("snapshot".into(), if u.ratio(1, 4)? { Value::Null } else { snapshot });
    spec.insert("version".into(), json!(format.number()));
    let text = text(u, spec)?;
    Ok(encode(if u.ratio(1, 30)? { Body::Scan(text) } else { Body::Table(text) }))
}

/// Mostly one partition or several, of descriptors or nearly such.
pub(crate) fn slices(u: &mut Unstructured<'_>) -> Result<Slices> {
    let kind = u.int_in_range(0..=12)?;
    let format = format(u)?;
    let mut columns: Vec<ArrayRef> = Vec::new();
    for _ in 0..u.int_in_range(1..=3)? {
        let mut texts = Vec::new();
        for _ in 0..u.int_in_range(0..=3)? {
            let text = if u.ratio(1, 8)? { value(u, WORDS, 2)? } else { slice(u, format)? }.to_string();
            texts.push(if u.ratio(1, 12)? { None } else { Some(text) });
        }
        columns.push(match kind {
            0 => Arc::new(LargeStringArray::from(texts)),
            1 => Arc::new(StringViewArray::from_iter(texts)),
            2 => Arc::new(Int64Array::from(vec![1; texts.len()])),
            _ => Arc::new(StringArray::from(texts)),
        });
    }
    let slices = match (kind, format) {
        (3, _) => Slices::without_columns(),
        (_, Format::First) => Slices::try_new(columns),
        (_, Format::Second | Format::Third) => {
            let numbers = if u.ratio(1, 4)? { [1, 1] } else { [0, 1] };
            Slices::with_contexts(columns, &numbers.map(|n| json!({ "number": n, "id": "p" }).to_string()))
        }
    };
    Ok(slices.expect("columns of one type are a table"))
}

#[derive(Clone, Copy)]
enum Format {
    First,
    Second,
    Third,
}

impl Format {
    /// None where it is not sent.
    fn number(self) -> u32 {
        match self {
            Self::First => 1,
            Self::Second => 2,
            Self::Third => 3,
        }
    }

    /// Whether the fields of format 3 are sent: in format 3, and now and then in another.
    fn has_aggregates(self, u: &mut Unstructured<'_>) -> Result<bool> {
        match self {
            Self::First | Self::Second => u.ratio(1, 4),
            Self::Third => Ok(true),
        }
    }
}

fn format(u: &mut Unstructured<'_>) -> Result<Format> {
    u.choose(&[Format::First, Format::Second, Format::Third]).copied()
}

fn aggregates(u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(json!(one_of(u, &["auto", "auto", "always", "never", "other"])?))
}

/// One of a slice, and one of none.
pub(crate) fn two_partitions() -> Slices {
    let slice =
        json!({ "ordinal": 0, "of": 1, "index": "flows", "source": "Scroll", "cut": null, "filter": null });
    let texts = [slice.to_string(), "{}".to_owned()];
    let columns = texts.map(|text| Arc::new(StringArray::from(vec![text])) as ArrayRef);
    Slices::try_new(columns.to_vec()).expect("columns of one type are a table")
}

/// What both have.
fn travelling(u: &mut Unstructured<'_>) -> Result<Map<String, Value>> {
    let mut spec = Map::new();
    spec.insert("connection".into(), json!(one_of(u, &[CONNECTION, "", "\u{e9}"])?));
    spec.insert("index".into(), json!(one_of(u, &["flows", "flows-*,b", "\"\\\n"])?));
    spec.insert("columns".into(), columns(u)?);
    let query = if u.arbitrary()? { json!({ "match_all": {} }) } else { value(u, WORDS, 4)? };
    spec.insert("query".into(), query);
    let page_size = if u.ratio(1, 20)? { u.arbitrary::<u64>()? } else { u.int_in_range(1..=10_000)? };
    spec.insert("page_size".into(), json!(page_size));
    let keep_alive =
        if u.ratio(1, 20)? { u.arbitrary::<u64>()? } else { u.int_in_range(1_000..=86_400_000)? };
    spec.insert("keep_alive_ms".into(), json!(keep_alive));
    Ok(spec)
}

fn one_or_none(u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(if u.arbitrary()? { Value::Null } else { json!(u.int_in_range(1..=u32::MAX)?) })
}

/// Now and then something is not there, is of another shape, or is not known.
fn text(u: &mut Unstructured<'_>, mut spec: Map<String, Value>) -> Result<String> {
    let names: Vec<String> = spec.keys().cloned().collect();
    if u.ratio(1, 10)? {
        spec.shift_remove(u.choose(&names)?);
    }
    if u.ratio(1, 10)? {
        spec.insert(u.choose(&names)?.clone(), value(u, WORDS, 2)?);
    }
    if u.ratio(1, 10)? {
        spec.insert("of_a_later_version".into(), value(u, WORDS, 2)?);
    }
    Ok(Value::from(spec).to_string())
}

/// As a mapping gives them, or of any traits.
fn columns(u: &mut Unstructured<'_>) -> Result<Value> {
    if u.arbitrary()? {
        let columns: Vec<Column> = some_columns(u, vec![MetaField::Id, MetaField::Index])?;
        return Ok(sent(columns));
    }
    let mut columns = Vec::new();
    for _ in 0..u.int_in_range(0..=4)? {
        columns.push(column(u)?);
    }
    Ok(columns.into())
}

/// Columns as a scan of them has them.
fn sent(columns: Vec<Column>) -> Value {
    let scan = json!({
        "connection": CONNECTION, "index": "flows", "columns": [], "query": {}, "page_size": 10,
        "keep_alive_ms": 60_000,
    });
    let scan = wire::decode_scan(&scan.to_string()).expect("a scan");
    let scan = ScanSpec { columns, ..scan };
    let text = wire::encode_scan(&scan).expect("a scan can be sent");
    assert_eq!(wire::decode_scan(&text).expect("a scan that was sent"), scan);
    let mut scan: Value = serde_json::from_str(&text).expect("JSON");
    scan["columns"].take()
}

fn column(u: &mut Unstructured<'_>) -> Result<Value> {
    let field_type = match u.int_in_range(0..=9)? {
        0 => json!({ "metadata": one_of(u, &["id", "index", "source"])? }),
        1 => json!({ "unknown": one_of(u, NAMES)? }),
        _ => json!(one_of(u, TYPES)?),
    };
    let read_from = match u.int_in_range(0..=9)? {
        0 => json!("metadata"),
        1 => json!({ "unavailable": { "reason": "text" } }),
        2..=5 => json!("source"),
        _ => json!({ "doc_values": { "format": if u.arbitrary()? { Some("epoch_millis") } else { None } } }),
    };
    Ok(json!({
        "name": one_of(u, NAMES)?,
        "field_type": field_type,
        "read_from": read_from,
        "array": u.ratio(1, 4)?,
        "source_path": one_of(u, NAMES)?,
        "indexed": u.arbitrary::<bool>()?,
        "doc_values": u.arbitrary::<bool>()?,
        "keyword_subfield": match u.arbitrary()? {
            true => json!({ "name": one_of(u, NAMES)?, "ignore_above": u.arbitrary::<Option<u32>>()? }),
            false => Value::Null,
        },
        "normalizer": u.ratio(1, 4)?,
        "ignore_above": u.arbitrary::<Option<u32>>()?,
        "null_value": u.ratio(1, 4)?,
        "prints_any_date": u.arbitrary::<bool>()?,
        "computed": u.ratio(1, 4)?,
        "mixed": u.ratio(1, 4)?,
    }))
}

fn slice(u: &mut Unstructured<'_>, format: Format) -> Result<Value> {
    let number = |u: &mut Unstructured<'_>| u.choose(&[0, 1, 7, u32::MAX - 1, u32::MAX]).copied();
    let source = match (u.int_in_range(0..=5)?, format) {
        (0, _) => scalar(u)?,
        (1 | 2, Format::First) => json!("Scroll"),
        (1 | 2, Format::Second | Format::Third) => json!("scroll"),
        (_, Format::First) => {
            json!({ "Pit": { "id": "46ToAwMDaWR5BXV1aWQy", "sort": one_of(u, &["Doc", "ShardDoc"])? } })
        }
        (_, Format::Second | Format::Third) => json!({ "pit": {
            "context": u.int_in_range(0..=8)? / 4, "sort": one_of(u, &["doc", "shard_doc"])?,
        } }),
    };
    Ok(json!({
        "ordinal": number(u)?,
        "of": number(u)?,
        "index": one_of(u, &["flows", "\u{e9}", ""])?,
        "source": source,
        "cut": if u.arbitrary()? { Value::Null } else { json!({ "id": number(u)?, "max": number(u)? }) },
        "filter": if u.ratio(3, 4)? { Value::Null } else { value(u, WORDS, 2)? },
    }))
}
