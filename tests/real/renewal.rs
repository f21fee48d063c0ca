//! What is open stays open while a query waits.

use crate::faults::{registry, whole};
use crate::golden::{alone, assert_nothing_open, options, servers};
use datafusion::arrow::array::AsArray;
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{EsTable, open_contexts};
use elastic_client::{ContextKind, Method, Request};
use flowsigma_tests::cluster::POLL_INTERVAL;
use flowsigma_tests::golden::{documents, load};
use flowsigma_tests::proxy::{Fault, Proxy, Seen};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The point in time that a request renews.
fn renewed(seen: &Seen) -> Option<String> {
    let body: Value = serde_json::from_slice(&seen.body).ok()?;
    let renews = seen.page.is_some() && body["size"] == 0 && body["track_total_hits"] == false;
    renews.then(|| body["pit"]["id"].as_str().map(str::to_owned)).flatten()
}

/// How often each was renewed.
fn renewals(proxy: &Proxy) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for id in proxy.seen().iter().filter_map(renewed) {
        *counts.entry(id).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_fails_or_hangs_is_tried_again_and_stops_no_other() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        let all = documents();
        let names = ["renewed-a", "renewed-b", "renewed-c"];
        for (name, part) in names.iter().zip(all.chunks(all.len().div_ceil(3))) {
            let delete = Request::new(Method::Delete, format!("/{name}"), "delete a test index")
                .with_param("ignore_unavailable", "true");
            direct.send(&delete).await.unwrap();
            load(&direct, name, 1, "keyword", part).await.unwrap();
        }
        // The first renewal of the first is refused, that of the second gets no answer. Elasticsearch has one for all.
        let mut ids: Vec<(String, usize)> = Vec::new();
        let proxy = Proxy::start(&url, move |seen| {
            let Some(id) = renewed(seen) else { return Fault::None };
            let place = ids.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
                ids.push((id, 0));
                ids.len() - 1
            });
            ids[place].1 += 1;
            match (place, ids[place].1) {
                (0, 1) => Fault::status(500, "made_up_exception"),
                (1, 1) => Fault::Hold,
                _ => Fault::None,
            }
        });
        let proxy = proxy.await.unwrap();
        let registry = registry(&[&proxy.url], None);
        let with = options(&[("metadata", "true"), ("keep_alive", "2s"), ("read", "pit")]);
        let table = EsTable::try_new(Arc::clone(&registry), "test", "renewed-*", &with).await.unwrap();
        let ctx = SessionContext::new();
        ctx.register_table("t", Arc::new(table)).unwrap();
        let plan = ctx.sql("SELECT _index, _id FROM t").await.unwrap().into_unoptimized_plan();
        let (plan, open) = open_contexts(plan).await.unwrap();
        let expected = if open.kind() == Some(ContextKind::PitPerIndex) { 3 } else { 1 };
        let deadline = Instant::now() + Duration::from_secs(40);
        loop {
            let renewals = renewals(&proxy);
            if renewals.len() == expected && renewals.values().all(|count| *count >= 4) {
                break;
            }
            assert!(Instant::now() < deadline, "{url}: {renewals:?}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        let rows = ctx.execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
        let mut read = Vec::new();
        for batch in &rows {
            let (index, id) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
            read.extend((0..batch.num_rows()).map(|i| format!("{}/{}", index.value(i), id.value(i))));
        }
        whole(&read).unwrap();
        proxy.release();
        open.close().await.unwrap();
        for name in names {
            direct.send(&Request::new(Method::Delete, format!("/{name}"), "delete")).await.unwrap();
        }
        assert_nothing_open(&direct).await;
    }
}
