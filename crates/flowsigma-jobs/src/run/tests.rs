use super::test_data::{Bench, FakeSink, hour};
use super::{Late, Recounts, Redo, Runner, State, states};
use crate::engine::{Engine, Outcome};
use crate::error::Error;
use crate::job::Job;
use crate::manifest::WindowTimes;
use crate::store::{Published, Store};
use async_trait::async_trait;
use jiff::SignedDuration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

const SPACED: Recounts = Recounts::SpacedByAge;

#[tokio::test]
async fn a_window_is_counted_once() {
    let bench = Bench::new(Store::in_memory());
    let first = bench.run(Redo::No).await.unwrap();
    assert!(first.counted);
    assert_eq!((first.manifest.revision, first.alerts.len()), (1, 2));
    assert_eq!(first.manifest.sinks, ["a", "b"]);
    bench.engine.documents.store(120, Ordering::SeqCst);
    let second = bench.run(Redo::No).await.unwrap();
    assert!(!second.counted);
    assert_eq!(second.manifest, first.manifest);
    assert_eq!(second.alerts, first.alerts);
    assert_eq!(bench.engine.runs.load(Ordering::SeqCst), 1);
    assert_eq!(bench.inboxes[0].lock().unwrap().deliveries, [1]);
}

#[tokio::test]
async fn a_late_window_is_counted_again_once_and_always_each_time() {
    let bench = Bench::new(Store::in_memory());
    bench.run(Redo::No).await.unwrap();
    for _ in 0..2 {
        let run = bench.run(Redo::Late { revision: 1 }).await.unwrap();
        assert_eq!(run.manifest.revision, 2);
    }
    let run = bench.run(Redo::Always).await.unwrap();
    assert_eq!(run.manifest.revision, 3);
    // The same findings give no alert and no delivery.
    assert_eq!(run.alerts, []);
    assert_eq!(run.owed, [""; 0]);
    assert_eq!(bench.inboxes[0].lock().unwrap().deliveries, [1]);
}

#[tokio::test]
async fn a_sink_that_the_job_got_later_gets_all_findings() {
    let mut bench = Bench::new(Store::in_memory());
    bench.run(Redo::No).await.unwrap();
    let late = FakeSink::new("c");
    let inbox = Arc::clone(&late.inbox);
    bench.sinks.push(Box::new(late));
    bench.run(Redo::No).await.unwrap();
    assert!(inbox.lock().unwrap().alerts.is_empty());
    bench.run(Redo::Always).await.unwrap();
    assert_eq!(inbox.lock().unwrap().alerts.len(), 2);
    assert_eq!(bench.inboxes[0].lock().unwrap().deliveries, [1]);
}

#[tokio::test]
async fn a_sink_that_the_job_no_longer_has_is_owed() {
    let mut bench = Bench::new(Store::in_memory());
    *bench.fails[1].lock().unwrap() = super::test_data::Fails::Before;
    bench.run(Redo::No).await.unwrap();
    bench.sinks.pop();
    let run = bench.run(Redo::No).await.unwrap();
    assert_eq!(run.owed, ["b"]);
    assert!(run.failures.is_empty());
}

/// Another process takes the lease while this engine counts.
struct Stopped {
    store: Store,
    publishes: bool,
}

#[async_trait]
impl Engine for Stopped {
    async fn count(&self, _: &Job, _: WindowTimes) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        Ok(100)
    }

    async fn run(
        &self,
        _: &Job,
        window: WindowTimes,
        _: &CancellationToken,
    ) -> Result<Outcome, Box<dyn std::error::Error + Send + Sync>> {
        let generation = serde_json::json!({
            "version": 1, "holder": "other 2", "nonce": "n",
            "taken": "2026-01-01T00:00:00Z", "expires": "2099-01-01T00:00:00Z",
        });
        self.store.create_lease("hourly", 7, &generation).await?;
        if self.publishes {
            let manifest = super::test_data::manifest(1, &[("10.0.0.9", 9)]);
            self.store.write_counts("hourly", window, 1, "theirs".into()).await?;
            self.store.publish(&manifest).await?;
        }
        let counts = "ours".into();
        let report = serde_json::Value::Null;
        Ok(Outcome { documents: 1, findings: Vec::new(), report, counts, pairs: None })
    }
}

#[tokio::test]
async fn a_run_that_has_lost_its_lease_publishes_nothing() {
    for publishes in [false, true] {
        let bench = Bench::new(Store::in_memory());
        let engine = Stopped { store: bench.store.clone(), publishes };
        let lease = bench.lease().await.unwrap();
        let runner = Runner { engine: &engine, ..bench.runner(&lease) };
        let error = runner.run_window(hour(0), Redo::No).await.unwrap_err();
        assert!(matches!(&error, Error::LeaseLost { holder, .. } if holder == "other 2"), "{error}");
        let revisions = bench.store.revisions("hourly", hour(0)).await.unwrap();
        assert_eq!(revisions, if publishes { vec![1] } else { vec![] });
        if publishes {
            // The counts belong to the manifest.
            assert_eq!(bench.store.read_counts("hourly", hour(0), 1).await.unwrap(), "theirs");
        }
        assert!(bench.alerts(0).is_empty());
    }
}

#[tokio::test]
async fn the_counts_of_a_killed_run_are_replaced() {
    let bench = Bench::new(Store::in_memory());
    let written = bench.store.write_counts("hourly", hour(0), 1, "half".into()).await.unwrap();
    assert_eq!(written, Published::Written);
    let run = bench.run(Redo::No).await.unwrap();
    assert_eq!(run.manifest.revision, 1);
    let counts = bench.store.read_counts("hourly", hour(0), 1).await.unwrap();
    assert_eq!(counts, "2026-01-01T00:00:00Z 100");
}

#[tokio::test]
async fn a_run_needs_the_lease_of_its_job() {
    let mut bench = Bench::new(Store::in_memory());
    bench.job.name = "daily".into();
    let lease = bench.lease().await.unwrap();
    let error = bench.runner(&lease).run_window(hour(0), Redo::No).await.unwrap_err().to_string();
    assert!(error.contains("this run holds the lease of job \"hourly\""), "{error}");
}

#[tokio::test]
async fn a_window_that_has_grown_is_late_until_it_is_run_again() {
    let bench = Bench::new(Store::in_memory());
    bench.run(Redo::No).await.unwrap();
    let lease = bench.lease().await.unwrap();
    let runner = bench.runner(&lease);
    let windows = [hour(0), hour(1)];
    let at = |hours| hour(0).end + SignedDuration::from_hours(hours);
    assert_eq!(runner.recheck(&windows, at(2), SPACED).await.unwrap(), []);
    bench.engine.documents.store(120, Ordering::SeqCst);
    let late = Late { window: hour(0), revision: 1, counted: 100, documents: 120 };
    // The time has passed, but the last count was before that.
    assert_eq!(runner.recheck(&windows, at(30), SPACED).await.unwrap(), [late]);
    assert_eq!(bench.engine.counts.load(Ordering::SeqCst), 2);
    let recount = bench.store.last_recount("hourly", hour(0), 1).await.unwrap().unwrap();
    assert_eq!((recount.at, recount.documents), (at(30), 120));
    // It is not counted again, and it is still late.
    assert_eq!(runner.recheck(&windows, at(31), SPACED).await.unwrap(), [late]);
    assert_eq!(bench.engine.counts.load(Ordering::SeqCst), 2);
    runner.run_window(hour(0), Redo::Late { revision: 1 }).await.unwrap();
    assert_eq!(runner.recheck(&windows, at(31), SPACED).await.unwrap(), []);
    assert_eq!(bench.alerts(0).len(), 5);
}

#[tokio::test]
async fn a_count_that_finds_nothing_and_spaces_nothing_leaves_no_object() {
    let bench = Bench::new(Store::in_memory());
    bench.run(Redo::No).await.unwrap();
    let lease = bench.lease().await.unwrap();
    let runner = bench.runner(&lease);
    let at = |hours| hour(0).end + SignedDuration::from_hours(hours);
    let each_time = Recounts::EachTime;
    assert_eq!(runner.recheck(&[hour(0)], at(2), each_time).await.unwrap(), []);
    assert_eq!(bench.store.last_recount("hourly", hour(0), 1).await.unwrap(), None);
    // The last one is recorded, so it is not repeated.
    for _ in 0..2 {
        assert_eq!(runner.recheck(&[hour(0)], at(30), each_time).await.unwrap(), []);
    }
    assert_eq!(bench.engine.counts.load(Ordering::SeqCst), 2);
    bench.engine.documents.store(120, Ordering::SeqCst);
    assert_eq!(runner.recheck(&[hour(0)], at(31), each_time).await.unwrap(), []);
}

#[tokio::test]
async fn a_job_without_recheck_counts_no_window_again() {
    let mut bench = Bench::new(Store::in_memory());
    bench.job.window.recheck = None;
    bench.run(Redo::No).await.unwrap();
    bench.engine.documents.store(120, Ordering::SeqCst);
    let lease = bench.lease().await.unwrap();
    assert_eq!(bench.runner(&lease).recheck(&[hour(0)], hour(3).start, SPACED).await.unwrap(), []);
    assert_eq!(bench.engine.counts.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_window_has_the_state_of_what_the_store_holds() {
    let bench = Bench::new(Store::in_memory());
    let state = async |window| states(&bench.store, "hourly", [window]).await.unwrap().remove(0);
    assert_eq!(state(hour(0)).await.state, State::Missing);
    bench.engine.fails.store(true, Ordering::SeqCst);
    bench.run(Redo::No).await.unwrap_err();
    assert_eq!(state(hour(0)).await.state, State::Failed);
    bench.engine.fails.store(false, Ordering::SeqCst);
    *bench.fails[0].lock().unwrap() = super::test_data::Fails::Before;
    bench.run(Redo::No).await.unwrap();
    let owed = state(hour(0)).await;
    assert_eq!(
        (owed.state, owed.documents, owed.findings, owed.revision),
        (State::Owed, Some(100), Some(2), Some(1))
    );
    *bench.fails[0].lock().unwrap() = super::test_data::Fails::Never;
    bench.run(Redo::No).await.unwrap();
    assert_eq!(state(hour(0)).await.state, State::Done);
    bench.store.record_recount("hourly", hour(0), 1, 101, hour(2).start).await.unwrap();
    assert_eq!(state(hour(0)).await.state, State::Late);
    bench.engine.fails.store(true, Ordering::SeqCst);
    bench.run(Redo::Late { revision: 1 }).await.unwrap_err();
    assert_eq!(state(hour(0)).await.state, State::Failed);
    // A failure whose record could not be removed is of the past.
    bench.engine.fails.store(false, Ordering::SeqCst);
    bench.run(Redo::Late { revision: 1 }).await.unwrap();
    bench.store.record_failure("hourly", hour(0), 2, hour(2).start, "503").await.unwrap();
    assert_eq!(state(hour(0)).await.state, State::Done);
    let text = serde_json::to_string(&state(hour(5)).await).unwrap();
    let expected = r#"{"start":"2026-01-01T05:00:00Z","end":"2026-01-01T06:00:00Z","state":"missing","documents":null,"findings":null,"revision":null}"#;
    assert_eq!(text, expected);
}

/// Counts until it is cancelled, or longer.
struct Endless {
    is_stuck: bool,
    has_stopped: AtomicBool,
}

#[async_trait]
impl Engine for Endless {
    async fn count(&self, _: &Job, _: WindowTimes) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        Ok(100)
    }

    async fn run(
        &self,
        _: &Job,
        _: WindowTimes,
        cancel: &CancellationToken,
    ) -> Result<Outcome, Box<dyn std::error::Error + Send + Sync>> {
        cancel.cancelled().await;
        if self.is_stuck {
            std::future::pending::<()>().await;
        }
        self.has_stopped.store(true, Ordering::SeqCst);
        Err("the statement was cancelled".into())
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_too_long_is_cancelled_and_has_failed() {
    for is_stuck in [false, true] {
        let mut bench = Bench::new(Store::in_memory());
        bench.job.limits.timeout = Some("30m".into());
        let engine = Endless { is_stuck, has_stopped: AtomicBool::new(false) };
        let lease = bench.lease().await.unwrap();
        let begin = tokio::time::Instant::now();
        let runner = Runner { engine: &engine, ..bench.runner(&lease) };
        let error = runner.run_window(hour(0), Redo::No).await.unwrap_err();
        let expected = "job \"hourly\", window 2026-01-01T00:00:00Z: it was not counted within limits.timeout = 30m, \
                        and was cancelled; raise limits.timeout, or read it faster with more slices \
                        (limits.slices) or a sample (source.sample)";
        assert_eq!(error.to_string(), expected);
        assert_eq!(engine.has_stopped.load(Ordering::SeqCst), !is_stuck);
        // A stuck one is given up.
        let seconds = begin.elapsed().as_secs() - 30 * 60;
        assert_eq!(seconds, if is_stuck { 30 } else { 0 });
        let failure = bench.store.failure("hourly", hour(0)).await.unwrap().unwrap();
        assert_eq!((failure.revision, failure.error.as_str()), (1, expected));
        lease.release().await.unwrap();
        // The next run is not affected.
        assert!(bench.run(Redo::No).await.unwrap().counted);
    }
}

#[tokio::test]
async fn pairs_are_kept_before_the_manifest_says_so() {
    let mut bench = Bench::new(Store::in_memory());
    bench.run(Redo::No).await.unwrap();
    assert!(!bench.store.newest("hourly", hour(0)).await.unwrap().unwrap().pairs);
    let error = bench.store.read_pairs("hourly", hour(0), 1).await.unwrap_err().to_string();
    assert!(error.contains("r000001/pairs.parquet: the pairs are missing"), "{error}");
    bench.job.store.pairs = true;
    // A run that was killed before its manifest.
    bench.store.write_pairs("hourly", hour(0), 2, "half".into()).await.unwrap();
    assert_eq!(bench.store.revisions("hourly", hour(0)).await.unwrap(), [1]);
    bench.run(Redo::Always).await.unwrap();
    let newest = bench.store.newest("hourly", hour(0)).await.unwrap().unwrap();
    assert_eq!((newest.revision, newest.pairs), (2, true));
    assert_eq!(bench.store.read_pairs("hourly", hour(0), 2).await.unwrap(), "pairs 100");
}
