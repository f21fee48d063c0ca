//! Decoding pages: values, rows, envelopes and errors.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMillisecondType,
    TimestampNanosecondType, UInt64Type,
};
use serde_json::json;

use super::*;
use crate::field::MetaField;
use crate::mapping::{IndexMapping, SchemaOptions, plan_columns};

pub(super) fn decoder_with(properties: Value, arrays: &[&str], metadata: &[MetaField]) -> PageDecoder {
    let mapping =
        IndexMapping { index: "flows".to_owned(), mapping: json!({"properties": properties}).into() };
    let options = SchemaOptions {
        arrays: arrays.iter().map(|name| (*name).to_owned()).collect(),
        metadata: metadata.to_vec(),
        ..SchemaOptions::default()
    };
    PageDecoder::new(plan_columns(&[mapping], &options).unwrap()).unwrap()
}

pub(super) fn decoder(properties: Value) -> PageDecoder {
    decoder_with(properties, &[], &[])
}

pub(super) fn page(hits: Value) -> Vec<u8> {
    let page = json!({
        "_shards": {"total": 1, "failed": 0}, "timed_out": false,
        "hits": {"total": {"value": 1, "relation": "eq"}, "hits": hits},
    });
    page.to_string().into_bytes()
}

fn fields(fields: Value) -> Value {
    json!([{"_index": "flows-1", "_id": "x7", "fields": fields}])
}

fn source(source: Value) -> Value {
    json!([{"_index": "flows-1", "_id": "x7", "_source": source}])
}

fn batch(decoder: &PageDecoder, hits: Value) -> RecordBatch {
    decoder.decode(&page(hits)).unwrap().batch
}

fn message(decoder: &PageDecoder, hits: Value) -> String {
    decoder.decode(&page(hits)).unwrap_err().to_string()
}

/// Returns each row of a text column.
pub(super) fn texts(batch: &RecordBatch, column: usize) -> Vec<Option<&str>> {
    batch.column(column).as_string::<i32>().iter().collect()
}

#[test]
fn every_doc_value_type_is_read_exactly() {
    let decoder = decoder(json!({
        "k": {"type": "keyword"}, "ip": {"type": "ip"}, "v": {"type": "version"},
        "b": {"type": "byte"}, "s": {"type": "short"}, "i": {"type": "integer"}, "l": {"type": "long"},
        "u": {"type": "unsigned_long"}, "f": {"type": "float"}, "d": {"type": "double"},
        "t": {"type": "boolean"}, "when": {"type": "date"}, "n": {"type": "date_nanos"},
    }));
    let batch = batch(
        &decoder,
        fields(json!({
            "k": ["a\"\u{e9}"], "ip": ["10.0.0.1"], "v": ["1.2.3"], "b": [-128], "s": [-32768], "i": [2147483647],
            "l": [-9223372036854775808_i64], "u": [18446744073709551615_u64], "f": [0.10000000149011612], "d": [1e300],
            "t": [true], "when": ["-1"], "n": ["2024-02-29T12:30:00.123456789Z"],
        })),
    );
    assert_eq!(texts(&batch, 0), [Some("a\"\u{e9}")]);
    assert_eq!(texts(&batch, 1), [Some("10.0.0.1")]);
    assert_eq!(texts(&batch, 2), [Some("1.2.3")]);
    assert_eq!(batch.column(3).as_primitive::<Int8Type>().value(0), i8::MIN);
    assert_eq!(batch.column(4).as_primitive::<Int16Type>().value(0), i16::MIN);
    assert_eq!(batch.column(5).as_primitive::<Int32Type>().value(0), i32::MAX);
    assert_eq!(batch.column(6).as_primitive::<Int64Type>().value(0), i64::MIN);
    assert_eq!(batch.column(7).as_primitive::<UInt64Type>().value(0), u64::MAX);
    assert_eq!(batch.column(8).as_primitive::<Float32Type>().value(0), 0.1);
    assert_eq!(batch.column(9).as_primitive::<Float64Type>().value(0), 1e300);
    assert!(batch.column(10).as_boolean().value(0));
    assert_eq!(batch.column(11).as_primitive::<TimestampMillisecondType>().value(0), -1);
    assert_eq!(
        batch.column(12).as_primitive::<TimestampNanosecondType>().value(0),
        1_709_209_800_123_456_789
    );
}

#[test]
fn absent_null_and_empty_are_null_in_every_type() {
    let types = [
        "keyword",
        "byte",
        "short",
        "integer",
        "long",
        "unsigned_long",
        "float",
        "double",
        "boolean",
        "date",
        "date_nanos",
        "text",
        "geo_point",
    ];
    for type_name in types {
        for arrays in [vec![], vec!["f"]] {
            let decoder = decoder_with(json!({"f": {"type": type_name}}), &arrays, &[]);
            let hits = json!([
                {}, {"fields": {}, "_source": {}}, {"fields": {"f": [null]}, "_source": {"f": null}},
                {"fields": {"f": null}, "_source": {"f": []}},
            ]);
            let batch = batch(&decoder, hits);
            assert_eq!((batch.num_rows(), batch.column(0).null_count()), (4, 4), "{type_name} {arrays:?}");
        }
    }
}

#[test]
fn arrays_are_lists() {
    let decoder = decoder_with(json!({"n": {"type": "long"}, "t": {"type": "text"}}), &["n", "t"], &[]);
    let batch = batch(
        &decoder,
        json!([
            {"fields": {"n": [1, null, 2]}, "_source": {"t": [["a"], "b", [["c"]]]}},
            {},
            {"fields": {"n": 3}, "_source": {"t": "d"}},
        ]),
    );
    let lists = batch.column(0).as_list::<i32>();
    assert!(lists.is_null(1));
    assert_eq!(lists.value(0).as_primitive::<Int64Type>().values(), &[1, 2]);
    assert_eq!(lists.value(2).as_primitive::<Int64Type>().values(), &[3]);
    let lists = batch.column(1).as_list::<i32>();
    let first = lists.value(0);
    assert_eq!(first.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(batch.schema(), decoder.schema());
}

#[test]
fn a_second_value_in_a_scalar_column_is_an_error_that_says_what_to_do() {
    let long = decoder(json!({"n": {"type": "long"}}));
    let expected = "document \"x7\" of index \"flows-1\": field \"n\" has more than one value, \
                    declare it: arrays = \"n\"";
    assert_eq!(message(&long, fields(json!({"n": [1, 2]}))), expected);
    // The message is the same for any order of keys.
    assert_eq!(
        message(&long, json!([{"fields": {"n": [1, 2]}, "_id": "x7", "_index": "flows-1"}])),
        expected
    );
    let unknown = message(&long, json!([{}, {"fields": {"n": [1, 2]}}]));
    assert!(unknown.starts_with("document at row 1 of the page (_id unknown) (index unknown)"), "{unknown}");

    let text = decoder(json!({"a": {"properties": {"t": {"type": "text"}}}}));
    for twice in [
        json!({"a": {"t": ["x", "y"]}}),
        json!({"a": [{"t": "x"}, {"t": "y"}]}),
        json!({"a.t": "x", "a": {"t": "y"}}),
    ] {
        assert!(message(&text, source(twice)).ends_with("declare it: arrays = \"a.t\""));
    }
}

#[test]
fn a_value_that_does_not_fit_is_named() {
    for (type_name, value, shown) in [
        ("byte", json!(128), "128: out of range"),
        ("long", json!(9223372036854775808_u64), "9223372036854775808: out of range"),
        ("unsigned_long", json!(-1), "-1: out of range"),
        ("long", json!(1.5), "1.5: not a whole number"),
        ("long", json!("5"), "\"5\": not a whole number"),
        ("float", json!(1e300), "out of range"),
        ("double", json!("x"), "\"x\": not a number"),
        ("boolean", json!("true"), "\"true\": not a boolean"),
        ("keyword", json!(1), "1: not a string"),
        ("keyword", json!({"a": 1}), "an object is not a value"),
        ("date", json!("1.5"), "\"1.5\": not whole milliseconds"),
        ("date", json!("2024-01-01"), "not whole milliseconds"),
        ("date_nanos", json!("9999-01-01T00:00:00Z"), "out of range"),
        ("date_nanos", json!(1.5), "not a date with nanoseconds"),
    ] {
        let decoder = decoder(json!({"f": {"type": type_name}}));
        let message = message(&decoder, fields(json!({"f": [value]})));
        let start =
            format!("document \"x7\" of index \"flows-1\": field \"f\" of type {type_name} cannot hold ");
        assert!(message.starts_with(&start) && message.ends_with(shown), "{message}");
    }
    let long = "é".repeat(1000);
    let decoder = decoder(json!({"f": {"type": "long"}}));
    assert!(message(&decoder, fields(json!({"f": [long]}))).chars().count() < 250);
}

#[test]
fn date_nanos_take_both_spellings() {
    let decoder = decoder(json!({"n": {"type": "date_nanos"}}));
    let hits: Vec<Value> =
        ["1700000000000.123456", "2023-11-14T22:13:20.000123456Z", "1700000000000", "-0.000001"]
            .into_iter()
            .map(|text| json!({"fields": {"n": [text]}}))
            .collect();
    let batch = batch(&decoder, json!(hits));
    let values = batch.column(0).as_primitive::<TimestampNanosecondType>().values();
    assert_eq!(
        values,
        &[1_700_000_000_000_123_456, 1_700_000_000_000_123_456, 1_700_000_000_000_000_000, -1]
    );
}

#[test]
fn source_is_walked_by_dotted_and_nested_keys() {
    let decoder = decoder(json!({"a": {"properties": {"b": {"properties": {"c": {"type": "text"}}}}}}));
    let ways = [
        json!({"a": {"b": {"c": "x"}}}),
        json!({"a.b.c": "x"}),
        json!({"a.b": {"c": "x"}}),
        json!({"a": {"b.c": "x"}}),
        json!({"a": [{"b": null}, {"b": {"c": ["x"]}}], "z": {"a": {"b": {"c": "no"}}}}),
    ];
    for way in ways {
        let batch = batch(&decoder, source(way));
        assert_eq!(texts(&batch, 0), [Some("x")]);
    }
    for none in
        [json!({}), json!({"a": 1}), json!({"a": null}), json!({"a": "x"}), json!({"": 1, "a.": 2, "..": 3})]
    {
        assert_eq!(texts(&batch(&decoder, source(none)), 0), [None]);
    }
}

#[test]
fn source_values_are_read_as_elasticsearch_coerces_them() {
    let column = |type_name: &str| decoder(json!({"f": {"type": type_name, "doc_values": false}}));
    let body = |raw: &str| {
        format!(r#"{{"hits":{{"hits":[{{"_id":"x7","_index":"flows-1","_source":{{"f":{raw}}}}}]}}}}"#)
            .into_bytes()
    };
    for (type_name, raw, expected) in [
        ("text", "110", "110"),
        ("text", "true", "true"),
        ("keyword", "\"a\\n\"", "a\n"),
        ("ip", "\"2001:DB8:0:0:0:0:0:1\"", "2001:db8::1"),
        ("ip", "\"::ffff:10.0.0.1\"", "10.0.0.1"),
        ("binary", "\"AAE=\"", "AAE="),
        ("geo_point", "[1.50, 2]", "[1.50, 2]"),
        ("flattened", "{\"a\": 12345678901234567890123}", "{\"a\": 12345678901234567890123}"),
    ] {
        let decoded = column(type_name).decode(&body(raw)).unwrap();
        assert_eq!(texts(&decoded.batch, 0), [Some(expected)], "{type_name} {raw}");
    }
    for (raw, expected) in [("5", 5), ("\"5\"", 5), ("5.0", 5), ("-5", -5), ("9223372036854775807", i64::MAX)]
    {
        let decoded = column("long").decode(&body(raw)).unwrap();
        assert_eq!(decoded.batch.column(0).as_primitive::<Int64Type>().value(0), expected, "{raw}");
    }
    for (raw, expected) in [
        ("1700000000000", 1_700_000_000_000),
        ("\"1700000000000\"", 1_700_000_000_000),
        ("-1", -1),
        ("\"1970-01-01T00:00:00.001Z\"", 1),
        ("\"1969-12-31T23:59:59.9999Z\"", -1),
        ("\"2024\"", 1_704_067_200_000),
    ] {
        let decoded = column("date").decode(&body(raw)).unwrap();
        assert_eq!(
            decoded.batch.column(0).as_primitive::<TimestampMillisecondType>().value(0),
            expected,
            "{raw}"
        );
    }
    for (type_name, raw) in [
        ("long", "5.7"),
        ("long", "\"x\""),
        ("long", "\"\""),
        ("long", "true"),
        ("long", "{}"),
        ("long", "5e3"),
        ("byte", "300"),
        ("date", "2024"),
        ("date", "1.5"),
        ("date", "\"01/02/2024\""),
        ("date", "true"),
        ("boolean", "1"),
        ("double", "\"NaN\""),
        ("double", "\"inf\""),
        ("text", "{}"),
        ("date", "1e400"),
    ] {
        let error = column(type_name).decode(&body(raw)).unwrap_err();
        assert!(matches!(error, Error::Misfit { .. }), "{type_name} {raw}: {error}");
    }
}

#[test]
fn geo_points_of_an_array_column_stay_whole() {
    let decoder = decoder_with(json!({"g": {"type": "geo_point"}}), &["g"], &[]);
    let batch = batch(&decoder, json!([{"_source": {"g": [1.5, 2]}}, {"_source": {"g": [[1, 2], "3,4"]}}]));
    let lists = batch.column(0).as_list::<i32>();
    assert_eq!(lists.value(0).as_string::<i32>().value(0), "[1.5,2]");
    assert_eq!(lists.value(1).as_string::<i32>().value(1), "\"3,4\"");
}

#[test]
fn metadata_is_read_or_missed_loudly() {
    let metadata = [MetaField::Id, MetaField::Index, MetaField::Source];
    let decoder = decoder_with(json!({"t": {"type": "text"}}), &[], &metadata);
    let batch = batch(&decoder, source(json!({"t": "x"})));
    let row: Vec<_> = (0..4).map(|column| texts(&batch, column)[0].unwrap()).collect();
    assert_eq!(row, ["x7", "flows-1", "{\"t\":\"x\"}", "x"]);
    assert_eq!(
        message(&decoder, json!([{"_index": "i", "_source": {}}])),
        "document at row 0 of the page (_id unknown) of index \"i\": \"_id\" was requested and is \
         missing in the response"
    );
    // An index with disabled _source returns such hits.
    for hits in [
        json!([{"_index": "i", "_id": "x"}]),
        json!([{"_index": "i", "_id": "w", "_source": {}}, {"_index": "i", "_id": "x"}]),
    ] {
        let said = message(&decoder, hits);
        assert!(said.contains("\"x\"") && said.contains("\"_source\" was requested"), "{said}");
    }
}

/// A server that filters `_source` prints numbers in its own form: it returns 2.10 as 2.1.
#[test]
fn a_fraction_as_text_is_refused() {
    let decoder = decoder(json!({"t": {"type": "text"}}));
    assert_eq!(texts(&batch(&decoder, source(json!({"t": 17}))), 0), [Some("17")]);
    for number in ["2.1", "1e3", "1E3"] {
        let body = String::from_utf8(page(source(json!({"t": "N"})))).unwrap().replace("\"N\"", number);
        let said = decoder.decode(body.as_bytes()).unwrap_err().to_string();
        for word in [number, "\"x7\"", "\"t\"", "print differently"] {
            assert!(said.contains(word), "{said}");
        }
    }
}

/// An object given by dotted keys has no JSON text of its own.
#[test]
fn an_object_by_dotted_keys_is_refused() {
    let decoder = decoder(json!({
        "raw": {"type": "object", "enabled": false}, "o": {"properties": {"n": {"type": "nested"}, "t": {"type": "text"}}},
    }));
    for document in
        [json!({"raw.x": 1}), json!({"o.n.x": 1}), json!({"o": {"n.x": 1}}), json!({"raw.x.y": null})]
    {
        let said = message(&decoder, source(document.clone()));
        assert!(said.contains("dotted keys") && said.contains("\"x7\""), "{document}: {said}");
    }
    let whole = batch(&decoder, source(json!({"raw": {"x.y": 1}, "o.t": "a", "other.x": 1})));
    assert_eq!(texts(&whole, 0), [Some("{\"x.y\":1}")]);
    assert_eq!(texts(&whole, 2), [Some("a")]);
}

#[test]
fn the_envelope_is_read_in_any_order() {
    let decoder = decoder(json!({"n": {"type": "long"}}));
    let body = br#"{"hits":{"hits":[{"sort":[1],"fields":{"n":[1]}},{"fields":{"x":[{"y":[]}],"n":[2]},"sort":[9223372036854775807,"b",null]}],
        "max_score":null,"total":{"relation":"eq","value":7}},"took":1,"timed_out":true,"terminated_early":true,"pit_id":"p","_scroll_id":"s",
        "_clusters":{"total":3,"skipped":1,"partial":1},
        "_shards":{"failures":[{"shard":0,"reason":{"type":"boom","reason":"it broke"}}],"failed":2,"total":5}}"#;
    let page = decoder.decode(body).unwrap();
    let expected = Envelope {
        complete: true,
        timed_out: true,
        terminated_early: true,
        shards_total: Some(5),
        shards_failed: 2,
        shard_failure: Some("boom: it broke".to_owned()),
        clusters_incomplete: 2,
        total: Some(7),
        pit_id: Some("p".to_owned()),
        scroll_id: Some("s".to_owned()),
        hits: 2,
        last_sort: Some(vec![json!(i64::MAX), json!("b"), Value::Null]),
    };
    assert_eq!(page.envelope, expected);
    assert_eq!(page.batch.column(0).as_primitive::<Int64Type>().values(), &[1, 2]);
}

/// The order of keys is learned from hit to hit, and must never decide which column a value belongs to.
#[test]
fn keys_may_come_in_another_order_in_each_hit() {
    let doc_values = json!({"a": {"type": "long"}, "b": {"type": "long"}, "c": {"type": "long"}});
    let text = |name: &str| json!({ name: {"type": "long", "doc_values": false} });
    let nested = json!({"o": {"properties": {
        "a": text("a")["a"], "b": text("b")["b"], "c": {"properties": text("c")},
    }}});
    let hits = [
        r#""a":1,"b":2,"c":3"#,
        r#""c":3,"a":1,"b":2"#,
        r#""x":9,"c":3,"x":9,"b":2"#,
        r#""b":2"#,
        r#""c":3,"b":2,"a":1"#,
    ];
    let expected = [[Some(1); 5], [Some(2); 5], [Some(3); 5]];
    let missing = [(0, vec![2, 3]), (1, vec![]), (2, vec![3])];
    for (decoder, fields_of) in [
        (decoder(doc_values), (|keys: &str| format!(r#"{{"fields":{{{keys}}}}}"#)) as fn(&str) -> String),
        (decoder(nested), |keys| {
            let keys = keys.replace(r#""c":3"#, r#""c":{"y":0,"c":3}"#);
            format!(r#"{{"_source":{{"z":[],"o":{{{keys}}}}}}}"#)
        }),
    ] {
        let hits: Vec<String> = hits.iter().map(|keys| fields_of(keys)).collect();
        let body = format!(r#"{{"hits":{{"hits":[{}]}}}}"#, hits.join(","));
        let batch = decoder.decode(body.as_bytes()).unwrap().batch;
        for (column, rows) in &missing {
            let mut expected = expected[*column];
            rows.iter().for_each(|row| expected[*row] = None);
            let values: Vec<_> = batch.column(*column).as_primitive::<Int64Type>().iter().collect();
            assert_eq!(values, expected, "column {column}");
        }
    }
}

#[test]
fn a_body_that_is_not_utf8_is_malformed() {
    let decoder = decoder(json!({"k": {"type": "keyword"}}));
    for key in ["k", "x"] {
        let mut body = page(fields(json!({ key: ["\u{e9}"] })));
        assert!(decoder.decode(&body).is_ok());
        let place = body.iter().position(|byte| *byte == 0xc3).unwrap();
        body[place] = 0xff;
        let error = decoder.decode(&body).unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("utf-8"), "{error}");
    }
}

#[test]
fn only_an_exact_total_counts() {
    let decoder = decoder(json!({}));
    for (total, expected) in [
        (json!({"value": 5, "relation": "eq"}), Some(5)),
        (json!({"value": 5, "relation": "gte"}), None),
        (json!({"value": 5}), None),
        (json!(5), Some(5)),
        (Value::Null, None),
    ] {
        let body = json!({"hits": {"total": total}}).to_string();
        assert_eq!(decoder.decode(body.as_bytes()).unwrap().envelope.total, expected);
    }
}

#[test]
fn an_empty_page_is_empty_and_a_page_without_proof_is_incomplete() {
    let decoder = decoder(json!({"n": {"type": "long"}}));
    for (body, complete) in [
        ("{}", false),
        (r#"{"timed_out":false}"#, false),
        (r#"{"_shards":{"total":1},"timed_out":false}"#, false),
        (r#"{"_shards":{"failed":0},"timed_out":false}"#, true),
        (r#"{"_shards":{"failed":0},"timed_out":false,"hits":{"hits":[]}}"#, true),
        (r#"{"error":{"type":"x"},"status":500}"#, false),
    ] {
        let page = decoder.decode(body.as_bytes()).unwrap();
        assert_eq!((page.envelope.complete, page.batch.num_rows()), (complete, 0), "{body}");
        assert_eq!(page.batch.num_columns(), 1);
    }
}

#[test]
fn no_columns_still_count_rows() {
    let batch = batch(&decoder(json!({})), json!([{}, {"_source": {"a": 1}}, {"fields": {"n": [1]}}]));
    assert_eq!((batch.num_columns(), batch.num_rows()), (0, 3));
}

#[test]
fn unusable_columns_are_refused_before_any_page() {
    let mapping = IndexMapping {
        index: "i".to_owned(),
        mapping: json!({"_source": {"enabled": false}, "properties": {"t": {"type": "text"}, "n": {"type": "long"}}})
            .into(),
    };
    let columns = plan_columns(&[mapping], &SchemaOptions::default()).unwrap();
    let error = PageDecoder::new(columns.clone()).unwrap_err();
    assert_eq!(error.to_string(), "column \"t\" cannot be read: in index \"i\" _source is disabled");
    let number = columns[1].clone();
    assert!(PageDecoder::new(vec![number.clone()]).is_ok());
    assert!(matches!(PageDecoder::new(vec![number.clone(), number]), Err(Error::DuplicateColumn { .. })));
}

#[test]
fn every_truncation_and_every_broken_byte_is_survived() {
    let decoder = decoder_with(
        json!({"n": {"type": "long"}, "d": {"type": "date_nanos"}, "o": {"properties": {"t": {"type": "text"}}}, "g": {"type": "nested"}}),
        &["n"],
        &[MetaField::Id, MetaField::Source],
    );
    let hits = json!([{"_id": "x", "fields": {"n": [1, 2], "d": ["2024-01-01T00:00:00Z"]},
        "_source": {"o": [{"t": "\u{e9}\n"}], "g": [[1]]}, "sort": [1]}]);
    let body = page(hits);
    assert!(decoder.decode(&body).is_ok());
    for length in 0..body.len() {
        let error = decoder.decode(&body[..length]).unwrap_err();
        assert!(error.is_retryable(), "{length}: {error}");
    }
    for position in 0..body.len() {
        for byte in [0, b'"', b'[', b'}', b'9', b'-', 0xff] {
            let mut broken = body.clone();
            broken[position] = byte;
            let _ = decoder.decode(&broken);
        }
    }
    let trailing = [body.as_slice(), b"{}"].concat();
    assert!(decoder.decode(&trailing).is_err());
}

#[test]
fn depth_is_bounded() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    let text = decoder(json!({"f": {"type": "text", "fields": {"k": {"type": "keyword"}}}}));
    let object = decoder(json!({"f": {"properties": {"f": {"type": "text"}}}}));
    for nested in [deep("[", "]"), deep("{\"f\":", "}"), "[".repeat(100_000), deep("[{\"f\":", "}]")] {
        for decoder in [&text, &object] {
            for place in ["_source", "fields", "sort", "x"] {
                let body =
                    format!(r#"{{"hits":{{"hits":[{{"{place}":{{"f":{nested},"f.k":{nested}}}}}]}}}}"#);
                let _ = decoder.decode(body.as_bytes());
            }
        }
    }
    let just_too_deep = format!("{}1{}", "[".repeat(101), "]".repeat(101));
    let body = format!(r#"{{"hits":{{"hits":[{{"_source":{{"f":{just_too_deep}}}}}]}}}}"#);
    assert!(matches!(
        decoder(json!({"f": {"type": "text"}})).decode(body.as_bytes()),
        Err(Error::Misfit { reason: "arrays are nested too deep", .. })
    ));
}

#[test]
fn a_double_keeps_its_last_digit() {
    let decoder = decoder(json!({ "d": { "type": "double" } }));
    for expected in [123.46000000000001, 0.10000000000000002, 1.7976931348623157e308, 4.35e17, -2.675, 5e-324]
    {
        let batch = batch(&decoder, fields(json!({ "d": [expected] })));
        let read = batch.column(0).as_primitive::<Float64Type>().value(0);
        assert_eq!(read.to_bits(), f64::to_bits(expected), "{read:?} is not {expected:?}");
    }
}

#[test]
fn a_path_of_too_many_levels_is_refused() {
    // The tree of paths is walked and freed recursively, so this many levels would overflow the stack.
    let name = vec!["a"; 200_000].join(".");
    let mapping = IndexMapping {
        index: "flows".to_owned(),
        mapping: json!({"properties": {name: {"type": "long", "doc_values": false}}}).into(),
    };
    let columns = plan_columns(&[mapping], &SchemaOptions::default()).unwrap();
    let error = PageDecoder::new(columns).unwrap_err().to_string();
    assert!(error.ends_with("cannot be read: its path in _source has more than 100 levels"), "{error:.200}");
}
