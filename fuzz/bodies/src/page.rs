//! Search answers into batches.

use std::sync::LazyLock;

use arbitrary::{Result, Unstructured};
use arrow::array::{Array, RecordBatch};
use elastic_arrow::{
    Column, Error, FieldType, IndexMapping, MetaField, PageDecoder, SchemaOptions, plan_columns,
};
use serde_json::{Map, Value, json};

use crate::json::{key, one_of, scalar, value};
use crate::mapping::{is_unavailable, some_columns};

const NAMES: &[&str] = &["a", "b", "c", "a.b", "a.b.c", "b.c", "", ".", "\u{e9}"];

/// One column of each type from doc values (`d…`) and from `_source` (`s…`), some of them lists.
static WIDE: LazyLock<PageDecoder> = LazyLock::new(|| {
    let types = [
        "keyword",
        "ip",
        "byte",
        "short",
        "integer",
        "long",
        "unsigned_long",
        "half_float",
        "double",
        "boolean",
        "date",
        "date_nanos",
        "text",
        "geo_point",
        "flattened",
    ];
    let mut properties = Map::new();
    for name in types {
        properties.insert(format!("d.{name}"), json!({ "type": name }));
        properties.insert(format!("s.{name}"), json!({ "type": name, "doc_values": false }));
        properties.insert(format!("l.{name}"), json!({ "type": name, "doc_values": false }));
    }
    let arrays = types.iter().map(|name| format!("l.{name}")).collect();
    let metadata = vec![MetaField::Id, MetaField::Index, MetaField::Source];
    let options = SchemaOptions { arrays, metadata, ..SchemaOptions::default() };
    let mapping =
        IndexMapping { index: "flows".to_owned(), mapping: json!({ "properties": properties }).into() };
    let columns = plan_columns(&[mapping], &options).expect("all types are known");
    PageDecoder::new(columns).expect("all columns can be read")
});

/// Bytes as an answer with columns of all types, and a whole answer with columns made for it.
pub fn page(data: &[u8]) {
    check_bytes(&WIDE, data);
    let mut u = Unstructured::new(data);
    if let Ok((decoder, hits)) = make(&mut u) {
        check_whole(&decoder, &hits, &mut u);
    }
}

fn check_bytes(decoder: &PageDecoder, body: &[u8]) -> Option<RecordBatch> {
    match decoder.decode(body) {
        Ok(page) => {
            assert_eq!(page.batch.num_rows(), page.envelope.hits);
            assert_eq!(page.batch.schema(), decoder.schema());
            for column in page.batch.columns() {
                column.to_data().validate_full().expect("arrays are sound");
            }
            Some(page.batch)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(!matches!(error, Error::Arrow(_) | Error::DuplicateColumn { .. }), "{error}");
            None
        }
    }
}

fn check_whole(decoder: &PageDecoder, hits: &[Value], u: &mut Unstructured<'_>) {
    let body = answer(hits);
    let together = check_bytes(decoder, &body);
    if let Err(error) = decoder.decode(&body) {
        assert!(!error.is_retryable(), "a whole answer is called broken: {error}\n{}", hits_text(hits));
    }
    let mut alone = Vec::new();
    for hit in hits {
        alone.extend(check_bytes(decoder, &answer(std::slice::from_ref(hit))));
    }
    // A row is what its own document says, whatever stands beside it and in whatever order.
    match &together {
        Some(batch) => {
            assert_eq!(batch.num_rows(), hits.len(), "{}", hits_text(hits));
            for (row, alone) in alone.iter().enumerate() {
                assert_eq!(&batch.slice(row, 1), alone, "row {row} of {}", hits_text(hits));
            }
            let reversed: Vec<Value> = hits.iter().map(reverse_keys).collect();
            if let Some(reversed) = check_bytes(decoder, &answer(&reversed))
                && !decoder.columns().iter().any(|column| column.field_type.is_json() || column.array)
            {
                assert_eq!(*batch, reversed, "the order of keys counts: {}", hits_text(hits));
            }
            let (by_sort, moved) = by_sort(decoder, hits);
            let sorted = check_bytes(&by_sort, &answer(&moved));
            assert_eq!(sorted.as_ref(), Some(batch), "by sort values: {}", hits_text(&moved));
        }
        None => assert!(alone.len() < hits.len(), "refused only together: {}", hits_text(hits)),
    }
    let cut = u.choose_index(body.len()).unwrap_or_default();
    assert!(
        check_bytes(decoder, &body[..cut]).is_none(),
        "cut off at {cut}, and yet a page: {}",
        hits_text(hits)
    );
}

/// Returns a decoder by sort values, and the hits with all texts there that may be.
fn by_sort(decoder: &PageDecoder, hits: &[Value]) -> (PageDecoder, Vec<Value>) {
    let value = |hit: &Value, name: &str| match &hit["fields"][name] {
        Value::Null => Some(Value::Null),
        Value::Array(values) => match values.as_slice() {
            [value] if value.is_string() => Some(value.clone()),
            _ => None,
        },
        _ => None,
    };
    let is_single = |name: &str| hits.iter().all(|hit| value(hit, name).is_some());
    let columns = decoder.columns();
    let sorted: Vec<&str> = columns
        .iter()
        .filter(|column| column.is_sort_value() && is_single(&column.name))
        .map(|column| column.name.as_str())
        .collect();
    let moved = hits.iter().map(|hit| {
        let mut moved = hit.clone();
        for name in &sorted {
            moved["sort"].as_array_mut().expect("each hit has sort values").extend(value(hit, name));
            moved["fields"].as_object_mut().expect("each hit has fields").remove(*name);
        }
        moved
    });
    let names = sorted.iter().map(|name| (*name).to_owned()).collect();
    let decoder = PageDecoder::by_sort(columns.to_vec(), &names).expect("the columns can be read");
    (decoder, moved.collect())
}

fn answer(hits: &[Value]) -> Vec<u8> {
    let page = json!({
        "_shards": { "total": 1, "failed": 0 }, "timed_out": false,
        "hits": { "total": { "value": hits.len(), "relation": "eq" }, "hits": hits },
    });
    page.to_string().into_bytes()
}

fn hits_text(hits: &[Value]) -> String {
    json!(hits).to_string()
}

fn reverse_keys(value: &Value) -> Value {
    match value {
        Value::Object(object) => object
            .iter()
            .rev()
            .map(|(key, value)| (key.clone(), reverse_keys(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(reverse_keys).collect(),
        other => other.clone(),
    }
}

fn make(u: &mut Unstructured<'_>) -> Result<(PageDecoder, Vec<Value>)> {
    let metadata = match u.int_in_range(0..=2)? {
        0 => vec![MetaField::Id, MetaField::Index],
        1 => vec![MetaField::Source],
        _ => vec![],
    };
    let mut columns = some_columns(u, metadata)?;
    columns.retain(|column| !is_unavailable(column));
    let decoder = PageDecoder::new(columns).map_err(|_| arbitrary::Error::IncorrectFormat)?;
    let mut hits = Vec::new();
    for _ in 0..u.int_in_range(0..=4)? {
        hits.push(hit(u, decoder.columns())?);
    }
    Ok((decoder, hits))
}

fn hit(u: &mut Unstructured<'_>, columns: &[Column]) -> Result<Value> {
    let mut fields = Map::new();
    let mut source = Map::new();
    for column in columns {
        if u.ratio(1, 4)? {
            continue;
        }
        if column.doc_value_field().is_some() {
            let mut values = vec![fitting(u, &column.field_type)?];
            if column.array || u.ratio(1, 20)? {
                values.push(fitting(u, &column.field_type)?);
            }
            fields.insert(column.name.clone(), values.into());
        } else if let Some(path) = column.source_field() {
            source.insert(path.to_owned(), fitting(u, &column.field_type)?);
        }
    }
    if u.ratio(1, 3)? {
        fields.insert(key(u, NAMES)?, json!([scalar(u)?]));
        source.insert(key(u, NAMES)?, value(u, NAMES, 4)?);
    }
    let mut hit = Map::new();
    if u.ratio(9, 10)? {
        hit.insert("_index".to_owned(), json!("flows-1"));
        hit.insert("_id".to_owned(), json!(one_of(u, &["x7", "\u{e9}", "\"\\"])?));
    }
    hit.insert("fields".to_owned(), fields.into());
    hit.insert("_source".to_owned(), source.into());
    hit.insert("sort".to_owned(), json!([scalar(u)?]));
    Ok(hit.into())
}

/// Mostly a value that the type has.
fn fitting(u: &mut Unstructured<'_>, field_type: &FieldType) -> Result<Value> {
    if u.ratio(1, 10)? {
        return value(u, NAMES, 3);
    }
    Ok(match field_type {
        FieldType::Byte => json!(u.arbitrary::<i8>()?),
        FieldType::Short => json!(u.arbitrary::<i16>()?),
        FieldType::Integer => json!(u.arbitrary::<i32>()?),
        FieldType::Long => json!(u.arbitrary::<i64>()?),
        FieldType::UnsignedLong => json!(u.arbitrary::<u64>()?),
        FieldType::HalfFloat | FieldType::Float => json!(u.arbitrary::<f32>()?),
        FieldType::Double | FieldType::ScaledFloat => json!(u.arbitrary::<f64>()?),
        FieldType::Boolean => json!(u.arbitrary::<bool>()?),
        FieldType::Date => json!(u.arbitrary::<i64>()?.to_string()),
        FieldType::DateNanos => {
            json!(one_of(u, &["2024-02-29T12:30:00.123456789Z", "1969-12-31", "1700000000000.5"])?)
        }
        FieldType::GeoPoint => json!([u.arbitrary::<i8>()?, 1.5]),
        FieldType::Ip => json!(one_of(u, &["10.0.0.1", "::1", "::ffff:10.0.0.1"])?),
        FieldType::Keyword
        | FieldType::ConstantKeyword
        | FieldType::Wildcard
        | FieldType::Text
        | FieldType::Binary
        | FieldType::Version
        | FieldType::Metadata(_) => json!(u.arbitrary::<&str>()?),
        FieldType::Flattened | FieldType::Nested | FieldType::Object | FieldType::Unknown(_) => {
            value(u, NAMES, 3)?
        }
    })
}
