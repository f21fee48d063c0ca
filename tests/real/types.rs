//! Every type of field, from a real mapping and a real document to its column.

use crate::golden::{alone, assert_nothing_open, options, registry, servers};
use datafusion::arrow::json::ArrayWriter;
use datafusion::error::Result;
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{EsTable, open_contexts};
use elastic_client::{Connection, ConnectionRegistry, Method, Product, Request, fetch_server};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Field, mapping, what the document says, what the column holds.
fn fields(product: Product) -> Vec<(&'static str, Value, Value, Value)> {
    let mut fields = vec![
        ("a_keyword", json!({ "type": "keyword" }), json!("Grüße \"q\""), json!("Grüße \"q\"")),
        ("a_number_as_keyword", json!({ "type": "keyword" }), json!(17), json!("17")),
        ("a_text", json!({ "type": "text" }), json!("Two Words"), json!("Two Words")),
        ("an_ip", json!({ "type": "ip" }), json!("::ffff:10.0.0.1"), json!("10.0.0.1")),
        ("an_ip6", json!({ "type": "ip" }), json!("2001:DB8:0::1"), json!("2001:db8::1")),
        ("a_byte", json!({ "type": "byte" }), json!(-128), json!(-128)),
        ("a_short", json!({ "type": "short" }), json!(32767), json!(32767)),
        ("an_integer", json!({ "type": "integer" }), json!("12"), json!(12)),
        ("a_long", json!({ "type": "long" }), json!(i64::MIN), json!(i64::MIN)),
        ("a_half", json!({ "type": "half_float" }), json!(1.5), json!(1.5)),
        ("a_float", json!({ "type": "float" }), json!(0.25), json!(0.25)),
        ("a_double", json!({ "type": "double" }), json!(1e300), json!(1e300)),
        ("a_scaled", json!({ "type": "scaled_float", "scaling_factor": 100 }), json!(1.25), json!(1.25)),
        ("a_boolean", json!({ "type": "boolean" }), json!("true"), json!(true)),
        (
            "a_date",
            json!({ "type": "date" }),
            json!("1969-12-31T23:59:59.999Z"),
            json!("1969-12-31T23:59:59.999"),
        ),
        (
            "a_day",
            json!({ "type": "date", "format": "dd/MM/yyyy" }),
            json!("02/01/2026"),
            json!("2026-01-02T00:00:00"),
        ),
        (
            "nanos",
            json!({ "type": "date_nanos" }),
            json!("2026-01-02T03:04:05.123456789Z"),
            json!("2026-01-02T03:04:05.123456789"),
        ),
        ("a_binary", json!({ "type": "binary" }), json!("SGVsbG8="), json!("SGVsbG8=")),
        (
            "a_point",
            json!({ "type": "geo_point" }),
            json!({ "lat": 1.5, "lon": 2.5 }),
            json!(r#"{"lat":1.5,"lon":2.5}"#),
        ),
        (
            "raw",
            json!({ "type": "object", "enabled": false }),
            json!({ "any": [1, "x"] }),
            json!(r#"{"any":[1,"x"]}"#),
        ),
        (
            "nest",
            json!({ "type": "nested", "properties": { "x": { "type": "long" } } }),
            json!([{ "x": 1 }, { "x": 2 }]),
            json!(r#"[{"x":1},{"x":2}]"#),
        ),
        ("was_null", json!({ "type": "keyword", "null_value": "none" }), Value::Null, json!("none")),
        ("no_doc_values", json!({ "type": "keyword", "doc_values": false }), json!("x"), json!("x")),
        ("no_index", json!({ "type": "long", "index": false }), json!(5), json!(5)),
        ("a_wildcard", json!({ "type": "wildcard" }), json!("*any?"), json!("*any?")),
        ("the_same", json!({ "type": "constant_keyword", "value": "c" }), json!("c"), json!("c")),
        ("unsigned", json!({ "type": "unsigned_long" }), json!(u64::MAX), json!(u64::MAX)),
    ];
    match product {
        Product::Elasticsearch => fields.extend([
            ("a_version", json!({ "type": "version" }), json!("1.10.0"), json!("1.10.0")),
            ("flat", json!({ "type": "flattened" }), json!({ "k": "v" }), json!(r#"{"k":"v"}"#)),
        ]),
        Product::OpenSearch => {
            fields.push((
                "flat",
                json!({ "type": "flat_object" }),
                json!({ "k": "v" }),
                json!(r#"{"k":"v"}"#),
            ));
        }
    }
    fields
}

/// JSON text as JSON: servers send keys in an order of their own.
fn normal(value: &Value) -> Value {
    match value.as_str().filter(|text| text.starts_with(['{', '['])) {
        Some(text) => serde_json::from_str(text).unwrap(),
        None => value.clone(),
    }
}

async fn make(connection: &Connection, index: &str, properties: &Value, documents: &[Value]) {
    let path = format!("/{index}");
    let delete = Request::new(Method::Delete, &path, "delete").with_param("ignore_unavailable", "true");
    connection.send(&delete).await.unwrap();
    let body = json!({ "settings": { "number_of_shards": 1, "number_of_replicas": 0 },
                       "mappings": { "properties": properties } });
    connection.send(&Request::new(Method::Put, &path, "create").with_body(&body)).await.unwrap();
    for (id, document) in documents.iter().enumerate() {
        let put = Request::new(Method::Put, format!("{path}/_doc/{id}"), "put").with_body(document);
        connection.send(&put.with_param("refresh", "true")).await.unwrap();
    }
}

/// Distributions without all of their modules lack some types.
async fn has_type(connection: &Connection, field: &Value) -> bool {
    let delete = Request::new(Method::Delete, "/probe", "delete").with_param("ignore_unavailable", "true");
    connection.send(&delete).await.unwrap();
    let body = json!({ "settings": { "number_of_replicas": 0 },
                       "mappings": { "properties": { "f": field } } });
    match connection.send(&Request::new(Method::Put, "/probe", "probe").with_body(&body)).await {
        Ok(_) => true,
        Err(e) => {
            // Elasticsearch 7 words it otherwise.
            let unknown =
                ["No handler for type", "The mapper type"].iter().any(|m| e.to_string().contains(m));
            assert!(unknown, "{field}: {e}");
            false
        }
    }
}

async fn rows(
    registry: &Arc<ConnectionRegistry>,
    index: &str,
    with: &[(&str, &str)],
    sql: &str,
) -> Result<Vec<Map<String, Value>>> {
    let ctx = SessionContext::new();
    let table = EsTable::try_new(Arc::clone(registry), "test", index, &options(with)).await?;
    ctx.register_table("t", Arc::new(table))?;
    let plan = ctx.sql(sql).await?.into_unoptimized_plan();
    let (plan, open) = open_contexts(plan).await?;
    let response = ctx.execute_logical_plan(plan).await?.collect().await;
    open.close().await?;
    let mut writer = ArrayWriter::new(Vec::new());
    for batch in &response? {
        writer.write(batch)?;
    }
    writer.finish()?;
    let text = writer.into_inner();
    Ok(if text.is_empty() { Vec::new() } else { serde_json::from_slice(&text).unwrap() })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_type_is_read_as_the_docs_say() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        let product = fetch_server(&connection).await.unwrap().product;
        let mut fields = fields(product);
        let mut known = Vec::new();
        for field in &fields {
            known.push(has_type(&connection, &field.1).await);
        }
        let mut known = known.into_iter();
        fields.retain(|_| known.next().unwrap());
        assert!(fields.len() >= 20, "{url}: {} types are too few", fields.len());
        let object = |pick: fn(&(&'static str, Value, Value, Value)) -> Value| -> Value {
            fields.iter().map(|f| (f.0.to_owned(), pick(f))).collect::<Map<_, _>>().into()
        };
        make(&connection, "types", &object(|f| f.1.clone()), &[object(|f| f.2.clone()), json!({})]).await;
        for read in ["pit", "scroll"] {
            let with = [("metadata", "true"), ("read", read)];
            let readable = |name: &str| name != "the_same" || product == Product::Elasticsearch;
            let names: Vec<&str> = fields.iter().map(|f| f.0).filter(|name| readable(name)).collect();
            let sql = format!("SELECT {} FROM t ORDER BY _id", names.join(", "));
            let rows_of = |sql: String| {
                let registry = &registry;
                async move { rows(registry, "types", &with, &sql).await }
            };
            let rows = rows_of(sql).await.unwrap();
            if !readable("the_same") && fields.iter().any(|f| f.0 == "the_same") {
                let error = rows_of("SELECT the_same FROM t".to_owned()).await.unwrap_err().to_string();
                assert!(error.contains("the_same"), "{error}");
            }
            for (name, mapping, said, expected) in fields.iter().filter(|f| readable(f.0)) {
                let seen = normal(rows[0].get(*name).unwrap_or(&Value::Null));
                assert_eq!(seen, normal(expected), "{url} {read} {name} {mapping}: {said}");
                // The second document has nothing but what the mapping itself says of every one.
                if *name != "the_same" {
                    assert_eq!(rows[1].get(*name), None, "{url} {read} {name}");
                }
            }
        }
        assert_nothing_open(&connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_values_are_an_error_that_names_them_or_a_list_where_declared() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        let properties = json!({ "tags": { "type": "keyword" }, "words": { "type": "text" } });
        let documents = [
            json!({ "tags": "a", "words": "one" }),
            json!({ "tags": ["z", "a"], "words": ["one", "two"] }),
            json!({ "tags": ["b"], "words": [] }),
        ];
        make(&connection, "several", &properties, &documents).await;
        for column in ["tags", "words"] {
            for read in ["pit", "scroll"] {
                let sql = format!("SELECT {column} FROM t");
                let error =
                    rows(&registry, "several", &[("read", read)], &sql).await.unwrap_err().to_string();
                for word in ["several", column, "arrays"] {
                    assert!(error.contains(word), "{url} {read}: {error}");
                }
                // A scroll page cannot be asked for again to find out which document it was.
                if read == "pit" {
                    assert!(error.contains("document \"1\""), "{url}: {error}");
                }
            }
        }
        let with = [("arrays", "tags,words"), ("metadata", "true")];
        let lists =
            rows(&registry, "several", &with, "SELECT tags, words FROM t ORDER BY _id").await.unwrap();
        assert_eq!(json!(lists[0]), json!({ "tags": ["a"], "words": ["one"] }), "{url}");
        assert_eq!(json!(lists[1]), json!({ "tags": ["a", "z"], "words": ["one", "two"] }), "{url}");
        assert_eq!(json!(lists[2]["tags"]), json!(["b"]), "{url}");
        let slip = rows(&registry, "several", &[("arrays", "tagz")], "SELECT tags FROM t").await;
        let slip = slip.unwrap_err().to_string();
        assert!(slip.contains("tagz") && slip.contains("did you mean \"tags\""), "{slip}");
        assert_nothing_open(&connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_without_a_column_is_an_error_or_json_text() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        let properties = json!({ "span": { "type": "integer_range" } });
        make(&connection, "unknown", &properties, &[json!({ "span": { "gte": 1, "lt": 5 } })]).await;
        let error = rows(&registry, "unknown", &[], "SELECT * FROM t").await.unwrap_err().to_string();
        for word in ["span", "unknown", "integer_range"] {
            assert!(error.contains(word), "{url}: {error}");
        }
        let read = rows(&registry, "unknown", &[("unknown_types", "json")], "SELECT * FROM t").await.unwrap();
        assert_eq!(normal(&read[0]["span"]), json!({ "gte": 1, "lt": 5 }), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_indices_are_widened_where_nothing_is_lost_and_refused_where_something_is() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        let kind = |kind: &str| json!({ "n": { "type": kind } });
        make(&connection, "wide_a", &kind("byte"), &[json!({ "n": 1 })]).await;
        make(&connection, "wide_b", &kind("long"), &[json!({ "n": i64::MAX })]).await;
        make(&connection, "wide_c", &json!({}), &[json!({})]).await;
        let read = rows(&registry, "wide_*", &[], "SELECT n FROM t ORDER BY n").await.unwrap();
        assert_eq!(json!(read), json!([{ "n": 1 }, { "n": i64::MAX }, {}]), "{url}");
        make(&connection, "wide_c", &kind("keyword"), &[json!({ "n": "x" })]).await;
        let error = rows(&registry, "wide_*", &[], "SELECT n FROM t").await.unwrap_err().to_string();
        for word in ["\"n\"", "keyword", "long", "wide_b", "wide_c"] {
            assert!(error.contains(word), "{url}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_the_server_left_out_are_an_error_and_null_on_request() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        let properties = json!({
            "short": { "type": "keyword", "ignore_above": 3 },
            "number": { "type": "long", "ignore_malformed": true },
            "other": { "type": "keyword" },
        });
        let properties = {
            let mut properties = properties;
            properties["same"] = json!({ "type": "alias", "path": "number" });
            properties
        };
        let documents = [
            json!({ "short": "abc", "number": 1, "other": "x" }),
            json!({ "short": "abcd", "number": 2, "other": "y" }),
            json!({ "short": "ab", "number": "many", "other": "z" }),
        ];
        make(&connection, "ignored", &properties, &documents).await;
        let noted = fetch_server(&connection).await.unwrap().notes_ignored_keywords();
        for read in ["pit", "scroll"] {
            for column in ["short", "number", "number, short", "same"] {
                // A filter that hides the document hides no error: `<>` holds for the value left out.
                for condition in ["", "WHERE short <> 'abc'", "WHERE number > 5 OR short <> 'abc'"] {
                    let sql = format!("SELECT {column} FROM t {condition}");
                    let response = rows(&registry, "ignored", &[("read", read)], &sql).await;
                    if !noted && !sql.contains("number") && column != "same" {
                        let expected = if condition.is_empty() { 3 } else { 2 };
                        assert_eq!(
                            response.unwrap().len(),
                            expected,
                            "{url} {read} {sql}: read from _source"
                        );
                        continue;
                    }
                    let error = response.unwrap_err().to_string();
                    let named = match column {
                        "short" if noted => "short",
                        _ => "number",
                    };
                    for word in ["ignored", named, "ignore_above", "null"] {
                        assert!(error.contains(word), "{url} {read} {sql}: {error}");
                    }
                }
            }
            // A list needs no look at its values to be null or not, but at whether they are all there.
            let list = [("read", read), ("arrays", "number")];
            for sql in [
                "SELECT count(*) FROM t WHERE number IS NOT NULL",
                "SELECT other FROM t WHERE number IS NULL",
            ] {
                let error = rows(&registry, "ignored", &list, sql).await.unwrap_err().to_string();
                assert!(error.contains("number"), "{url} {read} {sql}: {error}");
            }
            let with = [("read", read), ("ignored", "null")];
            let response = rows(&registry, "ignored", &with, "SELECT short FROM t ORDER BY other").await;
            assert_eq!(json!(response.unwrap()), json!([{ "short": "abc" }, {}, { "short": "ab" }]), "{url}");
            let others = rows(&registry, "ignored", &[("read", read)], "SELECT other FROM t").await;
            assert_eq!(others.unwrap().len(), 3, "{url}: a column that nothing was left out of");
        }
        assert_nothing_open(&connection).await;
    }
}

/// What is picked from `_source` is a part of it, and servers format it again.
#[tokio::test(flavor = "multi_thread")]
async fn what_source_does_not_tell_as_it_was_is_an_error() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        let properties = json!({ "v": { "type": "text" }, "raw": { "type": "object", "enabled": false } });
        make(&connection, "told", &properties, &[json!({ "v": "2.10", "raw": { "x": 1 } })]).await;
        let read = rows(&registry, "told", &[], "SELECT v, raw FROM t").await.unwrap();
        assert_eq!(json!(read), json!([{ "v": "2.10", "raw": "{\"x\":1}" }]), "{url}");
        for (document, column) in [(r#"{ "v": 2.10 }"#, "v"), (r#"{ "raw.x": 1 }"#, "raw")] {
            make(&connection, "told", &properties, &[]).await;
            let mut put = Request::new(Method::Put, "/told/_doc/d1", "put").with_param("refresh", "true");
            put.body = Some(document.into());
            connection.send(&put).await.unwrap();
            let sql = format!("SELECT {column} FROM t");
            let error = rows(&registry, "told", &[], &sql).await.unwrap_err().to_string();
            assert!(error.contains(column), "{url} {document}: {error}");
        }
    }
}
