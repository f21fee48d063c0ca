//! An index is asked for by its name, and a name that is a path asks nothing.

use crate::command::{flowsigma, stderr};
use crate::faults::{ids, registry};
use crate::golden::{alone, assert_nothing_open, options, remake, servers};
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{EsTable, open_contexts};
use elastic_client::{ConnectionConfig, ConnectionRegistry, ContextRequest, Method, Request, open_context};
use flowsigma_tests::proxy::{Fault, Proxy};
use std::sync::Arc;

const PATHS: [&str; 12] = [
    ".",
    "..",
    "%2e%2e",
    "../_cat",
    "named/_doc",
    "named,..",
    "_cat",
    "named,",
    "named?q=a",
    "named#",
    "-..",
    "<named-{now/../..}>",
];

/// A registry whose connection `test` is behind a path of the proxy.
fn behind_a_path(proxy: &Proxy) -> Arc<ConnectionRegistry> {
    let registry = ConnectionRegistry::default();
    registry
        .insert("test", &ConnectionConfig::from_url(&format!("{}/behind/a/path", proxy.url)).unwrap())
        .unwrap();
    Arc::new(registry)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_a_path_is_refused_before_any_request() {
    let url = servers().remove(0);
    let _alone = alone(&url).await;
    let direct = registry(&[&url], None).get("test").unwrap();
    remake(&direct, "named", 1, "keyword").await;
    let proxy = Proxy::start(&url, |_| Fault::None).await.unwrap();
    let through = registry(&[&proxy.url], None);
    let table = EsTable::try_new(Arc::clone(&through), "test", "named", &options(&[])).await.unwrap();
    let before = proxy.seen().len();
    for index in PATHS {
        let refused = |error: String| {
            assert!(error.contains(&format!("index {index:?} is not sent to a server")), "{index}: {error}");
            assert_eq!(proxy.seen().len(), before, "{index}: {:?}", proxy.seen().last());
        };
        for registry in [Arc::clone(&through), behind_a_path(&proxy)] {
            let made = EsTable::try_new(Arc::clone(&registry), "test", index, &options(&[])).await;
            refused(made.unwrap_err().to_string());
            // As it arrives from another process.
            let mut spec = table.spec().clone();
            spec.index = index.to_owned();
            let ctx = SessionContext::new();
            ctx.register_table("t", Arc::new(EsTable::from_spec(registry, spec))).unwrap();
            let plan = ctx.sql("SELECT count(*) FROM t").await.unwrap().into_unoptimized_plan();
            refused(open_contexts(plan).await.unwrap_err().to_string());
        }
        let location = format!("elasticsearch://url/{index}");
        let create = format!("CREATE EXTERNAL TABLE t STORED AS ELASTICSEARCH LOCATION '{location}'");
        let sql = flowsigma(&["sql", "--url", &proxy.url, "-c", &create]);
        let detect = flowsigma(&["detect", "--url", &proxy.url, &format!("--index={index}")]);
        for output in [sql, detect] {
            assert_eq!(output.status.code(), Some(2), "{index}: {}", stderr(&output));
            refused(stderr(&output).to_owned());
        }
    }
    let request =
        ContextRequest { index: "..".into(), read: Default::default(), slices: None, matching: None };
    open_context(&through.get("test").unwrap(), &request).await.unwrap_err();
    assert_eq!(proxy.seen().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn date_math_names_an_index() {
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&[&url], None);
        let connection = registry.get("test").unwrap();
        let index = format!("dated-{}", chrono::Utc::now().format("%Y"));
        remake(&connection, &index, 3, "keyword").await;
        for read in ["pit", "scroll"] {
            for name in ["<dated-{now/y{yyyy}}>", "<dat*-{now/y{yyyy}}>"] {
                let read = ids(&registry, name, &[("read", read), ("metadata", "true")]).await.unwrap();
                crate::faults::whole(&read).unwrap();
            }
        }
        connection.send(&Request::new(Method::Delete, format!("/{index}"), "delete")).await.unwrap();
        assert_nothing_open(&connection).await;
    }
}
