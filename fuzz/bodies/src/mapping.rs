//! Mappings of one or several indices into columns.

use arbitrary::{Result, Unstructured};
use elastic_arrow::{
    Column, Error, IndexMapping, MetaField, PageDecoder, ReadFrom, SchemaOptions, UnknownTypes, plan_columns,
};
use serde_json::{Map, Value, json};

use crate::json::{key, one_of, value};

const NAMES: &[&str] = &["a", "b", "c", "a.b", "a.b.c", "", ".", "\u{e9}"];
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
    "passthrough",
    "token_count",
    "alias",
    "geo_shape",
    "",
];
const SETTINGS: &[&str] = &[
    "doc_values",
    "index",
    "enabled",
    "normalizer",
    "ignore_above",
    "null_value",
    "format",
    "copy_to",
    "path",
    "fields",
    "properties",
    "type",
];
const WORDS: &[&str] = &[
    "properties",
    "type",
    "fields",
    "runtime",
    "composite",
    "_source",
    "enabled",
    "includes",
    "excludes",
    "mode",
    "disabled",
    "copy_to",
    "path",
    "alias",
    "keyword",
    "text",
    "date",
    "long",
    "a",
    "b",
    "a.*",
    "*",
    "*.b",
    "a**b",
    "epoch_millis",
    "strict_date||epoch_millis",
    "true",
    "false",
];

/// JSON as a mapping, and mappings made of the parts that are read.
pub fn mapping(data: &[u8]) {
    if let Ok(mapping) = serde_json::from_slice::<Value>(data) {
        check(&[index("flows-1", mapping)], &[]);
    }
    let mut u = Unstructured::new(data);
    if let Ok((mappings, arrays)) = make(&mut u) {
        check(&mappings, &arrays);
    }
}

/// Columns that the mapping of `properties` gives, made by choices.
pub fn some_columns(u: &mut Unstructured<'_>, metadata: Vec<MetaField>) -> Result<Vec<Column>> {
    let mapping = json!({ "properties": properties(u, 3)? });
    let arrays = [one_of(u, NAMES)?.to_owned(), one_of(u, NAMES)?.to_owned()].into();
    let options =
        SchemaOptions { arrays, metadata, unknown_types: UnknownTypes::JsonText, ..SchemaOptions::default() };
    Ok(plan_columns(&[index("flows-1", mapping)], &options).unwrap_or_default())
}

fn index(name: &str, mapping: Value) -> IndexMapping {
    IndexMapping { index: name.to_owned(), mapping: mapping.into() }
}

fn check(mappings: &[IndexMapping], arrays: &[String]) {
    let options = |unknown_types, metadata| SchemaOptions {
        arrays: arrays.iter().cloned().collect(),
        metadata,
        unknown_types,
        ..SchemaOptions::default()
    };
    let strict = plan_columns(mappings, &options(UnknownTypes::Error, vec![]));
    let lenient = plan_columns(mappings, &options(UnknownTypes::JsonText, vec![]));
    if let Err(error) = &strict {
        assert!(!error.to_string().is_empty() && !error.is_retryable(), "{error}");
    }
    match (&strict, &lenient) {
        (Ok(strict), Ok(lenient)) => assert_eq!(strict, lenient, "no unknown type, and yet a difference"),
        (Ok(_), Err(error)) => panic!("refused only when unknown types are allowed: {error}"),
        // Of two faults the one found first is told.
        (Err(_), _) => {}
    }
    let reversed: Vec<IndexMapping> = mappings.iter().rev().cloned().collect();
    let reversed = plan_columns(&reversed, &options(UnknownTypes::JsonText, vec![]));
    match (&lenient, &reversed) {
        (Ok(columns), Ok(reversed)) => {
            assert_eq!(without_order(columns), without_order(reversed), "the order of indices counts");
        }
        (Err(_), Err(_)) => {}
        _ => panic!("the order of indices decides whether they fit: {lenient:?} {reversed:?}"),
    }
    check_sharing(mappings, &options(UnknownTypes::Error, vec![]));
    let metadata = vec![MetaField::Id, MetaField::Index, MetaField::Source];
    for columns in
        [lenient, plan_columns(mappings, &options(UnknownTypes::JsonText, metadata))].into_iter().flatten()
    {
        check_columns(columns);
    }
}

/// Indices that share a mapping give the same columns and errors as if each had its own.
fn check_sharing(mappings: &[IndexMapping], options: &SchemaOptions) {
    let twice = mappings.iter().chain(mappings).enumerate();
    let shared: Vec<IndexMapping> = twice
        .map(|(number, mapping)| IndexMapping { index: format!("flows-{number}"), ..mapping.clone() })
        .collect();
    let own: Vec<IndexMapping> =
        shared.iter().map(|mapping| index(&mapping.index, Value::clone(&mapping.mapping))).collect();
    let plan = |mappings: &[IndexMapping]| plan_columns(mappings, options).map_err(|e| e.to_string());
    assert_eq!(plan(&shared), plan(&own), "sharing counts");
}

fn check_columns(columns: Vec<Column>) {
    let readable: Vec<Column> = columns.into_iter().filter(|column| !is_unavailable(column)).collect();
    let count = readable.len();
    let decoder = match PageDecoder::new(readable) {
        Ok(decoder) => decoder,
        // A field may have a name that is also a metadata column's.
        Err(Error::DuplicateColumn { column }) if column.starts_with('_') => return,
        Err(Error::Unavailable { reason, .. }) if reason.ends_with("has more than 100 levels") => return,
        Err(error) => panic!("columns that can be read cannot be decoded: {error}"),
    };
    let page = decoder.decode(br#"{"hits":{"hits":[]}}"#).expect("a page without documents fits any columns");
    assert_eq!((page.batch.num_columns(), page.batch.num_rows()), (count, 0));
}

pub(crate) fn is_unavailable(column: &Column) -> bool {
    matches!(column.read_from, ReadFrom::Unavailable { .. })
}

/// What must not depend on the order of indices: all but the order of columns, the words of a reason, and which of a
/// field's names is its path, unless the path is read.
fn without_order(columns: &[Column]) -> Vec<Column> {
    let mut columns = columns.to_vec();
    for column in &mut columns {
        if let ReadFrom::Unavailable { reason } = &mut column.read_from {
            reason.clear();
        }
        if !matches!(column.read_from, ReadFrom::Source) {
            column.targets.insert(std::mem::take(&mut column.source_path));
            column.targets.remove(&column.name);
        }
    }
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    columns
}

fn make(u: &mut Unstructured<'_>) -> Result<(Vec<IndexMapping>, Vec<String>)> {
    let mut mappings = Vec::new();
    for number in 0..u.int_in_range(1..=3)? {
        let mut root = Map::new();
        root.insert("properties".to_owned(), properties(u, 4)?);
        if u.ratio(1, 4)? {
            root.insert("runtime".to_owned(), properties(u, 2)?);
        }
        if u.ratio(1, 4)? {
            root.insert("_source".to_owned(), value(u, WORDS, 2)?);
        }
        let root = if u.ratio(1, 8)? { json!({ "doc": root }) } else { root.into() };
        mappings.push(index(&format!("flows-{number}"), root));
    }
    Ok((mappings, vec![key(u, NAMES)?]))
}

fn properties(u: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    if u.ratio(1, 30)? {
        return value(u, WORDS, 2);
    }
    let mut properties = Map::new();
    for _ in 0..u.int_in_range(0..=4)? {
        properties.insert(key(u, NAMES)?, definition(u, depth)?);
    }
    Ok(properties.into())
}

fn definition(u: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    let mut definition = Map::new();
    if depth > 0 && u.ratio(1, 4)? {
        definition.insert("properties".to_owned(), properties(u, depth - 1)?);
    } else {
        definition.insert("type".to_owned(), json!(one_of(u, TYPES)?));
    }
    for _ in 0..u.int_in_range(0..=2)? {
        let setting = one_of(u, SETTINGS)?;
        let value = match setting {
            "fields" | "properties" if depth > 0 => properties(u, depth - 1)?,
            "path" | "copy_to" => json!(one_of(u, NAMES)?),
            "doc_values" | "index" | "enabled" => json!(u.arbitrary::<bool>()?),
            _ => value(u, WORDS, 2)?,
        };
        definition.insert(setting.to_owned(), value);
    }
    Ok(definition.into())
}
