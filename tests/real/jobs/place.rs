//! The store of a job as other programs see it: objects below a folder or in a bucket.
//!
//! Owns: reading it without the code under test. Must not know: what a test expects of it.

use crate::golden::registry;
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The credentials of the S3 server, which takes any.
pub(super) const CREDENTIALS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")];

/// Returns the URL of the S3 server.
pub(super) fn s3() -> String {
    std::env::var("FLOWSIGMA_TEST_S3").expect("run scripts/test, which starts a server of S3")
}

/// A store.
pub(super) struct Place {
    /// The section `[store]` of a job file.
    pub(super) section: String,
    objects: Arc<dyn ObjectStore>,
}

impl Place {
    /// A folder.
    pub(super) fn folder(folder: &std::path::Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let objects = Arc::new(LocalFileSystem::new_with_prefix(folder).unwrap());
        Self { section: format!("[store]\nurl = \"file://{}\"", folder.display()), objects }
    }

    /// A new bucket, which jobs reach at `endpoint`.
    pub(super) async fn bucket(endpoint: &str) -> Self {
        let bucket = format!("jobs-{:016x}", rand::random::<u64>());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let created = client.put(format!("{}/{bucket}", s3())).send().await.unwrap();
        assert!(created.status().is_success(), "{created:?}");
        let objects = AmazonS3Builder::new()
            .with_endpoint(s3())
            .with_region("us-east-1")
            .with_bucket_name(&bucket)
            .with_allow_http(true)
            .with_access_key_id("test")
            .with_secret_access_key("test")
            .build()
            .unwrap();
        let section = format!(
            "[store]\nurl = \"s3://{bucket}\"\n[store.options]\n\
             endpoint = \"{endpoint}\"\nregion = \"us-east-1\"\nallow_http = \"true\""
        );
        Self { section, objects: Arc::new(objects) }
    }

    /// Returns the paths of all objects, in order.
    pub(super) async fn paths(&self) -> Vec<String> {
        let objects: Vec<_> = self.objects.list(None).try_collect().await.unwrap();
        let mut paths: Vec<String> = objects.into_iter().map(|object| object.location.to_string()).collect();
        paths.sort();
        paths
    }

    /// Returns the object at a path as JSON.
    pub(super) async fn json(&self, path: &str) -> Value {
        let object = self.objects.get(&Path::from(path)).await.unwrap().bytes().await.unwrap();
        serde_json::from_slice(&object).unwrap()
    }

    /// Returns the manifests of a job: all revisions of each window, by its start.
    pub(super) async fn manifests(&self, job: &str) -> BTreeMap<String, Vec<Value>> {
        let mut manifests = BTreeMap::<String, Vec<Value>>::new();
        let prefix = format!("{job}/windows/");
        let paths = self.paths().await;
        for path in paths.iter().filter(|path| path.starts_with(&prefix) && path.ends_with("/manifest.json"))
        {
            let manifest = self.json(path).await;
            manifests.entry(manifest["start"].as_str().unwrap().to_owned()).or_default().push(manifest);
        }
        manifests
    }

    /// Returns the number of windows with a manifest that start before a time in milliseconds.
    pub(super) async fn published(&self, job: &str, end: i64) -> usize {
        let end = chrono::DateTime::from_timestamp_millis(end).unwrap().format("%Y%m%dT%H%M%SZ").to_string();
        let folder = format!("{job}/windows/");
        let is_before = |path: &&String| {
            let window =
                path.strip_prefix(&folder).and_then(|path| path.strip_suffix("/r000001/manifest.json"));
            window.is_some_and(|window| *window < *end)
        };
        self.paths().await.iter().filter(is_before).count()
    }

    /// Returns the newest generation of a job's lease with its path, unless it was released.
    async fn lease(&self, job: &str) -> Option<(String, Value)> {
        let prefix = format!("{job}/lease/");
        let newest = self.paths().await.into_iter().rfind(|path| path.starts_with(&prefix))?;
        let lease = self.json(&newest).await;
        (lease["released"] != true).then_some((newest, lease))
    }

    /// Returns whether a process has the lease of a job, or had it as it was killed.
    pub(super) async fn is_leased_to(&self, job: &str, process: u32) -> bool {
        self.lease(job).await.is_some_and(|(_, lease)| is_of(&lease, process))
    }

    /// Ends the lease that a killed process has left, as the time would. Returns whether it had left one.
    pub(super) async fn end_lease(&self, job: &str, process: u32) -> bool {
        let Some((path, mut lease)) = self.lease(job).await.filter(|(_, lease)| is_of(lease, process)) else {
            return false;
        };
        for key in ["taken", "expires"] {
            lease[key] = json!("2000-01-01T00:00:00Z");
        }
        self.objects.put(&Path::from(path), lease.to_string().into()).await.unwrap();
        true
    }
}

/// Holders are host and process.
fn is_of(lease: &Value, process: u32) -> bool {
    lease["holder"].as_str().unwrap().ends_with(&format!(" {process}"))
}

/// Window, address, direction and number of flows of a finding.
pub(super) type Found = (String, String, String, u64);

/// Returns the findings of manifests.
pub(super) fn findings<'a>(manifests: impl IntoIterator<Item = &'a Value>) -> Vec<Found> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut found: Vec<Found> = Vec::new();
    for manifest in manifests {
        found.extend(manifest["findings"].as_array().unwrap().iter().map(|finding| {
            let direction = text(&finding["direction"]);
            let flows = finding[&direction].as_u64().unwrap();
            (text(&manifest["start"]), text(&finding["address"]), direction, flows)
        }));
    }
    found.sort();
    found
}

/// Returns the findings that an index of alerts has, those included that were withdrawn.
pub(super) async fn alerts(url: &str, index: &str) -> Vec<Found> {
    use elastic_client::{Method, Request};
    let connection = registry(url).get("test").unwrap();
    let refresh = Request::new(Method::Post, format!("/{index}/_refresh"), "refresh");
    connection.send(&refresh).await.unwrap();
    let search = Request::new(Method::Post, format!("/{index}/_search"), "read alerts")
        .with_body(&json!({ "size": 10_000 }));
    let response = connection.send(&search).await.unwrap().json("alerts").unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let alert = |hit: &Value| {
        let flowsigma = &hit["_source"]["flowsigma"];
        let direction = text(&flowsigma["direction"]);
        let end = if direction == "outgoing" { "source" } else { "destination" };
        let address = match text(&flowsigma["state"]).as_str() {
            "withdrawn" => format!("withdrawn {}", hit["_source"][end]["address"]),
            _ => text(&hit["_source"][end]["address"]),
        };
        (text(&flowsigma["window"]["start"]), address, direction, flowsigma["count"].as_u64().unwrap())
    };
    let mut alerts: Vec<Found> = response["hits"]["hits"].as_array().unwrap().iter().map(alert).collect();
    alerts.sort();
    alerts
}
