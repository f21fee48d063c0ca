use super::*;
use crate::manifest::{Manifest, WindowTimes};
use crate::run::test_data::{hour, manifest};
use jiff::{SignedDuration, Timestamp};

/// A store in memory and one in a folder, which is deleted with the second value.
fn stores() -> Vec<(Store, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().unwrap();
    let url = url::Url::from_directory_path(folder.path()).unwrap();
    let files = Store::open(url.as_str(), &BTreeMap::new()).unwrap();
    vec![(Store::in_memory(), None), (files, Some(folder))]
}

async fn put(store: &Store, path: &str, text: &str) {
    store.replace(&Path::from(path), text.to_owned().into()).await.unwrap();
}

const FOLDER: &str = "hourly/windows/20260101T000000Z_20260101T010000Z";

#[tokio::test]
async fn a_manifest_is_published_once() {
    for (store, _folder) in stores() {
        let first = manifest(1, &[("10.0.0.1", 50)]);
        assert_eq!(store.publish(&first).await.unwrap(), Published::Written);
        // The same process again, whose first response was lost.
        assert_eq!(store.publish(&first).await.unwrap(), Published::Written);
        let mut other = first.clone();
        other.holder = "other 2".into();
        assert_eq!(store.publish(&other).await.unwrap(), Published::Exists);
        assert_eq!(store.manifest("hourly", hour(0), 1).await.unwrap(), Some(first));
        assert_eq!(store.manifest("hourly", hour(0), 2).await.unwrap(), None);
        assert_eq!(store.manifest("hourly", hour(1), 1).await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_newest_manifest_of_each_window_is_listed() {
    for (store, _folder) in stores() {
        for (window, revision) in [(0, 1), (0, 2), (1, 1), (1, 10), (1, 9), (3, 1)] {
            let manifest = Manifest { window: hour(window), ..manifest(revision, &[]) };
            store.publish(&manifest).await.unwrap();
        }
        // A revision without a manifest does not exist.
        store.write_counts("hourly", hour(2), 1, "x".into()).await.unwrap();
        store.write_counts("hourly", hour(3), 2, "x".into()).await.unwrap();
        let list = async |from, until| {
            let manifests = store.manifests("hourly", from, until).await.unwrap();
            manifests.iter().map(|m| (m.window, m.revision)).collect::<Vec<_>>()
        };
        let all = list(Timestamp::MIN, Timestamp::MAX).await;
        assert_eq!(all, [(hour(0), 2), (hour(1), 10), (hour(3), 1)]);
        assert_eq!(list(hour(1).start, hour(3).start).await, [(hour(1), 10)]);
        assert_eq!(store.revisions("hourly", hour(1)).await.unwrap(), [1, 9, 10]);
        assert_eq!(store.revisions("hourly", hour(2)).await.unwrap(), [0_u32; 0]);
        assert_eq!(store.manifests("daily", Timestamp::MIN, Timestamp::MAX).await.unwrap(), []);
        assert_eq!(store.jobs().await.unwrap(), ["hourly"]);
    }
}

#[tokio::test]
async fn a_manifest_that_is_wrong_is_refused_by_name() {
    let right = serde_json::to_value(manifest(1, &[])).unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut wrong = right.clone();
        wrong[key] = value;
        wrong.to_string()
    };
    for (text, problem) in [
        (String::new(), "EOF while parsing"),
        (r#"{"version":1}"#.into(), "missing field `job`"),
        (r#"{"version":2}"#.into(), "this has version 2, and this program reads version 1"),
        (with("job", "daily".into()), "the manifest is of job \"daily\""),
        (
            with("start", "2025-12-31T00:00:00Z".into()),
            "the window 2025-12-31T00:00:00Z to 2026-01-01T01:00:00Z",
        ),
        (
            with("end", "2026-01-01T01:00:00.5Z".into()),
            "the window 2026-01-01T00:00:00Z to 2026-01-01T01:00:00.5Z",
        ),
        (with("revision", 2.into()), "the manifest is of revision 2"),
    ] {
        for (store, _folder) in stores() {
            put(&store, &format!("{FOLDER}/r000001/manifest.json"), &text).await;
            for error in [
                store.manifest("hourly", hour(0), 1).await.unwrap_err(),
                store.newest("hourly", hour(0)).await.unwrap_err(),
                store.manifests("hourly", Timestamp::MIN, Timestamp::MAX).await.unwrap_err(),
            ] {
                assert!(matches!(error, Error::Corrupt { .. }), "{error}");
                let shown = error.to_string();
                assert!(shown.contains(problem) && shown.contains("r000001/manifest.json"), "{shown}");
            }
        }
    }
}

#[tokio::test]
async fn what_could_not_be_found_again_is_not_written() {
    let store = Store::in_memory();
    let half = SignedDuration::from_micros(500);
    let window = WindowTimes { start: hour(0).start + half, end: hour(0).end };
    let error = store.publish(&Manifest { window, ..manifest(1, &[]) }).await.unwrap_err().to_string();
    assert!(error.contains("the window 2026-01-01T00:00:00.0005Z"), "{error}");
    store.publish(&Manifest { version: 2, ..manifest(1, &[]) }).await.unwrap_err();
    store.publish(&manifest(0, &[])).await.unwrap_err();
    let job = "../other".to_owned();
    let error = store.publish(&Manifest { job, ..manifest(1, &[]) }).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "store memory:///: \"../other\": this is not a job's name; use lower-case letters, digits and \"-\""
    );
    assert_eq!(store.jobs().await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_folder_that_is_no_window_is_refused() {
    for (store, _folder) in stores() {
        put(&store, "hourly/windows/.hidden/x", "").await;
        assert!(store.windows("hourly").await.unwrap().is_empty());
        put(&store, "hourly/windows/january/r000001/manifest.json", "{}").await;
        let error = store.windows("hourly").await.unwrap_err().to_string();
        assert!(error.contains("hourly/windows/january: this is not the folder of a window"), "{error}");
    }
}

#[tokio::test]
async fn deliveries_are_found_by_any_name() {
    for (store, _folder) in stores() {
        let names = ["hook", "a/b %#ü..", "..", "x.json"];
        for name in names.iter().chain(&names) {
            store.record_delivery("hourly", hour(0), 1, name).await.unwrap();
        }
        let found = store.deliveries("hourly", hour(0), 1).await.unwrap();
        assert_eq!(found, names.map(str::to_owned).into());
        assert!(store.deliveries("hourly", hour(0), 2).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_newest_recount_counts() {
    for (store, _folder) in stores() {
        assert_eq!(store.last_recount("hourly", hour(0), 1).await.unwrap(), None);
        for (documents, at) in [(110, 9), (105, 5), (111, 9)] {
            store.record_recount("hourly", hour(0), 1, documents, hour(at).start).await.unwrap();
        }
        let last = store.last_recount("hourly", hour(0), 1).await.unwrap().unwrap();
        assert_eq!(last, Recount { version: 1, at: hour(9).start, documents: 111 });
    }
}

#[tokio::test]
async fn only_old_counts_without_a_manifest_are_removed() {
    for (store, _folder) in stores() {
        store.write_counts("hourly", hour(0), 1, "kept".into()).await.unwrap();
        store.publish(&manifest(1, &[])).await.unwrap();
        store.write_pairs("hourly", hour(0), 1, "kept".into()).await.unwrap();
        store.write_counts("hourly", hour(0), 2, "left".into()).await.unwrap();
        store.write_pairs("hourly", hour(0), 2, "left".into()).await.unwrap();
        store.write_counts("hourly", hour(5), 1, "left".into()).await.unwrap();
        assert_eq!(store.write_counts("hourly", hour(5), 1, "x".into()).await.unwrap(), Published::Exists);
        let now = Timestamp::now();
        assert_eq!(store.clean("hourly", now + SignedDuration::from_hours(23)).await.unwrap(), 0);
        assert_eq!(store.clean("hourly", now + SignedDuration::from_hours(25)).await.unwrap(), 3);
        assert_eq!(store.read_pairs("hourly", hour(0), 1).await.unwrap(), "kept");
        assert_eq!(store.read_counts("hourly", hour(0), 1).await.unwrap(), "kept");
        let error = store.read_counts("hourly", hour(0), 2).await.unwrap_err().to_string();
        assert!(error.contains("r000002/counts.parquet: the counts are missing"), "{error}");
    }
}

#[tokio::test]
async fn a_window_and_a_job_are_dropped() {
    for (store, folder) in stores() {
        for revision in [1, 2] {
            store.write_counts("hourly", hour(0), revision, "x".into()).await.unwrap();
            store.publish(&manifest(revision, &[])).await.unwrap();
            store.record_delivery("hourly", hour(0), revision, "a").await.unwrap();
        }
        store.publish(&Manifest { window: hour(1), ..manifest(1, &[]) }).await.unwrap();
        store.publish(&Manifest { job: "daily".into(), ..manifest(1, &[]) }).await.unwrap();
        store.create_lease("hourly", 1, &serde_json::json!({"version": 1})).await.unwrap();
        store.drop_window("hourly", hour(0)).await.unwrap();
        assert_eq!(store.windows("hourly").await.unwrap(), [hour(1)].into());
        store.drop_job("hourly").await.unwrap();
        store.drop_job("hourly").await.unwrap();
        assert_eq!(store.jobs().await.unwrap(), ["daily"]);
        if let Some(folder) = folder {
            assert!(!folder.path().join("hourly").exists());
        }
    }
}
