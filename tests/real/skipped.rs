//! Indices of a pattern or an alias that are not read, because no document in them matches.

use crate::command::{flowsigma, stderr, stdout};
use crate::differential::seed;
use crate::golden::{alone, assert_nothing_open, options, registry, servers};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::error::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{
    EsTable, PushAggregates, TopN, open_contexts, open_matching_contexts, prove_filters,
};
use elastic_client::{Connection, Method, Product, Request, fetch_server};
use flowsigma_tests::bulk::{self, Found};
use flowsigma_tests::cluster::Cluster;
use flowsigma_tests::proxy::{Fault, Proxy, Seen};
use rand::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

/// The days of the indices `PREFIX-1` and so on.
const DAYS: usize = 5;

/// A statement that was run, and what was read for it.
#[derive(Debug, PartialEq)]
struct Ran {
    rows: String,
    slices: usize,
    skipped: usize,
}

async fn send(connection: &Connection, method: Method, path: String, body: Value) {
    let request = Request::new(method, path, "prepare a test index").with_body(&body);
    connection.send(&request).await.unwrap();
}

/// Creates an index for each day, with two shards and `per_day` documents of that day.
async fn make_days(connection: &Connection, prefix: &str, per_day: usize) {
    for day in 1..=DAYS {
        let name = format!("{prefix}-{day}");
        let delete = Request::new(Method::Delete, format!("/{name}"), "delete a test index")
            .with_param("ignore_unavailable", "true");
        connection.send(&delete).await.unwrap();
        let create = json!({
            "settings": { "number_of_shards": 2, "number_of_replicas": 0 },
            "mappings": { "properties": {
                "at": { "type": "date" }, "who": { "type": "keyword" },
                "n": { "type": "long", "ignore_malformed": true },
            } },
        });
        send(connection, Method::Put, format!("/{name}"), create).await;
        let documents: Vec<Value> = (0..per_day)
            .map(|i| json!({ "at": format!("2026-01-0{day}T{:02}:00:00Z", i % 24), "who": format!("h{}", i % 7), "n": i + 100 * day }))
            .collect();
        // Several segments.
        for (part, documents) in documents.chunks(10).enumerate() {
            let ids = documents.iter().enumerate().map(|(id, document)| (format!("{part}-{id}"), document));
            bulk::load(connection, &name, ids, Found::AtOnce).await.unwrap();
        }
    }
}

async fn add(connection: &Connection, index: &str, id: &str, document: Value) {
    bulk::load(connection, index, [(id.to_owned(), &document)], Found::AtOnce).await.unwrap();
}

/// Runs a statement over the table `t`, with all indices or without those in which nothing matches.
async fn ask(url: &str, index: &str, with: &[(&str, &str)], sql: &str, all: bool) -> Result<Ran> {
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_physical_optimizer_rule(Arc::new(PushAggregates))
        .with_physical_optimizer_rule(Arc::new(TopN));
    let ctx = SessionContext::new_with_state(state.build());
    let table = EsTable::try_new(registry(url), "test", index, &options(with)).await?;
    ctx.register_table("t", Arc::new(table))?;
    let plan = ctx.state().create_logical_plan(sql).await?;
    let (plan, open) = match all {
        true => open_contexts(plan).await?,
        false => open_matching_contexts(plan, &ctx.state()).await?,
    };
    let (slices, skipped) = (open.slices(), open.skipped_indices());
    let rows = async {
        let plan = prove_filters(plan, &ctx.state()).await?;
        ctx.execute_logical_plan(plan).await?.collect().await
    };
    let rows = rows.await;
    open.close().await?;
    Ok(Ran { rows: pretty_format_batches(&rows?)?.to_string(), slices, skipped })
}

const ONE_DAY: &str = "SELECT who, count(*) AS c, sum(n) AS s FROM t WHERE at >= '2026-01-03' AND at < '2026-01-04' GROUP BY who \
     ORDER BY who";

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_time_reads_the_indices_that_have_it_whatever_their_names() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        make_days(&connection, "skip-days", 50).await;
        for read in ["auto", "scroll"] {
            let whole = ask(&url, "skip-days-*", &[("read", read)], ONE_DAY, true).await.unwrap();
            assert_eq!((whole.slices, whole.skipped), (10, 0), "{url}");
            let ran = ask(&url, "skip-days-*", &[("read", read)], ONE_DAY, false).await.unwrap();
            assert_eq!(ran, Ran { rows: whole.rows, slices: 2, skipped: 4 }, "{url} {read}");
        }
        // A document that its index's name does not tell.
        add(
            &connection,
            "skip-days-5",
            "late",
            json!({ "at": "2026-01-03T12:00:00Z", "who": "late", "n": 1 }),
        )
        .await;
        let whole = ask(&url, "skip-days-*", &[], ONE_DAY, true).await.unwrap();
        let ran = ask(&url, "skip-days-*", &[], ONE_DAY, false).await.unwrap();
        assert!(ran.rows.contains("late"), "{url}: {}", ran.rows);
        assert_eq!(ran, Ran { rows: whole.rows, slices: 4, skipped: 3 }, "{url}");
        // Two scans of one statement share the indices that either of them needs.
        let sql = "SELECT (SELECT count(*) FROM t WHERE at < '2026-01-02') AS a, \
                   (SELECT count(*) FROM t WHERE at >= '2026-01-05') AS b";
        let whole = ask(&url, "skip-days-*", &[], sql, true).await.unwrap();
        let ran = ask(&url, "skip-days-*", &[], sql, false).await.unwrap();
        assert_eq!(ran, Ran { rows: whole.rows, slices: 4, skipped: 3 }, "{url}");
        // Without a filter, and where every index has a match, all are read. Where none has, there is no row.
        for (sql, skipped) in [
            ("SELECT count(*) FROM t", 0),
            ("SELECT count(*) FROM t WHERE n >= 0", 0),
            ("SELECT who FROM t WHERE at > '2030-01-01'", 4),
        ] {
            let whole = ask(&url, "skip-days-*", &[], sql, true).await.unwrap();
            let ran = ask(&url, "skip-days-*", &[], sql, false).await.unwrap();
            assert_eq!((ran.rows, ran.skipped), (whole.rows, skipped), "{url} {sql}");
        }
        assert_nothing_open(&connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_with_a_dropped_value_is_not_skipped() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        make_days(&connection, "skip-dropped", 10).await;
        let bad = json!({ "at": "2026-01-02T01:00:00Z", "who": "bad", "n": "many" });
        add(&connection, "skip-dropped-2", "bad", bad).await;
        let sql = "SELECT who FROM t WHERE n >= 500 ORDER BY who";
        for all in [true, false] {
            let error = ask(&url, "skip-dropped-*", &[], sql, all).await.unwrap_err().to_string();
            assert!(error.contains("documents have values of \"n\""), "{url}: {error}");
        }
        let null = [("ignored", "null")];
        let whole = ask(&url, "skip-dropped-*", &null, sql, true).await.unwrap();
        let ran = ask(&url, "skip-dropped-*", &null, sql, false).await.unwrap();
        assert_eq!(ran, Ran { rows: whole.rows, slices: 2, skipped: 4 }, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_keeps_its_filter_and_its_routing() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        make_days(&connection, "skip-alias", 30).await;
        let add = |alias: &str, day: usize, more: (&str, Value)| json!({ "add": { "index": format!("skip-alias-{day}"), "alias": alias, more.0: more.1 } });
        let filter = || ("filter", json!({ "term": { "who": "h3" } }));
        let mut actions: Vec<Value> = (1..=3).map(|day| add("skip-filtered", day, filter())).collect();
        actions.push(add("skip-filtered", 4, ("is_hidden", json!(false))));
        actions.extend((1..=4).map(|day| add("skip-routed", day, ("routing", json!("x")))));
        let mut body = json!({ "actions": actions });
        if fetch_server(&connection).await.unwrap().product == Product::OpenSearch {
            body["actions"][3]["add"].as_object_mut().unwrap().remove("is_hidden");
        }
        send(&connection, Method::Post, "/_aliases".into(), body).await;
        let sql = "SELECT who, count(*) AS c FROM t WHERE at >= '2026-01-03' GROUP BY who ORDER BY who";
        let whole = ask(&url, "skip-filtered", &[], sql, true).await.unwrap();
        let ran = ask(&url, "skip-filtered", &[], sql, false).await.unwrap();
        assert_eq!(ran, Ran { rows: whole.rows, slices: 4, skipped: 2 }, "{url}");
        // Only a point in time over the alias itself keeps its routing.
        let whole = ask(&url, "skip-routed", &[], sql, true).await;
        let ran = ask(&url, "skip-routed", &[], sql, false).await;
        match (whole, ran) {
            (Ok(whole), Ok(ran)) => assert_eq!(ran, whole, "{url}"),
            (Err(whole), Err(ran)) => assert_eq!(ran.to_string(), whole.to_string(), "{url}"),
            (whole, ran) => panic!("{url}: {whole:?} {ran:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_proves_nothing_skips_nothing() {
    fn asks_for_indices(seen: &Seen) -> bool {
        seen.query.contains("pre_filter_shard_size")
    }
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        make_days(&connection, "skip-faults", 20).await;
        let whole = ask(&url, "skip-faults-*", &[], ONE_DAY, true).await.unwrap();
        let faults = [
            Fault::status(403, "security_exception"),
            Fault::status(400, "parsing_exception"),
            Fault::Rewrite(|body| body["_shards"]["failed"] = json!(1)),
            Fault::Rewrite(|body| body["_shards"]["total"] = json!(9)),
            Fault::Rewrite(|body| body["timed_out"] = json!(true)),
            Fault::Rewrite(|body| body["aggregations"] = Value::Null),
            Fault::Rewrite(|body| body["aggregations"]["indices"]["sum_other_doc_count"] = json!(1)),
        ];
        for fault in faults {
            let how = format!("{url} {fault:?}");
            let rule = move |seen: &Seen| if asks_for_indices(seen) { fault.clone() } else { Fault::None };
            let proxy = Proxy::start(&url, rule).await.unwrap();
            let ran = ask(&proxy.url, "skip-faults-*", &[], ONE_DAY, false).await.unwrap();
            assert_eq!(ran, whole, "{how}");
            assert_eq!(proxy.seen().iter().filter(|seen| asks_for_indices(seen)).count(), 1, "{how}");
        }
        // A user may read an alias or a pattern, but not the index behind it.
        let rule = |seen: &Seen| match seen.method.as_str() == "POST"
            && seen.path.ends_with("/_pit")
            && !seen.path.contains('*')
        {
            true => Fault::status(403, "security_exception"),
            false => Fault::None,
        };
        let proxy = Proxy::start(&url, rule).await.unwrap();
        let ran = ask(&proxy.url, "skip-faults-*", &[], ONE_DAY, false).await.unwrap();
        assert_eq!(ran.rows, whole.rows, "{url}");
        if fetch_server(&connection).await.unwrap().product == Product::Elasticsearch {
            assert_eq!(ran.skipped, 0, "{url}: the whole pattern is read");
        }
        assert_nothing_open(&connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_filters_find_the_same_with_and_without_skipping() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        make_days(&connection, "skip-random", 40).await;
        let mut skipped = 0;
        for _ in 0..40 {
            let mut clauses = Vec::new();
            for _ in 0..rng.random_range(1..=3) {
                clauses.push(match rng.random_range(0..5) {
                    0 => format!(
                        "at >= '2026-01-0{}T{:02}:00:00Z'",
                        rng.random_range(1..=6),
                        rng.random_range(0..24)
                    ),
                    1 => format!(
                        "at < '2026-01-0{}T{:02}:00:00Z'",
                        rng.random_range(1..=6),
                        rng.random_range(0..24)
                    ),
                    2 => format!("n = {}", rng.random_range(90..560)),
                    3 => format!("who IN ('h{}', 'h{}')", rng.random_range(0..9), rng.random_range(0..9)),
                    _ => format!("n BETWEEN {0} AND {0} + 30", rng.random_range(90..560)),
                });
            }
            let filter = clauses.join([" AND ", " OR "][rng.random_range(0..2)]);
            let sql = format!("SELECT at, who, n FROM t WHERE {filter} ORDER BY n, at, who");
            let whole = ask(&url, "skip-random-*", &[], &sql, true).await.unwrap();
            let ran = ask(&url, "skip-random-*", &[], &sql, false).await.unwrap();
            assert_eq!(ran.rows, whole.rows, "{url} FLOWSIGMA_SEED={seed} {sql}");
            skipped += ran.skipped;
        }
        assert!(skipped > 20, "{url} FLOWSIGMA_SEED={seed}: only {skipped} indices were skipped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detection_says_how_many_indices_it_skipped() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        make_days(&connection, "skip-detect", 20).await;
        let config = format!("[connections.prod]\nnodes = [\"{url}\"]\n");
        let cluster = Cluster::start(2, 2, &config).await.unwrap();
        let file = cluster.folder.path().join("flowsigma.toml");
        let (file, scheduler) = (file.to_str().unwrap(), cluster.scheduler_url.as_str());
        let of = ["--config", file, "--connection", "prod", "--index", "skip-detect-*", "--time-field", "at"];
        let fields = ["--source-field", "who", "--destination-field", "who"];
        let when = ["--since", "2026-01-03", "--until", "2026-01-05"];
        let detect = |format: &str, way: &str, cluster: &[&str]| {
            let how = ["detect", "--format", format, "--option", way];
            let output = flowsigma(&[&how[..], &of, &fields, &when, cluster].concat());
            assert!(output.status.success(), "{url} {way} {cluster:?}: {}", stderr(&output));
            stdout(&output).to_owned()
        };
        for cluster in [&[][..], &["--scheduler", scheduler]] {
            for way in ["aggregate=never", "aggregate=auto"] {
                let how = format!("{url} {way} {cluster:?}");
                let report: Value = serde_json::from_str(&detect("json", way, cluster)).unwrap();
                let coverage = &report["coverage"];
                assert_eq!(
                    (&coverage["slices"], &coverage["skipped_indices"]),
                    (&json!(4), &json!(3)),
                    "{how}"
                );
                assert_eq!((&coverage["documents"], &coverage["matched"]), (&json!(40), &json!(40)), "{how}");
            }
        }
        let table = detect("table", "aggregate=auto", &[]);
        assert!(table.contains("3 indices without a matching document skipped"), "{url}");
    }
}
