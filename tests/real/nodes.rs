//! Nodes that die, nodes that come back, and servers that have enough.

use crate::faults::{ids, registry, whole};
use crate::golden::{alone, assert_nothing_open, remake, servers};
use elastic_client::{Connection, ConnectionConfig, ConnectionRegistry};
use flowsigma_tests::proxy::{Fault, Proxy, Seen};
use std::net::{Ipv4Addr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

const WITH: [(&str, &str); 2] = [("metadata", "true"), ("page_size", "20")];

/// From the `nth` page on, from 0, everything is reset.
fn dies_at(nth: usize) -> impl FnMut(&Seen) -> Fault + Send + 'static {
    let mut dead = nth == 0;
    move |seen| {
        dead |= seen.page.is_some_and(|page| page >= nth);
        if dead { Fault::Reset } else { Fault::None }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_costs_no_row_is_left_out_and_is_asked_again_when_it_is_back() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        remake(&direct, "nodes", 3, "keyword").await;
        for dies in [0, 1, 10] {
            let how = format!("{url}, dies at page {dies}");
            let mortal = Proxy::start(&url, dies_at(dies)).await.unwrap();
            let healthy = Proxy::start(&url, |_| Fault::None).await.unwrap();
            let registry = registry(&[&mortal.url, &healthy.url], None);
            let with = [&WITH[..], &[("read", "pit")]].concat();
            whole(&ids(&registry, "nodes", &with).await.map_err(|e| format!("{how}: {e}")).unwrap()).unwrap();
            // 87 pages and more: were it asked in turn, it would have had half of them.
            let refused = mortal.seen().len() - 2 * dies.min(mortal.seen().len() / 2);
            assert!(refused < 20, "{how}: {refused} requests after its death");
            mortal.set_rule(|_| Fault::None);
            let (before, deadline) = (mortal.pages(), Instant::now() + Duration::from_secs(60));
            while mortal.pages() < before + 20 {
                assert!(Instant::now() < deadline, "{how}: not asked again");
                whole(&ids(&registry, "nodes", &with).await.unwrap()).unwrap();
            }
        }
        assert_nothing_open(&direct).await;
    }
}

/// A scroll page is never asked for twice, but one that was never sent may go elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_scroll_survives_a_node_that_takes_no_connections() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        remake(&direct, "nodes", 3, "keyword").await;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let closed = format!("http://127.0.0.1:{port}");
        let with = [&WITH[..], &[("read", "scroll")]].concat();
        let registry = registry(&[&closed, &url], None);
        whole(&ids(&registry, "nodes", &with).await.map_err(|e| format!("{url}: {e}")).unwrap()).unwrap();
        assert_nothing_open(&direct).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_enough_is_asked_less_and_then_more_again() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        remake(&direct, "nodes", 3, "keyword").await;
        let busy = |seen: &Seen| seen.page.is_some() && seen.in_flight > 4;
        let proxy = Proxy::start(&url, move |seen| match busy(seen) {
            true => Fault::status(429, "es_rejected_execution_exception"),
            false => Fault::None,
        });
        let proxy = proxy.await.unwrap();
        let mut config = ConnectionConfig::from_url(&proxy.url).unwrap();
        config.max_requests = NonZeroUsize::new(16);
        let registry = ConnectionRegistry::default();
        registry.insert("test", &config).unwrap();
        let registry = Arc::new(registry);
        let connection: Arc<Connection> = registry.get("test").unwrap();
        assert_eq!(connection.request_limit(), 16);
        let with = [&WITH[..], &[("read", "pit"), ("slices", "16")]].concat();
        whole(&ids(&registry, "nodes", &with).await.map_err(|e| format!("{url}: {e}")).unwrap()).unwrap();
        let lowered = connection.request_limit();
        assert!(lowered < 16, "{url}: still {lowered} at once");
        proxy.set_rule(|_| Fault::None);
        let deadline = Instant::now() + Duration::from_secs(60);
        while connection.request_limit() <= lowered {
            assert!(Instant::now() < deadline, "{url}: {} at once", connection.request_limit());
            whole(&ids(&registry, "nodes", &with).await.unwrap()).unwrap();
        }
        assert_nothing_open(&direct).await;
    }
}
