//! Counts that are kept, and decided again.

use super::bench::json_of;
use crate::command::{assert_golden, flowsigma, stderr};
use crate::golden::{alone, assert_nothing_open, registry, remake, servers};
use flowsigma_tests::golden::NOTEBOOK_QUERY;
use flowsigma_tests::proxy::{Fault, Proxy};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn kept_counts_are_decided_again_without_a_request_to_the_index() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        remake(&connection, "kept", 3, "keyword").await;
        let proxy = Proxy::start(&url, |_| Fault::None).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = format!("file://{}/store", folder.path().display());
        let scope =
            ["detect", "--format", "json", "--url", &proxy.url, "--index", "kept", "--query", NOTEBOOK_QUERY];
        let window = ["--since", "1h", "--until", "now"];
        let kept = json_of(&flowsigma(&[&scope[..], &window, &["--store", &store]].concat()));
        assert_golden(&kept, &url);
        assert_eq!(kept["window"]["revision"], 1, "{url}");
        let fresh = json_of(&flowsigma(&[&scope[..], &window, &["--sigma", "5"]].concat()));
        assert_eq!(fresh["findings"], json!([]), "z is 4.99");
        let requests = proxy.seen().len();
        let again = |sigma: &str| {
            flowsigma(&["detect", "--format", "json", "--from-store", &store, "--sigma", sigma])
        };
        assert_eq!(json_of(&again("3"))["findings"], kept["findings"], "{url}");
        let decided = json_of(&again("5"));
        assert_eq!(
            (&decided["findings"], &decided["statistics"]),
            (&fresh["findings"], &fresh["statistics"])
        );
        assert_eq!(decided["windows"][0]["start"], kept["window"]["start"]);
        assert_eq!(proxy.seen().len(), requests, "{url}");

        let listed = json_of(&flowsigma(&["store", "list", &store, "--format", "json"]));
        assert_eq!((&listed[0]["state"], &listed[0]["findings"]), (&json!("done"), &json!(2)), "{listed}");
        let start = kept["window"]["start"].as_str().unwrap();
        let shown = json_of(&flowsigma(&["store", "show", &store, "--window", start]));
        assert_eq!(shown["report"]["statistics"], kept["statistics"]);
        let dropped = flowsigma(&["store", "drop", &store, "--window", start]);
        assert!(dropped.status.success(), "{}", stderr(&dropped));
        assert_eq!(again("3").status.code(), Some(2));
        assert_nothing_open(&connection).await;
    }
}
