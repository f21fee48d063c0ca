//! Mappings that many indices share.

use serde_json::json;

use super::*;

/// Mappings that differ in types, places, limits and order. Some do not fit others, and some are invalid.
fn variants() -> Vec<Value> {
    vec![
        json!({}),
        json!({"properties": {"f": {"type": "long"}, "k": {"type": "keyword", "ignore_above": 9}}}),
        json!({"properties": {"k": {"type": "keyword", "ignore_above": 5}, "f": {"type": "byte"}}}),
        json!({"properties": {"k": {"type": "keyword", "ignore_above": 5, "copy_to": "all"},
            "all": {"type": "keyword", "ignore_above": 7}}}),
        json!({"properties": {"f": {"type": "integer", "doc_values": false, "null_value": 1},
            "when": {"type": "alias", "path": "@timestamp"}, "@timestamp": {"type": "date"}}}),
        json!({"properties": {"@timestamp": {"type": "date", "format": "epoch_second", "doc_values": false},
            "when": {"type": "date", "index": false}}}),
        json!({"_source": {"enabled": false},
            "properties": {"t": {"type": "text", "fields": {"x": {"type": "keyword"}}}}}),
        json!({"properties": {"t": {"type": "text", "fields": {
            "y": {"type": "keyword"}, "x": {"type": "keyword", "ignore_above": 3}}}}}),
        json!({"properties": {"t": {"type": "text", "fields": {
            "x": {"type": "keyword", "ignore_above": 3}, "y": {"type": "keyword"}}}}}),
        json!({"properties": {"o.p": {"type": "float"}, "o": {"properties": {"p": {"type": "short"}}}}}),
        json!({"runtime": {"f": {"type": "long"}}, "properties": {"o": {"properties": {"p": {"type": "ip"}}}}}),
        json!({"properties": {"o": {"type": "keyword"}, "f": {"type": "keyword"}}}),
        json!({"properties": {"shape": {"type": "geo_shape"}}}),
        json!({"properties": {"broken": {"type": "alias", "path": "gone"}}}),
    ]
}

/// A linear congruential generator.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

#[test]
fn sharing_a_mapping_changes_no_column_and_no_error() {
    let variants: Vec<Arc<Value>> = variants().into_iter().map(Arc::new).collect();
    let metadata = vec![MetaField::Id, MetaField::Source];
    let (mut planned, mut refused) = (0, 0);
    for seed in 0..5_000 {
        let mut draw = Draw(seed);
        let few: Vec<&Arc<Value>> =
            (0..=draw.below(4)).map(|_| &variants[draw.below(variants.len())]).collect();
        let mut options = SchemaOptions { metadata: metadata.clone(), ..SchemaOptions::default() };
        let mut shared = Vec::new();
        for number in 0..=draw.below(20) {
            let mapping = Arc::clone(few[draw.below(few.len())]);
            let index = format!("flows-{number}");
            if draw.below(4) == 0 {
                options.long_in_source_of.insert(index.clone());
            }
            shared.push(IndexMapping { index, mapping });
        }
        if draw.below(2) == 0 {
            options.unknown_types = UnknownTypes::JsonText;
        }
        let own: Vec<IndexMapping> = shared
            .iter()
            .map(|IndexMapping { index, mapping }| IndexMapping {
                index: index.clone(),
                mapping: Arc::new(Value::clone(mapping)),
            })
            .collect();
        let plan = |mappings: &[IndexMapping]| plan_columns(mappings, &options).map_err(|e| e.to_string());
        let expected = plan(&own);
        if expected.is_ok() {
            planned += 1
        } else {
            refused += 1
        }
        assert_eq!(plan(&shared), expected, "seed {seed}: {shared:?}");
    }
    assert!(planned > 1_000 && refused > 1_000, "{planned} {refused}");
}

#[test]
fn a_shared_mapping_is_planned_once_for_each_place_of_long_keywords() {
    let daily = Arc::new(json!({"properties": {"k": {"type": "keyword", "ignore_above": 9}}}));
    let mappings: Vec<IndexMapping> = (0..6)
        .map(|number| IndexMapping { index: format!("flows-{number}"), mapping: Arc::clone(&daily) })
        .collect();
    let options = SchemaOptions {
        long_in_source_of: ["flows-1".to_owned(), "flows-3".to_owned()].into(),
        ..SchemaOptions::default()
    };
    let planned = plan_distinct(&mappings, &options).unwrap();
    let indices: Vec<Vec<usize>> =
        planned.iter().map(|fields| fields.indices.iter().map(|(number, _)| *number).collect()).collect();
    assert_eq!(indices, [vec![0, 2, 4, 5], vec![1, 3]]);
    assert_eq!(planned.iter().map(|fields| fields.index).collect::<Vec<_>>(), ["flows-0", "flows-1"]);
    assert_eq!(plan_columns(&mappings, &options).unwrap()[0].read_from, ReadFrom::Source);
}

#[test]
fn a_conflict_names_the_first_indices_of_each_type_in_their_order() {
    let long = Arc::new(json!({"properties": {"f": {"type": "long"}}}));
    let also_long = Arc::new(json!({"properties": {"f": {"type": "long"}, "g": {"type": "ip"}}}));
    let text = Arc::new(json!({"properties": {"f": {"type": "text"}}}));
    let of = [&long, &also_long, &text, &also_long, &long, &text, &long];
    let mappings: Vec<IndexMapping> = of
        .into_iter()
        .enumerate()
        .map(|(number, mapping)| IndexMapping { index: number.to_string(), mapping: Arc::clone(mapping) })
        .collect();
    let error = plan_columns(&mappings, &SchemaOptions::default()).unwrap_err().to_string();
    let expected = "long in \"0\", \"1\", \"3\" and 2 more; text in \"2\", \"5\"; name";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn several_equal_indices_have_the_columns_of_one() {
    for mapping in variants() {
        let several = ["a", "b", "c"]
            .map(|index| IndexMapping { index: index.to_owned(), mapping: mapping.clone().into() });
        let plan = |mappings| plan_columns(mappings, &SchemaOptions::default()).map_err(|e| e.to_string());
        assert_eq!(plan(&several), plan(&several[..1]));
    }
}
