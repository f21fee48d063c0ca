use super::*;
use crate::engine::{Engine, Outcome};
use crate::job::Job;
use crate::lease::Lease;
use crate::run::test_data::{Bench, Fails, FakeEngine, Hooked, hour};
use crate::store::Store;
use async_trait::async_trait;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// An engine that fails at some windows, and remembers which it was asked for.
#[derive(Default)]
struct Flaky {
    inner: FakeEngine,
    bad: Mutex<BTreeSet<WindowTimes>>,
    seen: Mutex<Vec<WindowTimes>>,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Flaky {
    fn new() -> Self {
        Self { inner: FakeEngine::of(100), ..Self::default() }
    }

    fn seen(&self) -> Vec<WindowTimes> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

#[async_trait]
impl Engine for Flaky {
    async fn count(&self, job: &Job, window: WindowTimes) -> std::result::Result<u64, Failed> {
        self.inner.count(job, window).await
    }

    async fn run(
        &self,
        job: &Job,
        window: WindowTimes,
        cancel: &CancellationToken,
    ) -> std::result::Result<Outcome, Failed> {
        self.seen.lock().unwrap().push(window);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        if self.bad.lock().unwrap().contains(&window) {
            return Err("503".into());
        }
        self.inner.run(job, window, cancel).await
    }
}

/// A job over a store, from one advance to the next.
struct Course {
    bench: Bench,
    engine: Flaky,
    digest: &'static str,
}

impl Course {
    fn new(from: Option<&str>) -> Self {
        Self::over(Store::in_memory(), from)
    }

    fn over(store: Store, from: Option<&str>) -> Self {
        let mut bench = Bench::new(store);
        bench.job.window.from = from.map(str::to_owned);
        Self { bench, engine: Flaky::new(), digest: "d1" }
    }

    /// Advances so many minutes after the start of the first hour.
    async fn at(&mut self, minutes: i64) -> Advance {
        let stop = CancellationToken::new();
        self.until(minutes, Control { recounts: Recounts::SpacedByAge, stop: &stop, progress: &|_, _| () })
            .await
            .unwrap()
    }

    async fn until(&mut self, minutes: i64, control: Control<'_>) -> Result<Advance> {
        let now = hour(0).start + SignedDuration::from_mins(minutes);
        let calendar = Calendar::try_new(&self.bench.job.window).unwrap();
        let lease = self.bench.lease().await.unwrap();
        let runner =
            Runner { engine: &self.engine, clock: &|| now, digest: self.digest, ..self.bench.runner(&lease) };
        let advance = runner.advance(&calendar, control).await;
        lease.release().await.unwrap();
        advance
    }

    /// Makes the next advance look at the whole store.
    async fn forget(&self) {
        self.bench.store.remove_settled("hourly").await.unwrap();
    }

    async fn revisions(&self, n: i64) -> Vec<u32> {
        self.bench.store.revisions("hourly", hour(n)).await.unwrap()
    }
}

/// The start of the first hour.
const FROM: Option<&str> = Some("2026-01-01T00:00:00Z");

fn hours(numbers: impl IntoIterator<Item = i64>) -> Vec<WindowTimes> {
    numbers.into_iter().map(hour).collect()
}

#[tokio::test]
async fn due_windows_are_run_in_order_and_failed_ones_again() {
    let mut course = Course::new(FROM);
    course.bench.job.window.recheck = None;
    course.engine.bad.lock().unwrap().extend(hours([1, 3]));
    let advance = course.at(5 * 60 + 5).await;
    assert_eq!(course.engine.seen(), hours(0..5));
    assert_eq!((advance.counted, advance.documents, advance.findings), (3, 300, 6));
    assert_eq!((advance.failed.len(), advance.behind), (2, 2));
    assert!(advance.failed[0].to_string().contains("window 2026-01-01T01:00:00Z: 503"));
    // An advance that knows nothing does the same as one that goes on.
    for forgets in [false, true] {
        if forgets {
            course.forget().await;
        }
        let advance = course.at(5 * 60 + 6).await;
        assert_eq!(course.engine.seen(), hours([1, 3]));
        assert_eq!((advance.counted, advance.failed.len(), advance.behind), (0, 2, 2));
    }
    course.engine.bad.lock().unwrap().clear();
    let advance = course.at(6 * 60 + 5).await;
    assert_eq!(course.engine.seen(), hours([1, 3, 5]));
    assert_eq!((advance.counted, advance.failed.len(), advance.behind), (3, 0, 0));
    // No window is due, and none is looked at as if it were.
    let (stop, reports) = (CancellationToken::new(), AtomicUsize::new(0));
    let progress = |advance: &Advance, _: Option<&Run>| {
        assert_eq!(advance.behind, 0);
        reports.fetch_add(1, Ordering::SeqCst);
    };
    course
        .until(6 * 60 + 6, Control { recounts: Recounts::SpacedByAge, stop: &stop, progress: &progress })
        .await
        .unwrap();
    assert_eq!(reports.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_job_without_from_begins_with_the_newest_window() {
    let mut course = Course::new(None);
    assert_eq!(course.at(5 * 60 + 5).await.counted, 1);
    assert_eq!(course.engine.seen(), hours([4]));
    course.forget().await;
    assert_eq!(course.at(8 * 60 + 5).await.counted, 3);
    assert_eq!(course.engine.seen(), hours(5..8));
}

#[tokio::test]
async fn windows_of_another_calendar_are_not_caught_up_and_still_delivered() {
    let mut course = Course::new(None);
    *course.bench.fails[0].lock().unwrap() = Fails::Before;
    assert_eq!(course.at(65).await.owed, ["a"]);
    *course.bench.fails[0].lock().unwrap() = Fails::Never;
    course.engine.seen();
    course.bench.job.window.every = "6h".into();
    // A new version of the job looks at the whole store.
    course.digest = "d2";
    let advance = course.at(18 * 60 + 5).await;
    let last = WindowTimes { start: hour(12).start, end: hour(18).start };
    assert_eq!(course.engine.seen(), [last]);
    assert!(advance.owed.is_empty());
    assert_eq!(course.bench.inboxes[0].lock().unwrap().deliveries.len(), 2);
}

#[tokio::test]
async fn windows_that_grow_are_run_again_while_they_are_counted() {
    let mut course = Course::new(FROM);
    course.at(3 * 60 + 5).await;
    course.engine.inner.documents.store(130, Ordering::SeqCst);
    let advance = course.at(4 * 60 + 5).await;
    assert_eq!((advance.counted, advance.late, advance.documents), (4, 90, 130 + 90));
    assert_eq!(course.revisions(0).await, [1, 2]);
    // 10.0.0.1 has other numbers, 10.0.1.100 is gone, and 10.0.1.130 is new.
    assert_eq!(advance.findings, 2 + 3);
    let day = 24 * 60;
    course.engine.inner.documents.store(140, Ordering::SeqCst);
    let advance = course.at(2 * day).await;
    // The second run of the first hours was within their recheck time.
    assert_eq!(advance.late, 40);
    assert_eq!(course.revisions(0).await, [1, 2, 3]);
    course.engine.inner.documents.store(150, Ordering::SeqCst);
    let counts = course.engine.inner.counts.load(Ordering::SeqCst);
    course.at(5 * day).await;
    assert_eq!(course.revisions(0).await, [1, 2, 3]);
    // They were counted last after their recheck time, by a run.
    let advance = course.at(5 * day + 60).await;
    assert_eq!(advance.late, 0);
    assert!(course.engine.inner.counts.load(Ordering::SeqCst) > counts);
}

#[tokio::test]
async fn a_window_whose_second_run_was_killed_or_failed_is_run_again() {
    let mut course = Course::new(FROM);
    course.at(65).await;
    let store = course.bench.store.clone();
    let at = hour(0).end + SignedDuration::from_hours(25);
    store.record_recount("hourly", hour(0), 1, 120, at).await.unwrap();
    course.engine.inner.documents.store(120, Ordering::SeqCst);
    course.engine.bad.lock().unwrap().insert(hour(0));
    course.forget().await;
    let advance = course.at(27 * 60).await;
    assert_eq!((advance.failed.len(), advance.late), (1, 0));
    course.engine.bad.lock().unwrap().clear();
    // However long it takes.
    course.forget().await;
    let advance = course.at(40 * 24 * 60).await;
    assert_eq!((advance.failed.len(), advance.late), (0, 20));
    assert_eq!(course.revisions(0).await, [1, 2]);
}

#[tokio::test]
async fn a_sink_that_is_down_is_asked_once_for_what_it_is_owed() {
    let mut course = Course::new(FROM);
    *course.bench.fails[1].lock().unwrap() = Fails::After;
    let advance = course.at(5 * 60 + 5).await;
    assert_eq!((advance.owed, advance.undelivered.len()), (vec!["b".to_owned()], 5));
    for forgets in [false, true] {
        if forgets {
            course.forget().await;
        }
        course.bench.inboxes[1].lock().unwrap().deliveries.clear();
        let advance = course.at(5 * 60 + 6).await;
        assert_eq!((advance.owed, advance.undelivered.len()), (vec!["b".to_owned()], 1));
        assert_eq!(course.bench.inboxes[1].lock().unwrap().deliveries.len(), 1);
    }
    *course.bench.fails[1].lock().unwrap() = Fails::Never;
    assert!(course.at(5 * 60 + 7).await.owed.is_empty());
    assert_eq!(course.bench.alerts(0), course.bench.alerts(1));
    // Each window of the five was run once.
    assert_eq!(course.engine.seen(), hours(0..5));
    assert_eq!(course.bench.inboxes[0].lock().unwrap().deliveries, [1; 5]);
}

#[tokio::test]
async fn a_stop_lets_the_window_finish_and_the_next_advance_goes_on() {
    let mut course = Course::new(FROM);
    let stop = CancellationToken::new();
    let progress = |advance: &Advance, _: Option<&Run>| {
        if advance.counted == 2 {
            stop.cancel();
        }
    };
    let advance = course
        .until(5 * 60 + 5, Control { recounts: Recounts::SpacedByAge, stop: &stop, progress: &progress })
        .await
        .unwrap();
    assert_eq!((advance.counted, advance.behind), (2, 3));
    assert_eq!(course.engine.seen(), hours(0..2));
    let advance = course.at(5 * 60 + 5).await;
    assert_eq!((advance.counted, advance.behind), (3, 0));
    assert_eq!(course.engine.seen(), hours(2..5));
}

#[tokio::test]
async fn an_object_that_is_wrong_is_reported_and_not_run_over() {
    let objects = Arc::new(InMemory::new());
    let path = Path::from("hourly/windows/20260101T010000Z_20260101T020000Z/r000001/manifest.json");
    objects.put(&path, "{}".into()).await.unwrap();
    let mut course = Course::over(Store::with_objects("memory:///", objects), FROM);
    for _ in 0..2 {
        let advance = course.at(3 * 60 + 5).await;
        assert!(matches!(advance.failed[..], [Error::Corrupt { .. }]), "{:?}", advance.failed);
        assert_eq!(advance.behind, 0);
    }
    assert_eq!(course.engine.seen(), hours([0, 2]));
}

#[tokio::test]
async fn a_lost_lease_ends_the_advance() {
    let course = Course::new(FROM);
    let calendar = Calendar::try_new(&course.bench.job.window).unwrap();
    let lease = course.bench.lease().await.unwrap();
    let generation = serde_json::json!({
        "version": 1, "holder": "other 2", "nonce": "n",
        "taken": "2026-01-01T00:00:00Z", "expires": "2099-01-01T00:00:00Z",
    });
    course.bench.store.create_lease("hourly", 7, &generation).await.unwrap();
    let stop = CancellationToken::new();
    let now = hour(5).start + SignedDuration::from_mins(5);
    let runner = Runner { engine: &course.engine, clock: &|| now, ..course.bench.runner(&lease) };
    let control = Control { recounts: Recounts::SpacedByAge, stop: &stop, progress: &|_, _| () };
    let advance = runner.advance(&calendar, control).await.unwrap();
    assert!(matches!(advance.failed[..], [Error::LeaseLost { .. }]), "{:?}", advance.failed);
    assert_eq!((course.engine.seen().len(), advance.behind), (0, 5));
}

/// Runs a backfill of the first hours on the second day.
async fn backfill(
    course: &Course,
    windows: Vec<WindowTimes>,
    redo: BackfillRedo,
    stop_after: u64,
) -> Advance {
    let lease: Lease = course.bench.lease().await.unwrap();
    let runner = Runner { engine: &course.engine, clock: &|| hour(30).start, ..course.bench.runner(&lease) };
    let stop = CancellationToken::new();
    let progress = |advance: &Advance, _: Option<&Run>| {
        if advance.counted == stop_after {
            stop.cancel();
        }
    };
    let control = Control { recounts: Recounts::SpacedByAge, stop: &stop, progress: &progress };
    let advance =
        runner.backfill(windows.into_iter(), redo, NonZeroUsize::new(3).unwrap(), control).await.unwrap();
    lease.release().await.unwrap();
    advance
}

#[tokio::test]
async fn a_backfill_runs_what_is_missing_in_parallel_and_goes_on_after_a_stop() {
    let course = Course::new(None);
    let store = &course.bench.store;
    let plan = async || plan_backfill(store, "hourly", hours(0..8), BackfillRedo::None).await.unwrap();
    assert_eq!(plan().await, hours(0..8));
    let advance = backfill(&course, hours(0..8), BackfillRedo::None, 4).await;
    // Those that had begun were finished.
    assert!((4..=6).contains(&advance.counted), "{advance:?}");
    assert_eq!(advance.behind, 8 - advance.counted);
    assert_eq!(plan().await.len() as u64, advance.behind);
    backfill(&course, hours(0..8), BackfillRedo::None, 99).await;
    assert_eq!(plan().await, []);
    let seen: BTreeSet<_> = course.engine.seen().into_iter().collect();
    assert_eq!(seen, hours(0..8).into_iter().collect());
    assert_eq!(course.engine.most.load(Ordering::SeqCst), 3);
    assert_eq!(course.bench.inboxes[0].lock().unwrap().deliveries, [1; 8]);
}

#[tokio::test]
async fn a_backfill_runs_again_what_it_is_told_to() {
    let course = Course::new(None);
    course.engine.bad.lock().unwrap().insert(hour(1));
    let advance = backfill(&course, hours(0..3), BackfillRedo::None, 99).await;
    assert_eq!((advance.counted, advance.failed.len(), advance.behind), (2, 1, 1));
    let plan = async |redo| plan_backfill(&course.bench.store, "hourly", hours(0..3), redo).await.unwrap();
    assert_eq!(plan(BackfillRedo::Late).await, hours([1]));
    assert_eq!(plan(BackfillRedo::All).await, hours(0..3));
    course.engine.bad.lock().unwrap().clear();
    backfill(&course, hours(0..3), BackfillRedo::Failed, 99).await;
    assert_eq!(course.revisions(1).await, [1]);
    course.engine.inner.documents.store(120, Ordering::SeqCst);
    assert_eq!(backfill(&course, hours(0..3), BackfillRedo::Failed, 99).await.counted, 0);
    // The second run fails at one of them, so the plan has it.
    course.engine.bad.lock().unwrap().insert(hour(2));
    let advance = backfill(&course, hours(0..3), BackfillRedo::Late, 99).await;
    assert_eq!((advance.counted, advance.late, advance.documents), (2, 40, 40));
    assert_eq!(plan(BackfillRedo::Late).await, hours([2]));
    assert_eq!(plan(BackfillRedo::Failed).await, hours([2]));
    course.engine.bad.lock().unwrap().clear();
    assert_eq!(backfill(&course, hours(0..3), BackfillRedo::Failed, 99).await.counted, 1);
    assert_eq!(backfill(&course, hours(0..3), BackfillRedo::Late, 99).await.counted, 0);
    let advance = backfill(&course, hours(0..3), BackfillRedo::All, 99).await;
    assert_eq!((advance.counted, advance.documents, advance.findings), (3, 0, 0));
}

#[tokio::test]
async fn a_window_that_is_not_due_is_refused() {
    let course = Course::new(None);
    let advance = backfill(&course, hours([29, 30]), BackfillRedo::None, 99).await;
    let problem =
        "job \"hourly\", window 2026-01-02T05:00:00Z: it is due at 2026-01-02T06:05:00Z; run it after that";
    assert_eq!(advance.failed[0].to_string(), problem);
    assert_eq!((advance.failed.len(), course.engine.seen().len()), (2, 0));
}

#[tokio::test]
async fn an_advance_costs_the_same_however_many_windows_are_settled() {
    let mut costs = Vec::new();
    for windows in [10, 100] {
        let objects = Arc::new(Hooked::counting(Arc::new(InMemory::new())));
        let mut course =
            Course::over(Store::with_objects("memory:///", Arc::<Hooked>::clone(&objects)), FROM);
        course.bench.job.window.recheck = None;
        assert_eq!(course.at(windows * 60 + 5).await.counted, windows as u64);
        let mut cost = async |minutes: i64| {
            let before = objects.requests.load(Ordering::SeqCst);
            course.at(minutes).await;
            objects.requests.load(Ordering::SeqCst) - before
        };
        let idle = cost(windows * 60 + 6).await;
        let one = cost(windows * 60 + 65).await;
        assert!(idle < one, "{idle} {one}");
        costs.push((idle, one));
        // Once a day all are looked at.
        assert!(cost(windows * 60 + 24 * 60 + 5).await > windows as usize);
    }
    assert_eq!(costs[0], costs[1]);
}

#[tokio::test]
async fn what_a_backfill_leaves_owed_is_found_by_the_next_advance() {
    let mut course = Course::new(FROM);
    course.bench.job.window.recheck = None;
    course.at(5 * 60 + 5).await;
    course.engine.inner.documents.store(120, Ordering::SeqCst);
    *course.bench.fails[0].lock().unwrap() = Fails::Before;
    backfill(&course, hours(0..3), BackfillRedo::All, 99).await;
    *course.bench.fails[0].lock().unwrap() = Fails::Never;
    assert_ne!(course.bench.alerts(0), course.bench.alerts(1));
    course.at(5 * 60 + 6).await;
    assert_eq!(course.bench.alerts(0), course.bench.alerts(1));
}

#[tokio::test]
async fn an_advance_goes_on_from_what_an_earlier_one_has_left() {
    let objects = Arc::new(InMemory::new());
    let mut course = Course::over(Store::with_objects("memory:///", Arc::clone(&objects) as _), FROM);
    course.bench.job.window.recheck = None;
    course.engine.bad.lock().unwrap().insert(hour(1));
    course.at(3 * 60 + 5).await;
    let path = Path::from("hourly/settled.json");
    let early = objects.get(&path).await.unwrap().bytes().await.unwrap();
    *course.bench.fails[0].lock().unwrap() = Fails::Before;
    course.at(5 * 60 + 5).await;
    *course.bench.fails[0].lock().unwrap() = Fails::Never;
    course.engine.seen();
    // The advance was killed before it left anything, or what it left cannot be used.
    for left in [early.clone(), "{".into(), r#"{"version":2}"#.into(), "{}".into()] {
        objects.put(&path, left.into()).await.unwrap();
        let advance = course.at(5 * 60 + 6).await;
        assert_eq!(course.engine.seen(), hours([1]));
        assert_eq!((advance.counted, advance.behind, advance.owed.len()), (0, 1, 0));
        assert_eq!(course.bench.inboxes[0].lock().unwrap().deliveries.len(), 4);
    }
    // Nothing is begun twice, and nothing is lost.
    objects.put(&path, early.into()).await.unwrap();
    course.engine.bad.lock().unwrap().clear();
    assert_eq!(course.at(5 * 60 + 7).await.counted, 1);
    assert_eq!(course.engine.seen(), hours([1]));
}
