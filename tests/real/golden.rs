//! The notebook's job gives the notebook's numbers, however it is read and wherever it runs.

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{EsTable, open_contexts};
use elastic_client::{Connection, ConnectionConfig, ConnectionRegistry, Method, Request};
use flow_detect::{DetectSpec, Detection, Direction, plan_sql, read_detection};
use flowsigma_tests::cluster::{POLL_INTERVAL, embedded_context};
use flowsigma_tests::golden::{FLOWS, NOTEBOOK_QUERY, count_open_contexts, documents, load};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::OwnedMutexGuard;

/// The URLs of all servers, beginning with another one at each call, so that tests that run beside each other begin
/// with different ones.
pub(crate) fn servers() -> Vec<String> {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let names = std::env::var("FLOWSIGMA_TEST_SERVERS").expect("run scripts/test, which starts the servers");
    let mut urls: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
    let first = CALLS.fetch_add(1, Ordering::Relaxed) % urls.len().max(1);
    urls.rotate_left(first);
    urls
}

pub(crate) fn registry(url: &str) -> Arc<ConnectionRegistry> {
    let registry = ConnectionRegistry::default();
    registry.insert("test", &ConnectionConfig::from_url(url).unwrap()).unwrap();
    Arc::new(registry)
}

pub(crate) fn options(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub(crate) async fn remake(connection: &Connection, index: &str, shards: u32, address: &str) {
    let delete = Request::new(Method::Delete, format!("/{index}"), "delete a test index")
        .with_param("ignore_unavailable", "true");
    connection.send(&delete).await.unwrap();
    load(connection, index, shards, address, &documents()).await.unwrap();
}

pub(crate) async fn run(ctx: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    let plan = ctx.sql(sql).await?.into_unoptimized_plan();
    let (plan, open) = open_contexts(plan).await?;
    let response = ctx.execute_logical_plan(plan).await?.collect().await;
    open.close().await?;
    response
}

pub(crate) async fn detect(
    ctx: &SessionContext,
    registry: &Arc<ConnectionRegistry>,
    index: &str,
    with: &[(&str, &str)],
) -> Detection {
    let table = EsTable::try_new(Arc::clone(registry), "test", index, &options(with)).await.unwrap();
    ctx.deregister_table("flows").unwrap();
    ctx.register_table("flows", Arc::new(table)).unwrap();
    let spec = DetectSpec {
        table: "flows".into(),
        time_field: "@timestamp".into(),
        source_field: "netflow.ipv4_src_addr".into(),
        destination_field: "netflow.ipv4_dst_addr".into(),
        since: None,
        until: None,
        filter: None,
        sigma: "3".parse().unwrap(),
    };
    read_detection(&run(ctx, &plan_sql(&spec)).await.unwrap()).unwrap()
}

pub(crate) fn assert_golden(detection: &Detection, how: &str) {
    let found: Vec<_> = detection
        .findings
        .iter()
        .map(|f| (f.address.as_str(), f.direction, f.outgoing, f.incoming))
        .collect();
    let expected =
        [("20.54.0.162", Direction::Outgoing, 1253, 0), ("10.54.0.162", Direction::Incoming, 0, 1253)];
    assert_eq!(found, expected, "{how}");
    for column in [&detection.statistics.outgoing, &detection.statistics.incoming] {
        assert_eq!((column.count, column.max, column.min), (26, Some(1253), Some(0)), "{how}");
        assert_eq!(column.mean, Some(55.0), "{how}");
        assert!((column.stddev.unwrap() - 240.011858681).abs() < 1e-9, "{how}: {:?}", column.stddev);
    }
}

/// The count of rows of a table, as SQL counts them.
pub(crate) async fn count(ctx: &SessionContext, sql: &str) -> Result<i64> {
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::Int64Type;
    let batches = run(ctx, sql).await?;
    Ok(batches
        .iter()
        .filter(|b| b.num_rows() > 0)
        .map(|b| b.column(0).as_primitive::<Int64Type>().value(0))
        .sum())
}

/// Whether a test runs in all ways instead of chosen ones, as with `scripts/test --all-servers`.
pub(crate) fn in_all_ways() -> bool {
    std::env::var_os("FLOWSIGMA_TEST_ALL_WAYS").is_some()
}

/// How many documents [`remake`] loads.
pub(crate) fn loaded() -> i64 {
    documents().len() as i64
}

/// Waits until no other test uses this server: open contexts are counted over a whole server.
pub(crate) async fn alone(server: &str) -> OwnedMutexGuard<()> {
    static SERVERS: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>> = Mutex::new(BTreeMap::new());
    let server = Arc::clone(SERVERS.lock().unwrap().entry(server.to_owned()).or_default());
    server.lock_owned().await
}

/// Scrolls are freed in the background, so this waits for the state.
pub(crate) async fn assert_nothing_open(connection: &Connection) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while count_open_contexts(connection).await.unwrap() > 0 {
        assert!(std::time::Instant::now() < deadline, "{connection:?}: contexts left open");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_numbers_by_pit_and_scroll_and_by_keyword_and_ip() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let connection = registry.get("test").unwrap();
        let ctx = embedded_context(Arc::clone(&registry)).await.unwrap();
        for address in ["keyword", "ip"] {
            let index = format!("golden_{address}");
            remake(&connection, &index, 3, address).await;
            for read in ["pit", "scroll"] {
                for slices in ["1", "3", "8"] {
                    let with =
                        [("query", NOTEBOOK_QUERY), ("read", read), ("slices", slices), ("page_size", "50")];
                    let how = format!("{url} {address} {read} {slices}");
                    assert_golden(&detect(&ctx, &registry, &index, &with).await, &how);
                }
            }
        }
        assert_nothing_open(&connection).await;
    }
}

#[test]
fn the_golden_flows_are_1430() {
    assert_eq!(FLOWS.iter().map(|(_, _, n)| n).sum::<usize>(), 1430);
}
