//! Planning the columns of one index and of several indices.

use serde_json::json;

use super::*;

fn mapping(index: &str, mapping: Value) -> IndexMapping {
    IndexMapping { index: index.to_owned(), mapping: mapping.into() }
}

fn plan(mapping_json: Value) -> Vec<Column> {
    plan_columns(&[mapping("flows", mapping_json)], &SchemaOptions::default()).unwrap()
}

fn plan_two(a: Value, b: Value) -> Result<Vec<Column>, Error> {
    let wrap = |field: Value| json!({"properties": {"f": field}});
    plan_columns(&[mapping("a", wrap(a)), mapping("b", wrap(b))], &SchemaOptions::default())
}

fn find<'a>(columns: &'a [Column], name: &str) -> &'a Column {
    columns.iter().find(|column| column.name == name).unwrap()
}

fn doc_values(format: Option<&str>) -> ReadFrom {
    ReadFrom::DocValues { format: format.map(str::to_owned) }
}

fn unavailable(column: &Column) -> &str {
    let ReadFrom::Unavailable { reason } = &column.read_from else { panic!("{column:?}") };
    reason
}

#[test]
fn columns_keep_mapping_order_under_dotted_names() {
    let columns = plan(json!({"properties": {
        "netflow": {"properties": {"dst": {"type": "ip"}, "src": {"type": "ip"}}},
        "@timestamp": {"type": "date"},
        "a": {"type": "keyword"},
    }}));
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["netflow.dst", "netflow.src", "@timestamp", "a"]);
}

#[test]
fn every_type_has_its_arrow_type_and_its_place() {
    use arrow::datatypes::{DataType, TimeUnit};
    let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let plain = || doc_values(None);
    let cases = [
        ("keyword", DataType::Utf8, plain()),
        ("constant_keyword", DataType::Utf8, plain()),
        ("wildcard", DataType::Utf8, ReadFrom::Source),
        ("text", DataType::Utf8, ReadFrom::Source),
        ("match_only_text", DataType::Utf8, ReadFrom::Source),
        ("ip", DataType::Utf8, plain()),
        ("version", DataType::Utf8, plain()),
        ("byte", DataType::Int8, plain()),
        ("short", DataType::Int16, plain()),
        ("integer", DataType::Int32, plain()),
        ("long", DataType::Int64, plain()),
        ("unsigned_long", DataType::UInt64, plain()),
        ("half_float", DataType::Float32, plain()),
        ("float", DataType::Float32, plain()),
        ("double", DataType::Float64, plain()),
        ("scaled_float", DataType::Float64, plain()),
        ("boolean", DataType::Boolean, plain()),
        ("date", millis, doc_values(Some("epoch_millis"))),
        ("date_nanos", nanos, doc_values(Some("strict_date_optional_time_nanos"))),
        ("binary", DataType::Utf8, ReadFrom::Source),
        ("geo_point", DataType::Utf8, ReadFrom::Source),
        ("flattened", DataType::Utf8, ReadFrom::Source),
        ("flat_object", DataType::Utf8, ReadFrom::Source),
        ("nested", DataType::Utf8, ReadFrom::Source),
    ];
    for (type_name, data_type, read_from) in cases {
        let columns = plan(json!({"properties": {"f": {"type": type_name}}}));
        assert_eq!(columns[0].data_type(), data_type, "{type_name}");
        assert_eq!(columns[0].read_from, read_from, "{type_name}");
        assert!(columns[0].to_arrow().is_nullable());
    }
}

#[test]
fn the_table_in_the_docs_is_what_is_planned() {
    let mut checked = 0;
    let (table, _) = include_str!("../../../docs/types.md").split_once("\n## ").unwrap();
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, types, data_type, read_from, ..] = cells[..] else { panic!("{row}") };
        for type_name in types.split(", ") {
            let columns = plan(json!({"properties": {"f": {"type": type_name}}}));
            assert_eq!(columns[0].data_type().to_string(), data_type, "{row}");
            // A token count is not in _source, so it is read only from doc values.
            assert_eq!(columns[0].origin(), read_from, "{type_name}: {row}");
            checked += 1;
        }
    }
    assert_eq!(checked, 26);
}

#[test]
fn arrays_and_metadata_are_declared() {
    let options = SchemaOptions {
        arrays: ["tags".to_owned()].into(),
        metadata: vec![MetaField::Id, MetaField::Source],
        ..SchemaOptions::default()
    };
    let body = json!({"properties": {"tags": {"type": "keyword"}}});
    let schema = crate::to_schema(&plan_columns(&[mapping("i", body)], &options).unwrap());
    let names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
    assert_eq!(names, ["_id", "_source", "tags"]);
    assert!(matches!(schema.field(2).data_type(), arrow::datatypes::DataType::List(_)));
}

#[test]
fn disabled_objects_and_nested_are_one_column() {
    let columns = plan(json!({"properties": {
        "raw": {"type": "object", "enabled": false},
        "n": {"type": "nested", "properties": {"x": {"type": "long"}}},
        "empty": {"type": "object"},
    }}));
    assert_eq!(columns.len(), 2);
    assert_eq!(columns[0].field_type, FieldType::Object);
    assert_eq!(columns[1].field_type, FieldType::Nested);
}

#[test]
fn multi_fields_are_columns_that_read_their_parent_in_source() {
    let columns = plan(json!({"properties": {"name": {"type": "text", "fields": {
        "short": {"type": "keyword", "ignore_above": 256},
        "keyword": {"type": "keyword"},
        "stored": {"type": "keyword", "doc_values": false},
    }}}}));
    assert_eq!(
        columns[0].keyword_subfield.as_ref().map(|subfield| subfield.name.as_str()),
        Some("name.keyword")
    );
    assert_eq!(find(&columns, "name.short").ignore_above, Some(256));
    assert_eq!(find(&columns, "name.keyword").doc_value_field(), Some(("name.keyword", None)));
    assert_eq!(find(&columns, "name.stored").source_field(), Some("name"));
}

#[test]
fn an_alias_is_its_target_under_another_name() {
    let columns = plan(json!({"properties": {
        "when": {"type": "alias", "path": "@timestamp"},
        "said": {"type": "alias", "path": "m.text"},
        "@timestamp": {"type": "date"},
        "m": {"properties": {"text": {"type": "text"}}},
    }}));
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["when", "said", "@timestamp", "m.text"]);
    assert_eq!(columns[0].doc_value_field(), Some(("when", Some("epoch_millis"))));
    assert_eq!(columns[1].source_field(), Some("m.text"));

    let broken = mapping("i", json!({"properties": {"a": {"type": "alias", "path": "gone"}}}));
    let error = plan_columns(&[broken], &SchemaOptions::default()).unwrap_err();
    assert!(error.to_string().contains("\"gone\""), "{error}");
}

#[test]
fn an_unknown_type_is_named_or_json_on_request() {
    let body = json!({"properties": {"a": {"properties": {"shape": {"type": "geo_shape"}}}}});
    let mappings = [mapping("flows-1", body)];
    let error = plan_columns(&mappings, &SchemaOptions::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "field \"a.shape\" of index \"flows-1\" has type \"geo_shape\", which has no column type; set the \
         option unknown_types = json to read it as JSON text, or name the field in exclude"
    );
    let options = SchemaOptions { unknown_types: UnknownTypes::JsonText, ..SchemaOptions::default() };
    let columns = plan_columns(&mappings, &options).unwrap();
    assert_eq!(columns[0].field_type, FieldType::Unknown("geo_shape".to_owned()));
    assert_eq!(columns[0].read_from, ReadFrom::Source);
    let options = SchemaOptions { exclude: ["a".to_owned()].into(), ..SchemaOptions::default() };
    assert_eq!(plan_columns(&mappings, &options).unwrap(), []);
}

#[test]
fn an_excluded_field_is_in_nobodys_way() {
    let mappings = [
        mapping(
            "x",
            json!({"properties": {"o": {"properties": {"a": {"type": "long"}}}, "ob": {"type": "ip"}}}),
        ),
        mapping("y", json!({"properties": {"o": {"type": "keyword"}}})),
    ];
    let options = SchemaOptions { exclude: ["o".to_owned()].into(), ..SchemaOptions::default() };
    let columns = plan_columns(&mappings, &options).unwrap();
    assert_eq!(columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["ob"]);
    let error = plan_columns(&mappings, &SchemaOptions::default()).unwrap_err().to_string();
    assert!(error.contains("\"o\"") && error.contains("exclude"), "{error}");
}

/// If servers do not list values dropped by `ignore_above`, keyword columns are not read from doc values.
#[test]
fn long_keywords_that_nobody_would_miss_are_unavailable() {
    let body = json!({"properties": {
        "all": {"type": "keyword", "ignore_above": 5},
        "a": {"type": "keyword", "copy_to": "all"},
        "b": {"type": "keyword", "ignore_above": 5},
    }});
    let of = |index: &str, options: &SchemaOptions| {
        let columns = plan_columns(&[mapping(index, body.clone())], options).unwrap();
        ["all", "a", "b"].map(|name| find(&columns, name).read_from.clone())
    };
    let noted = SchemaOptions::default();
    assert_eq!(of("i", &noted), [doc_values(None), doc_values(None), doc_values(None)]);
    let everywhere = SchemaOptions { long_keywords: LongKeywords::Source, ..SchemaOptions::default() };
    let old = SchemaOptions { long_in_source_of: ["i".to_owned()].into(), ..SchemaOptions::default() };
    for options in [everywhere, old.clone()] {
        let [all, a, b] = of("i", &options);
        assert!(matches!(all, ReadFrom::Unavailable { .. }), "{all:?}");
        assert_eq!((a, b), (doc_values(None), ReadFrom::Source));
    }
    assert_eq!(of("newer", &old), [doc_values(None), doc_values(None), doc_values(None)]);
}

/// Servers list dropped values under the name of the field itself, not of an alias.
#[test]
fn a_column_knows_what_its_field_is_named_elsewhere() {
    let keyword = json!({"type": "keyword", "ignore_above": 5});
    let columns = [
        mapping(
            "a",
            json!({"properties": {"name": {"type": "text", "fields": {"k": keyword}}, "src": keyword,
                "nm": {"type": "alias", "path": "name.k"}}}),
        ),
        mapping("b", json!({"properties": {"ip": keyword, "src": {"type": "alias", "path": "ip"}}})),
    ];
    let columns = plan_columns(&columns, &SchemaOptions::default()).unwrap();
    assert!(find(&columns, "nm").targets.contains("name.k"));
    assert!(find(&columns, "src").targets.contains("ip"));
}

#[test]
fn what_source_lacks_is_unavailable_and_says_why() {
    let text = json!({"type": "text"});
    let cases = [
        (json!({"_source": {"enabled": false}, "properties": {"f": text}}), "_source is disabled"),
        (json!({"_source": {"excludes": ["f*"]}, "properties": {"f": text}}), "_source excludes \"f*\""),
        (json!({"_source": {"includes": ["g"]}, "properties": {"f": text}}), "_source does not include it"),
        (
            json!({"properties": {"f": text, "g": {"type": "keyword", "copy_to": "f"}}}),
            "it is filled by copy_to, and copied values are not in _source",
        ),
        (
            json!({"properties": {"f": {"type": "date", "doc_values": false, "format": "epoch_second"}}}),
            "its date format \"epoch_second\" is only understood by the server",
        ),
        (
            json!({"properties": {"f": {"type": "geo_point", "script": {"source": "emit(1, 2)"}}}}),
            "it is computed by a script, and computed values are not in _source",
        ),
        (
            json!({"_source": {"excludes": ["f.secret"]}, "properties": {"f": {"type": "flattened"}}}),
            "_source excludes \"f.secret\"",
        ),
    ];
    for (body, reason) in cases {
        let columns = plan(body);
        assert_eq!(unavailable(find(&columns, "f")), format!("in index \"flows\" {reason}"));
    }
}

#[test]
fn runtime_fields_are_read_like_doc_values_and_hide_mapped_ones() {
    let columns = plan(json!({
        "runtime": {"f": {"type": "long"}, "c": {"type": "composite", "fields": {"x": {"type": "ip"}}}},
        "properties": {"f": {"type": "text"}},
    }));
    assert_eq!(columns.len(), 2);
    assert_eq!((&columns[0].field_type, &columns[0].read_from), (&FieldType::Long, &doc_values(None)));
    assert_eq!(columns[1].name, "c.x");
    assert!(columns.iter().all(|column| column.computed && !column.is_sort_value()));
}

#[test]
fn a_field_that_one_index_computes_is_no_sort_value() {
    let stored = json!({"properties": {"f": {"type": "keyword"}}});
    let computed = json!({"runtime": {"f": {"type": "keyword"}}});
    for (a, b, expected) in
        [(&stored, &stored, true), (&stored, &computed, false), (&computed, &stored, false)]
    {
        let mappings = [mapping("a", a.clone()), mapping("b", b.clone())];
        let columns = plan_columns(&mappings, &SchemaOptions::default()).unwrap();
        assert_eq!(find(&columns, "f").is_sort_value(), expected);
    }
}

#[test]
fn flags_for_pushdown_are_kept() {
    let columns = plan(json!({"properties": {"f": {
        "type": "keyword", "index": false, "normalizer": "lowercase", "null_value": "-", "ignore_above": 10,
    }}}));
    let column = &columns[0];
    assert!(!column.indexed && column.normalizer && column.null_value && column.doc_values);
    assert_eq!(column.ignore_above, Some(10));
}

#[test]
fn types_widen_only_without_loss() {
    let cases = [
        ("byte", "short", FieldType::Short),
        ("long", "integer", FieldType::Long),
        ("half_float", "float", FieldType::Float),
        ("float", "double", FieldType::Double),
        ("scaled_float", "float", FieldType::Double),
        ("integer", "double", FieldType::Double),
        ("keyword", "constant_keyword", FieldType::Keyword),
    ];
    for (a, b, expected) in cases {
        let columns = plan_two(json!({"type": a}), json!({"type": b})).unwrap();
        assert_eq!(columns[0].field_type, expected, "{a} and {b}");
        assert!(columns[0].mixed);
    }
    for (a, b) in [
        ("long", "double"),
        ("long", "unsigned_long"),
        ("keyword", "text"),
        ("date", "date_nanos"),
        ("ip", "keyword"),
    ] {
        let error = plan_two(json!({"type": a}), json!({"type": b})).unwrap_err();
        let expected = format!(
            "field \"f\" has types that do not fit one column: {a} in \"a\"; {b} in \"b\"; \
             name the field in the option exclude"
        );
        assert_eq!(error.to_string(), expected);
    }
    let error = plan_two(json!({"type": "long"}), json!({"properties": {}})).unwrap_err();
    assert!(error.to_string().contains("long in \"a\"; object in \"b\"; name"), "{error}");
}

#[test]
fn indices_that_differ_in_doc_values_are_all_read_from_source() {
    let stored = json!({"type": "long", "doc_values": false});
    let columns = plan_two(json!({"type": "long"}), stored).unwrap();
    assert_eq!(columns[0].read_from, ReadFrom::Source);
    assert!(!columns[0].doc_values && !columns[0].mixed);

    let stored = json!({"type": "keyword", "doc_values": false});
    let columns = plan_two(json!({"type": "constant_keyword"}), stored).unwrap();
    assert!(unavailable(&columns[0]).contains("constant_keyword"));
}

#[test]
fn a_field_may_be_missing_in_some_indices() {
    let a = mapping("a", json!({"properties": {"x": {"type": "long"}}}));
    let b = mapping("b", json!({"properties": {"y": {"type": "long"}, "x": {"type": "byte"}}}));
    let c = mapping("c", json!({}));
    let columns = plan_columns(&[a, b, c], &SchemaOptions::default()).unwrap();
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["x", "y"]);
}

#[test]
fn mappings_with_a_type_name_are_unwrapped() {
    assert_eq!(plan(json!({"_doc": {"properties": {"f": {"type": "long"}}}})).len(), 1);
    assert_eq!(plan(json!({"_meta": {"properties": {"f": {"type": "long"}}}})).len(), 0);
}

#[test]
fn globs_match_as_source_filters_do() {
    for (pattern, path, covered) in [
        ("a", "a.b", true),
        ("a.*", "a.b.c", true),
        ("*.b", "a.b", true),
        ("*", "a", true),
        ("a*c", "abc", true),
        ("a*bc*c", "abc", false),
        ("ab", "a", false),
        ("a.b", "a", false),
    ] {
        assert_eq!(source_rule::covers(pattern, path), covered, "{pattern} {path}");
    }
}
