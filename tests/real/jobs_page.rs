//! docs/jobs.md, followed to the letter.

use crate::golden::{alone, assert_nothing_open, registry, servers};
use elastic_client::{Connection, Method, Request};
use flowsigma_tests::cluster::binary;
use flowsigma_tests::document;
use std::path::Path;

/// The server of the page.
const SERVER: &str = "http://127.0.0.1:9200";

async fn delete_indices(connection: &Connection) {
    for path in ["/flows-jobs", "/flowsigma-alerts"] {
        let delete = Request::new(Method::Delete, path, "delete").with_param("ignore_unavailable", "true");
        connection.send(&delete).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_leads_from_nothing_to_alerts_in_an_index() {
    let page = include_str!("../../docs/jobs.md");
    // What follows describes commands, with files and folders that the first section does not make.
    let (steps, _) = page.split_once("## What a run does").unwrap();
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let programs = binary("flowsigma").unwrap();
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        delete_indices(&connection).await;
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(checkout.join("examples"), folder.path().join("examples")).unwrap();
        let checked =
            document::run(steps, folder.path(), programs.parent().unwrap(), &[(SERVER, url.as_str())]);
        assert_eq!(checked.unwrap(), 8, "{url}");
        assert_nothing_open(&connection).await;
        delete_indices(&connection).await;
    }
}
