//! The time to decode one page, in the form in which servers print it.
//!
//! Owns: the pages that are measured. Must not know: how they are decoded.
//!
//! `cargo bench -p elastic-arrow` prints the time of a page of 10,000 rows, and the rows per second.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use elastic_arrow::{IndexMapping, PageDecoder, SchemaOptions, plan_columns};
use serde_json::{Map, Value, json};

const ROWS: u64 = 10_000;

/// Returns a decoder of fields with these types, named `f0`, `f1` and so on.
fn decoder(types: &[&str], read_from_source: bool) -> PageDecoder {
    let mut properties = Map::new();
    for (i, field_type) in types.iter().enumerate() {
        properties.insert(format!("f{i}"), json!({ "type": field_type, "doc_values": !read_from_source }));
    }
    let mapping =
        IndexMapping { index: "flows".to_owned(), mapping: json!({ "properties": properties }).into() };
    let columns = plan_columns(&[mapping], &SchemaOptions::default()).expect("the mapping is valid");
    PageDecoder::new(columns).expect("the columns can be read")
}

/// Returns a value of this type, as doc values contain it.
fn value(field_type: &str, row: u64, place: u64) -> Value {
    // A permutation of the rows, so that neighbours differ.
    let number = (row + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(place as u32 * 7);
    match field_type {
        "keyword" | "ip" => {
            let [a, b, c, _, _, _, _, _] = number.to_be_bytes();
            json!(format!("10.{a}.{b}.{c}"))
        }
        "integer" => json!(number % 65_536),
        "long" => json!(number % 1_000_000_000),
        "double" => json!((number % 1_000_000) as f64 / 1_000.0),
        "date" => json!((1_700_000_000_000 + number % 86_400_000).to_string()),
        "boolean" => json!(number.is_multiple_of(2)),
        _ => Value::Null,
    }
}

/// Returns a page of doc values, or of `_source`.
fn page(types: &[&str], read_from_source: bool) -> Vec<u8> {
    // Servers print fields in the order of a hash table: the same in each hit, but not the requested one.
    let places: Vec<usize> = (0..types.len()).map(|i| (i * 7 + 3) % types.len()).collect();
    let hits = (0..ROWS).map(|row| {
        let mut fields = Map::new();
        for &i in &places {
            let value = value(types[i], row, i as u64);
            fields.insert(format!("f{i}"), if read_from_source { value } else { json!([value]) });
        }
        let part = if read_from_source { "_source" } else { "fields" };
        json!({ part: fields, "sort": [(7 << 32) + row] })
    });
    let page = json!({
        "pit_id": "46ToAwMDaWR5BXV1aWQy".repeat(10), "timed_out": false,
        "_shards": { "total": 3, "successful": 3, "skipped": 0, "failed": 0 },
        "hits": {
            "total": { "value": 5_000_000, "relation": "eq" },
            "hits": hits.collect::<Vec<_>>(),
        },
    });
    page.to_string().into_bytes()
}

fn decode(c: &mut Criterion) {
    let two = ["keyword"; 2];
    let twenty: Vec<&str> =
        ["keyword", "ip", "long", "date", "integer", "keyword", "double", "boolean", "long", "keyword"]
            .into_iter()
            .cycle()
            .take(20)
            .collect();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(ROWS)).sample_size(30);
    for (name, types, read_from_source) in [
        ("2 keywords", &two[..], false),
        ("20 columns", &twenty[..], false),
        ("20 columns of _source", &twenty[..], true),
    ] {
        let decoder = decoder(types, read_from_source);
        let body = page(types, read_from_source);
        group.bench_function(name, |b| {
            b.iter(|| decoder.decode(black_box(&body)).expect("the page is valid"))
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
