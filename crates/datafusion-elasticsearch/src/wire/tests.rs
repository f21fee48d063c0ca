//! Data of every format is read, and unknown values are errors.

use super::*;
use elastic_client::{Cut, KeepAlive, PageRows, ReadMode, Slice, SliceSource, Tiebreaker};
use serde_json::{Value, json};
use std::sync::Arc;

fn pit(ordinal: u32, id: &Arc<str>) -> Slice {
    Slice {
        ordinal,
        of: 4,
        index: "flows-*".into(),
        source: SliceSource::Pit { id: Arc::clone(id), tiebreaker: Tiebreaker::ShardDoc },
        cut: Some(Cut { id: ordinal, max: 4 }),
        filter: Some(json!({ "term": { "a": 1 } })),
    }
}

fn scroll() -> Slice {
    Slice { source: SliceSource::Scroll, cut: None, filter: None, ..pit(3, &"".into()) }
}

fn table() -> Value {
    json!({
        "connection": "prod", "index": "flows", "columns": [], "query": { "match_all": {} }, "slices": null,
        "page_size": 10, "keep_alive_ms": 60_000, "read": "auto", "snapshot": null,
    })
}

fn refusal(sent: &Value) -> String {
    decode_table(&sent.to_string()).unwrap_err().to_string()
}

#[test]
fn a_table_of_any_format_is_read() {
    let mut sent = table();
    sent["snapshot"] = json!([{
        "ordinal": 3, "of": 4, "index": "flows-*", "source": { "Pit": { "id": "p", "sort": "ShardDoc" } },
        "cut": { "id": 3, "max": 4 }, "filter": { "term": { "a": 1 } },
    }]);
    let spec = decode_table(&sent.to_string()).unwrap();
    assert_eq!(spec.open_slices.as_deref(), Some(&[pit(3, &"p".into())][..]));
    assert_eq!((spec.read.page_size, spec.read.mode), (PageRows::try_new(10).unwrap(), ReadMode::Auto));
    assert_eq!(spec.read.keep_alive, KeepAlive::from_millis(60_000).unwrap());
    let again = encode_table(&spec).unwrap();
    assert_eq!(version("a table", &again).unwrap(), 3);
    assert_eq!(decode_table(&again).unwrap(), spec);
}

#[test]
fn what_is_not_known_or_out_of_bounds_is_an_error_that_names_it() {
    for (field, value, message) in [
        ("read", json!("other"), "unknown variant `other`, expected one of `auto`, `pit`, `scroll`"),
        ("pushdown", json!("maybe"), "unknown variant `maybe`, expected `on` or `off`"),
        ("ignored", json!("skip"), "unknown variant `skip`, expected `error` or `null`"),
        ("page_size", json!(10_001), "page_size = \"10001\" is not a number from 1 to 10000"),
        ("page_size", json!(0), "page_size = \"0\" is not a number from 1 to 10000"),
        ("keep_alive_ms", json!(5), "keep_alive = \"5ms\" is not a time such as"),
        ("of_a_later_version", json!(1), "unknown field `of_a_later_version`"),
        ("version", json!(4), "a table arrived in format 4, and this version reads formats 1 to 3"),
        ("version", json!(0), "a table arrived in format 0"),
        ("connection", json!(null), "invalid type: null, expected a string"),
    ] {
        let mut sent = table();
        sent[field] = value;
        let error = refusal(&sent);
        assert!(error.contains(message), "{field}: {error}");
        assert!(error.contains("run one version on all nodes of the cluster"), "{error}");
    }
    let mut sent = table();
    sent["version"] = json!(2);
    sent["snapshot"] = json!({ "contexts": ["p"], "slices": [
        { "ordinal": 0, "of": 1, "index": "flows", "source": { "pit": { "context": 1, "sort": "doc" } } },
    ] });
    let error = refusal(&sent);
    assert!(error.contains("slice 0 is of context 1, which did not arrive"), "{error}");
}

#[test]
fn an_id_is_sent_once_and_shared_again_where_it_arrives() {
    let long: Arc<str> = "x".repeat(10_000).into();
    let mut spec = decode_table(&table().to_string()).unwrap();
    let slices: Vec<Slice> = (0..100).map(|ordinal| pit(ordinal, &long)).chain([scroll()]).collect();
    spec.open_slices = Some(slices.clone());
    let sent = encode_table(&spec).unwrap();
    assert!(sent.len() < 40_000, "{}", sent.len());
    let batch = to_batch(&slices).unwrap();
    let bytes: usize = batch.columns().iter().map(|column| column.get_array_memory_size()).sum();
    assert!(bytes < 60_000, "{bytes}");
    for arrived in [decode_table(&sent).unwrap().open_slices.unwrap(), from_batch(&batch).unwrap()] {
        assert_eq!(arrived, slices);
        let ids = arrived.iter().filter_map(|slice| match &slice.source {
            SliceSource::Pit { id, .. } => Some(id),
            SliceSource::Scroll => None,
        });
        let ids: Vec<_> = ids.collect();
        assert!(ids.iter().all(|id| Arc::ptr_eq(id, ids[0])));
    }
}

#[test]
fn each_partition_has_the_contexts_of_its_own_slices() {
    let ids: Vec<Arc<str>> = ["p", "q", "r"].into_iter().map(Arc::from).collect();
    let slices = [pit(0, &ids[2]), scroll(), pit(1, &ids[0]), pit(2, &ids[2])];
    let batch = to_batch(&slices).unwrap();
    assert_eq!(batch.schema(), schema());
    assert_eq!(batch.column(1).null_count(), 2);
    assert_eq!(from_batch(&batch).unwrap(), slices);
    // A slice is never read from a context other than its own.
    let error = from_batch(&batch.slice(2, 2)).unwrap_err().to_string();
    assert_eq!(error, "slice 2 is of context 0, which did not arrive");
}

/// An executor of an earlier version knows no such columns, and reads a table without them.
#[test]
fn only_a_computed_column_says_so() {
    for computed in [true, false] {
        let mut sent = table();
        sent["columns"] = json!([{
            "name": "a", "field_type": "keyword", "read_from": { "doc_values": { "format": null } }, "array": false,
            "source_path": "a", "indexed": true, "doc_values": true, "keyword_subfield": null, "normalizer": false,
            "ignore_above": null, "null_value": false, "mixed": false,
        }]);
        if computed {
            sent["columns"][0]["computed"] = json!(true);
        }
        let spec = decode_table(&sent.to_string()).unwrap();
        assert_eq!(spec.columns.iter().map(|column| column.computed).collect::<Vec<_>>(), [computed]);
        let again = encode_table(&spec).unwrap();
        assert_eq!(decode_table(&again).unwrap(), spec);
        assert_eq!(again.contains("computed"), computed);
    }
}
