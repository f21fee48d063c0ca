//! Decoding pages whose columns are filled by sort values.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use serde_json::json;

use super::tests::{decoder, decoder_with, page, texts};
use super::*;
use crate::field::MetaField;
use crate::mapping::{IndexMapping, SchemaOptions, plan_columns};

fn by_sort(properties: Value, sorted: &[&str]) -> PageDecoder {
    let columns = decoder(properties).columns().to_vec();
    PageDecoder::by_sort(columns, &sorted.iter().map(|name| (*name).to_owned()).collect()).unwrap()
}

#[test]
fn sort_values_fill_columns_after_the_key_of_the_order() {
    let types = json!({ "a": {"type": "keyword"}, "b": {"type": "long"}, "c": {"type": "ip"} });
    let decoder = by_sort(types, &["a", "c"]);
    let page = decoder
        .decode(&page(json!([
            { "fields": {"b": [7]}, "sort": [4, "x\"]\u{e9}", "10.0.0.1"] },
            { "sort": [9_007_199_254_740_993_u64, null, "::1"], "fields": {"a": ["no column of this part"]} },
            { "sort": [5, "y", null] },
        ])))
        .unwrap();
    assert_eq!(texts(&page.batch, 0), [Some("x\"]\u{e9}"), None, Some("y")]);
    assert_eq!(texts(&page.batch, 2), [Some("10.0.0.1"), Some("::1"), None]);
    assert_eq!(
        page.batch.column(1).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(),
        [Some(7), None, None]
    );
    assert_eq!(page.envelope.last_sort, Some(vec![json!(5)]));
    assert_eq!(page.envelope.hits, 3);
}

#[test]
fn a_hit_without_each_sort_value_is_refused() {
    let decoder = by_sort(json!({ "a": {"type": "keyword"}, "c": {"type": "ip"} }), &["a", "c"]);
    for hit in [
        json!({ "sort": [] }),
        json!({ "sort": [1] }),
        json!({ "sort": [1, "x"] }),
        json!({ "sort": [1, "x", "10.0.0.1", null] }),
        json!({ "sort": null }),
        json!({ "sort": "x" }),
        json!({ "fields": {"a": ["x"], "c": ["10.0.0.1"]} }),
        json!({}),
        json!({ "sort": [1, 7, "10.0.0.1"] }),
        json!({ "sort": [1, ["x", "y"], "10.0.0.1"] }),
    ] {
        decoder.decode(&page(json!([{ "sort": [0, "x", "10.0.0.1"] }, hit]))).unwrap_err();
    }
}

#[test]
fn only_texts_with_one_value_are_sort_values() {
    let types = json!({
        "k": {"type": "keyword"}, "ip": {"type": "ip"}, "l": {"type": "long"}, "d": {"type": "date"},
        "w": {"type": "wildcard"}, "v": {"type": "version"}, "t": {"type": "text"},
        "list": {"type": "keyword"}, "s": {"type": "keyword", "doc_values": false},
    });
    let decoder = decoder_with(types, &["list"], &[MetaField::Index]);
    let names: Vec<_> =
        decoder.columns().iter().filter(|c| c.is_sort_value()).map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["k", "ip"]);
    let index = |index: &str, kind: &str| IndexMapping {
        index: index.to_owned(),
        mapping: json!({"properties": { "a": {"type": kind} }}).into(),
    };
    if let Ok(mixed) = plan_columns(&[index("x", "keyword"), index("y", "ip")], &SchemaOptions::default()) {
        assert!(!mixed[0].is_sort_value());
    }
}
