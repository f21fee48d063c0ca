//! No fault of a server or of the network gives fewer rows or more without an error.

use crate::golden::{alone, assert_nothing_open, options, remake, servers};
use anyhow::{Result, bail};
use datafusion::arrow::array::AsArray;
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{EsTable, open_contexts};
use elastic_client::{Connection, ConnectionConfig, ConnectionRegistry, Method, Request};
use flowsigma_tests::golden::documents;
use flowsigma_tests::proxy::{Fault, Proxy};
use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Frees scrolls whose id was on an answer that never arrived: their server keeps them for keep_alive.
async fn free_lost_scrolls(connection: &Connection) {
    let all = Request::new(Method::Delete, "/_search/scroll/_all", "free all scrolls");
    connection.send(&all).await.unwrap();
}

/// What must come of one broken page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Every row once.
    Exact,
    /// An error that names the index and the slice.
    Error,
    /// Either; which depends on the rows that are on the page.
    ExactOrError,
}
use Outcome::{Error, Exact, ExactOrError};

impl Kind {
    /// Whether the client never sees an answer that the server gave.
    fn loses_answer(&self) -> bool {
        matches!(self.fault, Fault::ResetAnswer | Fault::Truncate | Fault::Stall | Fault::CutBody)
    }
}

struct Kind {
    name: &'static str,
    fault: Fault,
    pit: Outcome,
    /// The first page of a scroll, before there is a scroll that could have moved on.
    opening: Outcome,
    /// Any later page of a scroll: it is never asked for twice.
    scroll: Outcome,
    /// Part of the error.
    says: &'static str,
}

fn transient(name: &'static str, fault: Fault) -> Kind {
    Kind { name, fault, pit: Exact, opening: Exact, scroll: Error, says: "" }
}

fn fatal(name: &'static str, fault: Fault, says: &'static str) -> Kind {
    Kind { name, fault, pit: Error, opening: Error, scroll: Error, says }
}

/// Changes the rows of a page. A search without rows has none.
fn change_hits(body: &mut Value, change: fn(&mut Vec<Value>)) {
    if let Some(hits) = body["hits"]["hits"].as_array_mut().filter(|hits| !hits.is_empty()) {
        change(hits);
    }
}

fn add_to_total(body: &mut Value, n: i64) {
    if let Some(total) = body["hits"]["total"]["value"].as_i64() {
        body["hits"]["total"]["value"] = json!(total + n);
    }
}

fn kinds() -> Vec<Kind> {
    let busy = "es_rejected_execution_exception";
    vec![
        transient("429", Fault::status(429, busy)),
        transient("429 later", Fault::status_with(429, busy, ("retry-after", "1".into()))),
        transient("502", Fault::status(502, "bad_gateway")),
        transient("503", Fault::status(503, "unavailable")),
        transient("504", Fault::status(504, "gateway_timeout")),
        transient("reset", Fault::Reset),
        transient("closed", Fault::Close),
        transient("reset answer", Fault::ResetAnswer),
        transient("truncated", Fault::Truncate),
        transient("stalled", Fault::Stall),
        fatal("500", Fault::status(500, "null_pointer_exception"), "500 null_pointer_exception"),
        fatal("expired", Fault::status(404, "search_context_missing_exception"), "keep_alive"),
        fatal("cut body", Fault::CutBody, ""),
        fatal("failed shard", Fault::Rewrite(|body| body["_shards"]["failed"] = json!(1)), "shards failed"),
        // As of a frozen index, which is not searched unless that is asked for.
        fatal("no shard", Fault::Rewrite(|body| body["_shards"]["total"] = json!(0)), "frozen"),
        // Elasticsearch 7 says so of every later page of a scroll.
        Kind {
            scroll: ExactOrError,
            ..fatal(
                "ended early",
                Fault::Rewrite(|body| body["terminated_early"] = json!(true)),
                "ended the search early",
            )
        },
        fatal(
            "a cluster skipped",
            Fault::Rewrite(|body| body["_clusters"] = json!({ "total": 2, "successful": 1, "skipped": 1 })),
            "1 remote clusters",
        ),
        fatal("timed out", Fault::Rewrite(|body| body["timed_out"] = json!(true)), "timed out"),
        fatal(
            "no shards",
            Fault::Rewrite(|body| drop(body.as_object_mut().unwrap().remove("_shards"))),
            "_shards",
        ),
        // Later pages of a point in time carry no total that could be wrong.
        Kind {
            pit: ExactOrError,
            ..fatal("total + 1", Fault::Rewrite(|body| add_to_total(body, 1)), "rows")
        },
        Kind {
            pit: ExactOrError,
            ..fatal("total - 1", Fault::Rewrite(|body| add_to_total(body, -1)), "rows")
        },
        fatal(
            "a row less",
            Fault::Rewrite(|body| change_hits(body, |hits| drop(hits.remove(0)))),
            "rows read",
        ),
        // A point in time goes on after the last row that it was given, so it gives that row again.
        Kind {
            pit: ExactOrError,
            ..fatal(
                "last row less",
                Fault::Rewrite(|body| change_hits(body, |hits| drop(hits.pop()))),
                "rows read",
            )
        },
        fatal(
            "a row twice",
            Fault::Rewrite(|body| change_hits(body, |hits| hits.insert(0, hits[0].clone()))),
            "rows",
        ),
    ]
}

pub(crate) fn registry(nodes: &[&str], timeout: Option<Duration>) -> Arc<ConnectionRegistry> {
    let mut config = ConnectionConfig::from_url(nodes[0]).unwrap();
    config.nodes = nodes.iter().flat_map(|n| ConnectionConfig::from_url(n).unwrap().nodes).collect();
    config.timeout = timeout;
    let registry = ConnectionRegistry::default();
    registry.insert("test", &config).unwrap();
    Arc::new(registry)
}

/// The `_id` of every row, in this process and without a scheduler that would try again.
pub(crate) async fn ids(
    registry: &Arc<ConnectionRegistry>,
    index: &str,
    with: &[(&str, &str)],
) -> Result<Vec<String>> {
    let table = EsTable::try_new(Arc::clone(registry), "test", index, &options(with)).await?;
    let ctx = SessionContext::new();
    ctx.register_table("t", Arc::new(table))?;
    let plan = ctx.sql("SELECT _id, src_addr_space FROM t").await?.into_unoptimized_plan();
    let (plan, open) = open_contexts(plan).await?;
    let response = async { ctx.execute_logical_plan(plan).await?.collect().await }.await;
    let closed = open.close().await;
    let mut ids = Vec::new();
    for batch in response? {
        ids.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    closed?;
    Ok(ids)
}

pub(crate) fn whole(ids: &[String]) -> Result<()> {
    let different: HashSet<&String> = ids.iter().collect();
    if (ids.len(), different.len()) != (documents().len(), documents().len()) {
        bail!("{} rows, {} different, of {}", ids.len(), different.len(), documents().len());
    }
    Ok(())
}

/// Whether `outcome` is what a read came to.
pub(crate) fn check(outcome: Outcome, says: &str, index: &str, read: Result<Vec<String>>) -> Result<()> {
    match (outcome, read) {
        (Exact | ExactOrError, Ok(ids)) => whole(&ids),
        (Error, Ok(ids)) => bail!("no error, and {} rows", ids.len()),
        (Exact, Err(e)) => bail!("an error: {e}"),
        (Error | ExactOrError, Err(e)) => {
            let text = e.to_string();
            let named = text.contains(&format!("index \"{index}\" slice ")) && text.contains(says);
            if named { Ok(()) } else { bail!("an error that does not say what: {text}") }
        }
    }
}

/// Breaks each page in turn in each way, and says what came of it that should not have.
async fn check_all(url: &str, index: &str, with: &[(&str, &str)], kinds: &[Kind]) -> Vec<String> {
    let untouched = Proxy::start(url, |_| Fault::None).await.unwrap();
    let through = registry(&[&untouched.url], None);
    whole(&ids(&through, index, with).await.unwrap()).unwrap();
    through.close().await;
    let pages = untouched.pages();
    assert!(pages >= 9, "{url} {with:?}: {pages} pages");
    let cases = kinds.iter().flat_map(|kind| (0..pages).map(move |page| (kind, page)));
    let checks = futures::stream::iter(cases).map(|(kind, page)| async move {
        let proxy = Proxy::break_page(url, page, kind.fault.clone()).await.unwrap();
        let timeout = matches!(kind.fault, Fault::Stall).then_some(Duration::from_secs(3));
        let registry = registry(&[&proxy.url], timeout);
        let rows = ids(&registry, index, with).await;
        // What is freed in the background has to be, before the proxy goes.
        registry.close().await;
        let broken = proxy.seen().into_iter().find(|s| s.page == Some(page)).unwrap();
        let search: Value = serde_json::from_slice(&broken.body).unwrap_or_default();
        let outcome = match broken.path.as_str() {
            // What asks whether documents have several values. Without an answer, the slice is read by doc values.
            "/_search" if search["size"] == 0 => Exact,
            "/_search" => kind.pit,
            "/_search/scroll" => kind.scroll,
            _ => kind.opening,
        };
        check(outcome, kind.says, index, rows)
            .map_err(|e| format!("{url} {with:?}, page {page}, {}: {e}", kind.name))
    });
    checks.buffer_unordered(8).filter_map(async |c| c.err()).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_at_every_page_is_mended_or_said() {
    let mut wrong = Vec::new();
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        remake(&direct, "faulty", 3, "keyword").await;
        // 1,730 rows are 13 full pages of 133 and one row more, so that a wrong total and a wrong
        // row can make up for each other.
        remake(&direct, "faulty_one", 1, "keyword").await;
        let of_rows: Vec<Kind> =
            kinds().into_iter().filter(|kind| matches!(kind.fault, Fault::Rewrite(_))).collect();
        // Every search is then one for a page, or for the proof of a slice.
        let ignored = ("ignored", "null");
        for read in ["pit", "scroll"] {
            let with = [("read", read), ("metadata", "true"), ("page_size", "200"), ("slices", "3"), ignored];
            let (lost, seen): (Vec<Kind>, Vec<Kind>) = kinds().into_iter().partition(Kind::loses_answer);
            wrong.extend(check_all(&url, "faulty", &with, &seen).await);
            assert_nothing_open(&direct).await;
            wrong.extend(check_all(&url, "faulty", &with, &lost).await);
            let with = [("read", read), ("metadata", "true"), ("page_size", "133"), ignored];
            wrong.extend(check_all(&url, "faulty_one", &with, &of_rows).await);
            free_lost_scrolls(&direct).await;
            assert_nothing_open(&direct).await;
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_an_error_and_its_target_hears_nothing() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        remake(&direct, "redirected", 3, "keyword").await;
        let elsewhere = Proxy::start(&url, |_| Fault::None).await.unwrap();
        let to = elsewhere.url.clone();
        for status in [301, 302, 307, 308] {
            let to = to.clone();
            let proxy = Proxy::start(&url, move |seen| match seen.page {
                Some(_) => Fault::status_with(status, "moved", ("location", format!("{to}{}", seen.path))),
                None => Fault::None,
            });
            let proxy = proxy.await.unwrap();
            for read in ["pit", "scroll"] {
                let with = [("read", read), ("metadata", "true"), ("slices", "3")];
                let read = ids(&registry(&[&proxy.url], None), "redirected", &with).await;
                check(Error, "redirects are not followed", "redirected", read).unwrap();
            }
        }
        assert_eq!(elsewhere.seen().len(), 0, "{url}");
    }
}
