//! A run that is cut off anywhere is finished by the next.
//!
//! Owns: the check of every put and every step. Must not know: single features of a run.

use super::test_data::{Bench, Fails, Hooked, Moment, hour};
use super::{Redo, Run};
use crate::store::Store;
use object_store::memory::InMemory;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a window has come to: its manifests, counts and deliveries, and what each sink has got.
#[derive(Debug, PartialEq)]
struct Result {
    revisions: Vec<(serde_json::Value, bytes::Bytes, BTreeSet<String>)>,
    alerts: Vec<BTreeSet<(String, u32, String)>>,
    failed: bool,
}

async fn result(bench: &Bench) -> Result {
    let mut revisions = Vec::new();
    for revision in bench.store.revisions("hourly", hour(0)).await.unwrap() {
        let manifest = bench.store.manifest("hourly", hour(0), revision).await.unwrap().unwrap();
        let counts = bench.store.read_counts("hourly", hour(0), revision).await.unwrap();
        let deliveries = bench.store.deliveries("hourly", hour(0), revision).await.unwrap();
        revisions.push((serde_json::to_value(manifest).unwrap(), counts, deliveries));
    }
    let failed = bench.store.failure("hourly", hour(0)).await.unwrap().is_some();
    Result { revisions, alerts: vec![bench.alerts(0), bench.alerts(1)], failed }
}

/// After a crash the process is gone, and its lease ends. The test does not wait for that.
async fn end_lease(store: &Store) {
    for generation in store.lease_generations("hourly").await.unwrap() {
        store.delete_lease("hourly", generation).await.unwrap();
    }
}

/// Runs the first hour, and again after documents were added. The second call goes on where the first one failed.
async fn twice(bench: &Bench) -> crate::Result<Run> {
    bench.run(Redo::No).await?;
    bench.engine.documents.store(120, Ordering::SeqCst);
    bench.run(Redo::Late { revision: 1 }).await
}

fn assert_published_once(objects: &Hooked) {
    let written = objects.written.lock().unwrap();
    let manifests: Vec<_> = written.iter().filter(|p| p.filename() == Some("manifest.json")).collect();
    let different: BTreeSet<_> = manifests.iter().collect();
    assert_eq!(manifests.len(), different.len(), "{manifests:?}");
}

#[tokio::test]
async fn a_put_that_fails_changes_nothing_for_the_second_run() {
    let bench = Bench::new(Store::in_memory());
    twice(&bench).await.unwrap();
    let expected = result(&bench).await;
    assert_eq!(expected.revisions.len(), 2);
    // 10.0.0.1 and 10.0.1.100, then 10.0.0.1 amended, 10.0.1.120 new and 10.0.1.100 withdrawn.
    assert_eq!(expected.alerts[0].len(), 5);
    for moment in [Moment::Before, Moment::After] {
        let mut failed_at = Vec::new();
        for n in 1.. {
            let objects = Arc::new(Hooked::failing(Arc::new(InMemory::new()), n, moment));
            let bench = Bench::new(Store::with_objects("memory:///", Arc::clone(&objects) as _));
            let first = twice(&bench).await;
            if objects.puts.load(Ordering::SeqCst) < n {
                break;
            }
            failed_at.push(n);
            assert!(first.is_err(), "put {n}");
            end_lease(&bench.store).await;
            let second = twice(&bench).await.unwrap();
            assert_eq!(second.owed, [""; 0], "put {n}, {moment:?}");
            assert_eq!(result(&bench).await, expected, "put {n}, {moment:?}");
            assert_published_once(&objects);
        }
        // For each revision: the lease, counts, manifest, two deliveries and the release.
        assert_eq!(failed_at, (1..=12).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_put_that_fails_on_a_file_system_changes_nothing_for_the_second_run() {
    let bench = Bench::new(Store::in_memory());
    twice(&bench).await.unwrap();
    let expected = result(&bench).await;
    for n in 1..=12 {
        let folder = tempfile::tempdir().unwrap();
        let files = object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap();
        let objects =
            Arc::new(Hooked::failing(Arc::new(files.with_automatic_cleanup(true)), n, Moment::Before));
        let bench = Bench::new(Store::with_objects("file:///", objects));
        twice(&bench).await.unwrap_err();
        end_lease(&bench.store).await;
        twice(&bench).await.unwrap();
        assert_eq!(result(&bench).await, expected, "put {n}");
    }
}

#[tokio::test]
async fn a_sink_that_fails_gets_its_findings_by_the_next_run() {
    let bench = Bench::new(Store::in_memory());
    twice(&bench).await.unwrap();
    let expected = result(&bench).await;
    for fails in [Fails::Before, Fails::After] {
        for sink in [0, 1] {
            // It fails at the first revision only, or at both.
            for recovers_between in [true, false] {
                let case = format!("{fails:?} of {sink}, recovers: {recovers_between}");
                let bench = Bench::new(Store::in_memory());
                *bench.fails[sink].lock().unwrap() = fails;
                let first = bench.run(Redo::No).await.unwrap();
                assert_eq!(first.owed, [["a", "b"][sink]], "{case}");
                assert_eq!(first.failures.len(), 1, "{case}");
                if recovers_between {
                    *bench.fails[sink].lock().unwrap() = Fails::Never;
                }
                bench.engine.documents.store(120, Ordering::SeqCst);
                let second = bench.run(Redo::Late { revision: 1 }).await.unwrap();
                assert_eq!(second.owed.is_empty(), recovers_between, "{case}");
                *bench.fails[sink].lock().unwrap() = Fails::Never;
                let third = bench.run(Redo::No).await.unwrap();
                assert!(third.owed.is_empty() && third.failures.is_empty() && !third.counted, "{case}");
                assert_eq!(result(&bench).await, expected, "{case}");
                let deliveries = bench.inboxes[sink].lock().unwrap().deliveries.clone();
                assert!(deliveries.is_sorted(), "{case}: {deliveries:?}");
                // The other sink got each revision once.
                assert_eq!(bench.inboxes[1 - sink].lock().unwrap().deliveries, [1, 2], "{case}");
            }
        }
    }
}

#[tokio::test]
async fn an_engine_that_fails_leaves_a_failure_until_the_next_success() {
    let bench = Bench::new(Store::in_memory());
    twice(&bench).await.unwrap();
    let expected = result(&bench).await;
    let bench = Bench::new(Store::in_memory());
    for redo in [Redo::No, Redo::Late { revision: 1 }] {
        bench.engine.fails.store(true, Ordering::SeqCst);
        let error = bench.run(redo).await.unwrap_err().to_string();
        assert_eq!(error, "job \"hourly\", window 2026-01-01T00:00:00Z: search failed: index \"flows\": 503");
        let failure = bench.store.failure("hourly", hour(0)).await.unwrap().unwrap();
        assert_eq!(failure.error, "search failed: index \"flows\": 503");
        assert_eq!(failure.at, hour(2).start);
        bench.engine.fails.store(false, Ordering::SeqCst);
        bench.run(redo).await.unwrap();
        assert_eq!(bench.store.failure("hourly", hour(0)).await.unwrap(), None);
        bench.engine.documents.store(120, Ordering::SeqCst);
    }
    assert_eq!(result(&bench).await, expected);
}
