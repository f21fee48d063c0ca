//! What servers, or what stands in front of them, answer in another shape than asked for.

use crate::faults::{ids, registry, whole};
use crate::golden::{alone, assert_nothing_open, remake, servers};
use flowsigma_tests::proxy::{Fault, Proxy};
use serde_json::json;

/// As a proxy that is asked for its health answers, and other JSON that is none of a server's answers.
const BODIES: [&str; 4] = [r#"{"message":"ok"}"#, r#"{"odd":{"mappings":1}}"#, "[]", "null"];

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_shape_is_an_error_whatever_was_asked() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        remake(&direct, "odd", 2, "keyword").await;
        for read in ["pit", "scroll"] {
            // So that documents are counted, too.
            let with = [("read", read), ("metadata", "true"), ("docs_per_slice", "300")];
            let proxy = Proxy::start(&url, |_| Fault::None).await.unwrap();
            let through = registry(&[&proxy.url], None);
            whole(&ids(&through, "odd", &with).await.unwrap()).unwrap();
            through.close().await;
            let asked = proxy.seen().len();
            for nth in 0..asked {
                for body in BODIES {
                    let mut seen = 0;
                    let rule = move |request: &flowsigma_tests::proxy::Seen| {
                        // Whatever is not freed stays open.
                        if request.method == "DELETE" {
                            return Fault::None;
                        }
                        seen += 1;
                        match seen - 1 == nth {
                            true => Fault::Response { status: 200, header: None, body: body.into() },
                            false => Fault::None,
                        }
                    };
                    let proxy = Proxy::start(&url, rule).await.unwrap();
                    let registry = registry(&[&proxy.url], None);
                    let read = ids(&registry, "odd", &with).await;
                    registry.close().await;
                    let how = format!("{url} {with:?} request {nth} {body}");
                    match read {
                        Ok(ids) => whole(&ids).unwrap_or_else(|e| panic!("{how}: {e}")),
                        Err(e) => assert!(!e.to_string().contains("panic"), "{how}: {e}"),
                    }
                }
            }
        }
        assert_nothing_open(&direct).await;
    }
}

/// As of a cluster that another one searches for us.
#[tokio::test(flavor = "multi_thread")]
async fn a_skipped_cluster_is_an_error_in_every_search() {
    for url in servers() {
        let _alone = alone(&url).await;
        let direct = registry(&[&url], None).get("test").unwrap();
        remake(&direct, "odd", 2, "keyword").await;
        for read in ["pit", "scroll"] {
            // Ignored values are looked for, too; nothing is sampled.
            let with = [("read", read), ("metadata", "true"), ("page_size", "500")];
            let proxy = Proxy::start(&url, |_| Fault::None).await.unwrap();
            whole(&ids(&registry(&[&proxy.url], None), "odd", &with).await.unwrap()).unwrap();
            for page in 0..proxy.pages() {
                let skipped = Fault::Rewrite(|body| {
                    body["_clusters"] = json!({ "total": 2, "successful": 1, "skipped": 1 })
                });
                let proxy = Proxy::break_page(&url, page, skipped).await.unwrap();
                let registry = registry(&[&proxy.url], None);
                let read = ids(&registry, "odd", &with).await;
                registry.close().await;
                let how = format!("{url} {with:?} {page}");
                let error = read.map(|ids| ids.len()).expect_err(&how).to_string();
                assert!(error.contains("remote clusters returned partial or no results"), "{how}: {error}");
            }
        }
        assert_nothing_open(&direct).await;
    }
}
