//! What a pushed filter must not lose, case by case; the random ones are in `differential.rs`.

use crate::golden::{alone, assert_nothing_open, count, options, registry, remake, run, servers};
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::collect;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{EsTable, TopN, open_contexts};
use elastic_client::{Connection, Method, Request};
use flowsigma_tests::cluster::Cluster;
use flowsigma_tests::cluster::{embedded_context, remote_context};
use flowsigma_tests::proxy::{Fault, Proxy};
use serde_json::{Value, json};
use std::sync::Arc;

async fn send(connection: &Connection, method: Method, path: &str, body: Value) {
    let request = Request::new(method, path, "prepare a test index").with_param("refresh", "true");
    connection.send(&request.with_body(&body)).await.unwrap();
}

async fn put_mapping(connection: &Connection, index: &str, properties: Value) {
    let request = Request::new(Method::Put, format!("/{index}/_mapping"), "map a field")
        .with_body(&json!({ "properties": properties }));
    connection.send(&request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_older_than_the_keyword_of_its_text_is_found() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "late", 1, "keyword").await;
        put_mapping(&connection, "late", json!({ "note": { "type": "text" } })).await;
        send(&connection, Method::Put, "/late/_doc/old", json!({ "note": "same" })).await;
        let raw = json!({ "note": { "type": "text", "fields": { "raw": { "type": "keyword" } } } });
        put_mapping(&connection, "late", raw).await;
        send(&connection, Method::Put, "/late/_doc/new", json!({ "note": "same" })).await;
        let table = EsTable::try_new(Arc::clone(&registry), "test", "late", &options(&[])).await.unwrap();
        let ctx = SessionContext::new();
        ctx.register_table("t", Arc::new(table)).unwrap();
        for (condition, rows) in [("note = 'same'", 2), ("note LIKE 's%'", 2), ("note <> 'same'", 0)] {
            let sql = format!("SELECT count(*) FROM t WHERE {condition}");
            assert_eq!(count(&ctx, &sql).await.unwrap(), rows, "{url} {condition}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_filter_hides_a_document_of_which_one_value_would_be_kept() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "twice", 1, "keyword").await;
        let properties = json!({
            "k": { "type": "keyword" }, "n": { "type": "long" }, "d": { "type": "double" },
            "ip": { "type": "ip" }, "flag": { "type": "boolean" }, "at": { "type": "date" },
        });
        put_mapping(&connection, "twice", properties).await;
        let document = json!({
            "k": ["a", "b"], "n": [1, 3], "d": [0.5, 1.5], "ip": ["10.0.0.1", "11.0.0.1"],
            "flag": [true, false], "at": ["1969-01-01", "2024-01-01"],
        });
        send(&connection, Method::Put, "/twice/_doc/1", document).await;
        let table = EsTable::try_new(Arc::clone(&registry), "test", "twice", &options(&[])).await.unwrap();
        let ctx = SessionContext::new();
        for function in datafusion_elasticsearch::functions() {
            ctx.register_udf(function.as_ref().clone());
        }
        ctx.register_table("t", Arc::new(table)).unwrap();
        for kept in [
            "k <> 'a'",
            "NOT (k = 'a')",
            "k NOT IN ('a', 'c')",
            "k NOT LIKE 'a%'",
            "k NOT LIKE '%a'",
            "k NOT ILIKE 'A'",
            "k IS DISTINCT FROM 'a'",
            "k NOT BETWEEN 'a' AND 'aa'",
            "n <> 1",
            "n NOT BETWEEN 0 AND 2",
            "NOT (n > 1)",
            "NOT (n = 1 OR k = 'b')",
            "d <> 0.5",
            "ip <> '10.0.0.1'",
            "NOT cidr(ip, '10.0.0.0/8')",
            "NOT flag",
            "flag IS NOT TRUE",
            "at <> '1969-01-01'",
            "k IS NOT NULL",
        ] {
            let error = count(&ctx, &format!("SELECT count(*) FROM t WHERE {kept}")).await;
            let error = error.expect_err(kept).to_string();
            assert!(error.contains("more than one value"), "{url} {kept}: {error}");
        }
        // The 1,730 other documents have none of these fields.
        for (dropped, rows) in [("k = 'c'", 0), ("n = 2", 0), ("k IS NULL", 1730), ("ip = '12.0.0.1'", 0)] {
            let sql = format!("SELECT count(*) FROM t WHERE {dropped}");
            assert_eq!(count(&ctx, &sql).await.unwrap(), rows, "{url} {dropped}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_before_1970_equals_itself() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "dated", 1, "keyword").await;
        put_mapping(&connection, "dated", json!({ "at": { "type": "date" } })).await;
        for day in ["0001-01-01", "1900-01-01", "9999-12-31"] {
            send(&connection, Method::Put, &format!("/dated/_doc/{day}"), json!({ "at": day })).await;
        }
        let table = EsTable::try_new(Arc::clone(&registry), "test", "dated", &options(&[])).await.unwrap();
        let ctx = SessionContext::new();
        ctx.register_table("t", Arc::new(table)).unwrap();
        // DataFusion reads a text as nanoseconds, which these years are beyond.
        let at = |text: &str| format!("arrow_cast('{text}', 'Timestamp(Millisecond, None)')");
        let (first, last) = (at("0001-01-01T00:00:00"), at("9999-12-31T23:59:59.999"));
        for (condition, rows) in [
            ("at = '1900-01-01'".to_owned(), 1),
            ("at <> '1900-01-01'".to_owned(), 2),
            (format!("at <= {first}"), 1),
            (format!("at < {first}"), 0),
            (format!("at > {last}"), 0),
            (format!("at < {last}"), 3),
        ] {
            let sql = format!("SELECT count(*) FROM t WHERE {condition}");
            assert_eq!(count(&ctx, &sql).await.unwrap(), rows, "{url} {condition}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cidr_is_a_function_on_every_node() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        let config = format!("[connections.test]\nnodes = [\"{url}\"]\n");
        let cluster = Cluster::start(1, 2, &config).await.unwrap();
        for address in ["keyword", "ip"] {
            remake(&connection, "networks", 2, address).await;
            for embedded in [true, false] {
                let ctx = match embedded {
                    true => embedded_context(Arc::clone(&registry)).await.unwrap(),
                    false => remote_context(Arc::clone(&registry), &cluster.scheduler_url).await.unwrap(),
                };
                let table = EsTable::try_new(Arc::clone(&registry), "test", "networks", &options(&[])).await;
                ctx.register_table("t", Arc::new(table.unwrap())).unwrap();
                let cidr = r#"cidr("netflow.ipv4_src_addr", '20.54.0.160/28')"#;
                for (condition, rows) in [(cidr.to_owned(), 1326), (format!("NOT {cidr}"), 404)] {
                    let sql = format!("SELECT count(*) FROM t WHERE {condition}");
                    let how = format!("{url} {address} embedded {embedded}: {condition}");
                    assert_eq!(count(&ctx, &sql).await.expect(&how), rows, "{how}");
                }
            }
        }
    }
}

/// What a scan of one table says of itself in the plan, and what it counted.
async fn analyze(ctx: &SessionContext, sql: &str) -> String {
    let (plan, open) = open_contexts(ctx.state().create_logical_plan(sql).await.unwrap()).await.unwrap();
    let plan = ctx.state().create_physical_plan(&plan).await.unwrap();
    collect(Arc::clone(&plan), ctx.task_ctx()).await.unwrap();
    open.close().await.unwrap();
    let text = DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(false).to_string();
    text.lines().find(|line| line.contains("EsScanExec")).expect(&text).to_owned()
}

/// With the rule, as every node of a cluster has it.
fn with_rules() -> SessionContext {
    let builder = SessionStateBuilder::new().with_default_features();
    let ctx = SessionContext::new_with_state(builder.with_physical_optimizer_rule(Arc::new(TopN)).build());
    for function in datafusion_elasticsearch::functions() {
        ctx.register_udf(function.as_ref().clone());
    }
    ctx
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_counted_by_the_server_where_none_is_looked_at() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "counted", 3, "keyword").await;
        for read in ["pit", "scroll"] {
            let base = r#"{"term": {"netflow.ipv4_src_addr": "20.54.0.162"}}"#;
            for (query, rows, printed) in [(r#"{"match_all": {}}"#, 1730, "1.73 K"), (base, 1253, "1.25 K")] {
                let with = options(&[("read", read), ("query", query), ("page_size", "10")]);
                let table = EsTable::try_new(Arc::clone(&registry), "test", "counted", &with).await.unwrap();
                let ctx = with_rules();
                ctx.register_table("t", Arc::new(table)).unwrap();
                let how = format!("{url} {read} {query}");
                assert_eq!(count(&ctx, "SELECT count(*) FROM t").await.unwrap(), rows, "{how}");
                let fewer = "SELECT count(*) FROM (SELECT 1 FROM t LIMIT 1200)";
                assert_eq!(count(&ctx, fewer).await.unwrap(), 1200, "{how}");
                let scan = analyze(&ctx, "SELECT count(*) FROM t").await;
                for said in [", count,".to_owned(), "pages=3".to_owned(), format!("documents={printed},")] {
                    assert!(scan.contains(&said), "{how} {said}: {scan}");
                }
            }
        }
        assert_nothing_open(&connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_rows_are_asked_for_in_their_order() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "ordered", 3, "keyword").await;
        let (source, at) = (r#""netflow.ipv4_src_addr""#, r#""@timestamp""#);
        for read in ["pit", "scroll"] {
            let with = options(&[("read", read), ("metadata", "true")]);
            let table = EsTable::try_new(Arc::clone(&registry), "test", "ordered", &with).await.unwrap();
            let ctx = with_rules();
            ctx.register_table("t", Arc::new(table)).unwrap();
            for (rest, documents) in [
                (format!("ORDER BY {at} DESC LIMIT 5"), 15),
                (format!("ORDER BY {source} NULLS FIRST, {at} LIMIT 3 OFFSET 2"), 15),
            ] {
                let how = format!("{url} {read} {rest}");
                let scan = analyze(&ctx, &format!("SELECT {source} FROM t {rest}")).await;
                let said = format!("documents={documents},");
                assert!(scan.contains(", order=") && scan.contains(&said), "{how}: {scan}");
            }
            // What is filtered here as well, but without a row that the server does not know of.
            let private = "src_addr_space = 'private'";
            let rest = format!("WHERE {private} AND {at} > '2000-01-01' ORDER BY {at} LIMIT 5");
            let scan = analyze(&ctx, &format!("SELECT {source} FROM t {rest}")).await;
            assert!(
                scan.contains(", order=") && scan.contains("documents=15,"),
                "{url} {read} {rest}: {scan}"
            );
            for rest in [
                // The server is asked for both, but not for one of them only.
                format!("WHERE {private} OR length(src_addr_space) = 1 ORDER BY {at} LIMIT 5"),
                format!("WHERE {private} AND length(src_addr_space) = 7 ORDER BY {at} LIMIT 5"),
                format!("WHERE src_addr_space ILIKE 'PRIVATE' ORDER BY {at} LIMIT 5"),
            ] {
                let scan = analyze(&ctx, &format!("SELECT {source} FROM t {rest}")).await;
                assert!(!scan.contains(", order="), "{rest}: {scan}");
            }
            // The server does not order by `_id`.
            for rest in ["ORDER BY _id LIMIT 5", "ORDER BY length(src_addr_space) LIMIT 5"] {
                let scan = analyze(&ctx, &format!("SELECT {source} FROM t {rest}")).await;
                assert!(scan.contains("documents=1.73 K,") && !scan.contains(", order="), "{rest}: {scan}");
            }
        }
        assert_nothing_open(&connection).await;
    }
}

/// The first page of doc values has 1,000 rows: these are found again from page to page by a cursor, of
/// which a part may be missing.
#[tokio::test(flavor = "multi_thread")]
async fn first_rows_come_in_pages() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "ordered", 1, "keyword").await;
        let properties = json!({ "n": { "type": "long" }, "d": { "type": "double" }, "k": { "type": "keyword" },
                                 "at": { "type": "date" }, "flag": { "type": "boolean" } });
        put_mapping(&connection, "ordered", properties).await;
        let rows =
            [(i64::MIN, "1900-01-01"), (-1, "1969-12-31"), (0, "1970-01-01"), (i64::MAX, "2040-01-01")];
        for (id, (n, at)) in rows.into_iter().enumerate() {
            let document = json!({ "n": n, "d": n, "k": format!("k{n}"), "at": at, "flag": n > 0 });
            send(&connection, Method::Put, &format!("/ordered/_doc/{id}"), document).await;
        }
        for read in ["pit", "scroll"] {
            let contexts = ["true", "false"].map(|pushdown| (with_rules(), pushdown));
            for (ctx, pushdown) in &contexts {
                let with = options(&[("read", read), ("pushdown", pushdown)]);
                let table = EsTable::try_new(Arc::clone(&registry), "test", "ordered", &with).await.unwrap();
                ctx.register_table("t", Arc::new(table)).unwrap();
            }
            for key in ["n", "d", "k", "at", "flag", r#""@timestamp""#, r#""netflow.ipv4_src_addr""#] {
                for way in ["ASC NULLS FIRST", "ASC NULLS LAST", "DESC NULLS FIRST", "DESC NULLS LAST"] {
                    let sql = format!("SELECT {key} FROM t ORDER BY {key} {way} LIMIT 1732");
                    let mut responses = Vec::new();
                    for (ctx, _) in &contexts {
                        let plan = ctx.state().create_logical_plan(&sql).await.unwrap();
                        let (plan, open) = open_contexts(plan).await.unwrap();
                        let rows = ctx.execute_logical_plan(plan).await.unwrap().collect().await;
                        open.close().await.unwrap();
                        let rows = rows.unwrap_or_else(|e| panic!("{url} {read} {sql}: {e}"));
                        responses.push(
                            datafusion::arrow::util::pretty::pretty_format_batches(&rows)
                                .unwrap()
                                .to_string(),
                        );
                    }
                    assert!(responses[0] == responses[1], "{url} {read} {sql}: {}", responses[0]);
                }
            }
            let scan = analyze(&contexts[0].0, "SELECT n FROM t ORDER BY n LIMIT 1732").await;
            let pages = if read == "pit" { "pages=2," } else { "pages=1," };
            assert!(scan.contains(pages) && scan.contains("documents=1.73 K,"), "{url} {read}: {scan}");
        }
        assert_nothing_open(&connection).await;
    }
}

/// A limit ends a read before all rows that the server counted are there.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_less_is_an_error_under_a_limit_too() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&url);
        remake(&direct.get("test").unwrap(), "ordered", 2, "keyword").await;
        let less = |body: &mut Value| {
            let hits = body["hits"]["hits"].as_array_mut().unwrap();
            hits.truncate(1.max(hits.len() - 1));
        };
        let proxy = Proxy::start(&url, move |seen| match seen.page {
            Some(_) => Fault::Rewrite(less),
            None => Fault::None,
        });
        let proxy = proxy.await.unwrap();
        let registry = registry(&proxy.url);
        for read in ["pit", "scroll"] {
            let with = options(&[("read", read), ("ignored", "null")]);
            let table = EsTable::try_new(Arc::clone(&registry), "test", "ordered", &with).await.unwrap();
            let ctx = with_rules();
            ctx.register_table("t", Arc::new(table)).unwrap();
            for rest in ["LIMIT 5", r#"ORDER BY "@timestamp" LIMIT 5"#] {
                let how = format!("{url} {read} {rest}");
                let sql = format!("SELECT src_addr_space FROM t {rest}");
                let error = run(&ctx, &sql).await.expect_err(&how).to_string();
                assert!(error.contains("rows read of"), "{how}: {error}");
            }
        }
        assert_nothing_open(&direct.get("test").unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn match_asks_the_server_for_words() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        remake(&connection, "words", 2, "keyword").await;
        let properties = json!({ "note": { "type": "text" }, "hidden": { "type": "text", "index": false } });
        put_mapping(&connection, "words", properties).await;
        for (id, note) in [("1", "The quick fox"), ("2", "a slow fox"), ("3", "nothing")] {
            send(&connection, Method::Put, &format!("/words/_doc/{id}"), json!({ "note": note })).await;
        }
        for pushdown in ["true", "false"] {
            let with = options(&[("pushdown", pushdown), ("metadata", "true")]);
            let table = EsTable::try_new(Arc::clone(&registry), "test", "words", &with).await.unwrap();
            let ctx = with_rules();
            ctx.register_table("t", Arc::new(table)).unwrap();
            let private = "SELECT count(*) FROM t WHERE src_addr_space = 'private'";
            let private = count(&ctx, private).await.unwrap();
            for (condition, rows) in [
                ("match(note, 'FOX')", 2),
                ("match(note, 'quick nothing')", 2),
                // The 1,730 others have no note.
                ("NOT match(note, 'fox')", 1),
                ("match(note, 'fox') AND NOT match(note, 'slow')", 1),
                ("match(note, 'slow') OR match(note, 'nothing')", 2),
                ("match(note, 'fox') AND note LIKE 'a%'", 1),
                ("match(src_addr_space, 'private') AND NOT src_addr_space = 'private'", 0),
                ("match(src_addr_space, 'private') AND note IS NULL", private),
                ("_id = '3' OR match(note, 'slow')", 2),
                ("NOT (_id = '2' OR match(note, 'quick'))", 1),
                ("(NOT (_id = '2' OR match(note, 'quick'))) IS TRUE", 1),
                ("_id <> '1' AND match(note, 'fox')", 1),
            ] {
                let sql = format!("SELECT count(*) FROM t WHERE {condition}");
                let how = format!("{url} pushdown {pushdown}: {condition}");
                assert_eq!(count(&ctx, &sql).await.expect(&how), rows, "{how}");
            }
            for refused in [
                "SELECT count(*) FROM t WHERE match(note, 'fox') OR src_addr_space = 'private'",
                "SELECT count(*) FROM t WHERE match(note, src_addr_space)",
                "SELECT count(*) FROM t WHERE match(hidden, 'fox')",
                "SELECT count(*) FROM t WHERE match(\"@timestamp\", '2024')",
                "SELECT count(match(note, 'fox')) FROM t",
                "SELECT count(*) FROM t WHERE _id > '2' OR match(note, 'fox')",
                "SELECT count(*) FROM t WHERE (_id > '2' OR match(note, 'fox')) IS NOT TRUE",
            ] {
                let error = count(&ctx, refused).await.expect_err(refused).to_string();
                assert!(error.contains("runs only on the server"), "{url} {refused}: {error}");
            }
        }
    }
}
