//! Servers over a store in memory, with a simulated clock.
//!
//! Time passes only while every task waits, so days take milliseconds.

use super::simulation::{World, job_text};
use super::*;
use crate::lease::Lease;
use crate::run::test_data::{Fails, hour};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Two days are over, and the last window is due.
const END: u64 = 48 * 60 + 10;

#[tokio::test(start_paused = true)]
async fn two_days_with_failures_late_documents_and_a_sink_that_is_down() {
    let world = World::new(|engine| {
        // At the runs of the hours 9 to 12.
        engine.down = 10 * 60..13 * 60 + 30;
        engine.late = (23 * 60, vec![hour(20), hour(21)]);
    });
    let sink_is_down = async {
        world.at(30 * 60).await;
        *world.sinks[1].fails.lock().unwrap() = Fails::Before;
        world.at(30 * 60 + 20).await;
        assert_eq!(world.hourly("sinks_owed"), 1.0);
        assert_eq!(world.status.problems(), ["job \"hourly\": the last run failed, or a sink did"]);
        world.at(31 * 60).await;
        *world.sinks[1].fails.lock().unwrap() = Fails::Never;
        world.at(31 * 60 + 4).await;
        // No window was due, so the pause after the failures was not longer than a quarter of an hour.
        world.at(31 * 60 + 20).await;
        assert_eq!(world.hourly("sinks_owed"), 0.0);
    };
    let outage = async {
        world.at(12 * 60 + 30).await;
        assert_eq!(world.hourly("windows_behind"), 3.0);
        let last = hour(0).start + Duration::from_secs((9 * 60 + 5) * 60);
        assert_eq!(world.hourly("last_success_timestamp_seconds"), last.as_second() as f64);
        assert!(world.status.is_alive());
        world.at(13 * 60 + 46).await;
        assert_eq!(world.hourly("windows_behind"), 0.0);
    };
    let server = world.server().run(world.at(END));
    let (served, (), ()) = tokio::join!(server, sink_is_down, outage);
    served.unwrap();
    for n in 0..48 {
        let expected: &[u32] = if n == 20 || n == 21 { &[1, 2] } else { &[1] };
        assert_eq!(world.revisions(n).await, expected, "hour {n}");
    }
    assert!(world.revisions(48).await.is_empty());
    let alerts = |sink: usize| world.sinks[sink].inbox.lock().unwrap().alerts.clone();
    assert_eq!((alerts(0).len(), alerts(0)), (50, alerts(1)));
    // Each delivery was made once.
    assert_eq!(world.sinks[0].inbox.lock().unwrap().deliveries.len(), 50);
    // First runs are in order.
    let mut first: Vec<_> = world.done();
    let mut seen = BTreeSet::new();
    first.retain(|window| seen.insert(*window));
    assert_eq!(first, (0..48).map(hour).collect::<Vec<_>>());
    assert_eq!((world.hourly("documents_total"), world.hourly("late_documents_total")), (4860.0, 60.0));
    assert_eq!((world.hourly("findings_total"), world.hourly("window_seconds")), (48.0, 3600.0));
    let failures = world.engine.failed.load(Ordering::SeqCst);
    assert!(world.hourly("failures_total") >= failures as f64 && (4..80).contains(&failures), "{failures}");
    assert_eq!((world.hourly("windows_behind"), world.hourly("file_errors")), (0.0, 0.0));
    assert_eq!(world.status.problems(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn two_servers_on_one_store_run_each_window_once() {
    let world = World::new(|engine| engine.pause = Duration::from_secs(200));
    let mut second = world.server();
    second.status = Arc::default();
    let status = Arc::clone(&second.status);
    let (first, second) = tokio::join!(world.server().run(world.at(END)), second.run(world.at(END)));
    first.and(second).unwrap();
    assert_eq!(world.done(), (0..48).map(hour).collect::<Vec<_>>());
    for sink in &world.sinks {
        assert_eq!(sink.inbox.lock().unwrap().deliveries.len(), 48);
    }
    // Both know of the last success, whoever had it.
    let line = "flowsigma_job_last_success_timestamp_seconds{name=\"hourly\"} ";
    let texts = [world.status.metrics().unwrap(), status.metrics().unwrap()];
    let of = |text: &String| text.lines().find_map(|l| l.strip_prefix(line)).unwrap().to_owned();
    assert_eq!(of(&texts[0]), of(&texts[1]));
}

#[tokio::test(start_paused = true)]
async fn changed_wrong_and_removed_files_are_noticed() {
    let world = World::new(|_| ());
    let path = world.folder.path().join("hourly.toml");
    let second = job_text("[detection]\nsigma = 4\n");
    let edits = async {
        world.at(3 * 60 + 20).await;
        world.write("hourly.toml", &second);
        world.at(6 * 60 + 20).await;
        world.write("hourly.toml", "sigma = ");
        world.write("other.toml", "x");
        world.at(9 * 60 + 20).await;
        assert_eq!(world.hourly("file_errors"), 1.0);
        assert_eq!(world.metric("flowsigma_job_file_errors{name=\"other\"}"), Some(1.0));
        let wrong = ["hourly", "other"].map(|name| format!("job \"{name}\": the job file is wrong"));
        assert_eq!(world.status.problems(), wrong);
        world.write("hourly.toml", &second);
        std::fs::remove_file(world.folder.path().join("other.toml")).unwrap();
        world.at(12 * 60 + 20).await;
        assert_eq!(world.hourly("file_errors"), 0.0);
        assert_eq!(world.metric("flowsigma_job_file_errors{name=\"other\"}"), None);
        std::fs::remove_file(&path).unwrap();
        world.at(14 * 60).await;
        // A job that is not served has no metrics.
        assert!(!world.status.metrics().unwrap().contains("hourly"));
    };
    let (served, ()) = tokio::join!(world.server().run(world.at(15 * 60)), edits);
    served.unwrap();
    let digest = |text: &str| JobFile::parse(&path, text).unwrap().digest;
    for n in 0..12 {
        let manifest = world.store.newest("hourly", hour(n)).await.unwrap().unwrap();
        let expected = digest(&if n < 3 { job_text("") } else { second.clone() });
        assert_eq!(manifest.job_digest, expected, "hour {n}");
    }
    assert_eq!(world.done().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_used_from_the_next_window_on() {
    let world = World::new(|engine| engine.pause = Duration::from_secs(600));
    // Twelve windows are missed, and each takes ten minutes.
    let edit = async {
        world.at(12 * 60 + 15).await;
        world.write("hourly.toml", &job_text("[detection]\nsigma = 4\n"));
    };
    let served = async {
        world.at(12 * 60 + 10).await;
        world.server().run(world.at(15 * 60)).await
    };
    let (served, ()) = tokio::join!(served, edit);
    served.unwrap();
    let first = world.store.newest("hourly", hour(0)).await.unwrap().unwrap();
    let second = world.store.newest("hourly", hour(1)).await.unwrap().unwrap();
    assert_ne!(first.job_digest, second.job_digest);
    // No window was begun twice.
    assert_eq!(world.done(), (0..14).map(hour).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_the_middle_of_a_window_waits_for_it_as_long_as_told() {
    for (drain, expected) in [(15, vec![1]), (2, vec![])] {
        let mut world = World::new(|engine| engine.pause = Duration::from_secs(600));
        world.options.drain = Duration::from_secs(drain * 60);
        // The hours 0 and 1 are missed. Hour 1 runs from 02:16 to 02:26.
        let served = async {
            world.at(2 * 60 + 6).await;
            world.server().run(world.at(2 * 60 + 20)).await
        };
        served.await.unwrap();
        let minute = world.engine.minute();
        assert_eq!(world.revisions(0).await, [1]);
        assert_eq!(world.revisions(1).await, expected, "drain {drain}");
        assert_eq!(minute, if drain == 15 { 2 * 60 + 26 } else { 2 * 60 + 22 });
        // The lease is free at once.
        Lease::take(&world.store, "hourly", "next 1", Duration::from_secs(60)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_runs_at_its_times_and_catches_up_a_missed_one() {
    let world = World::new(|_| ());
    world.write("hourly.toml", &job_text("[schedule]\ncron = \"30 */6 * * *\"\n"));
    let first = async {
        let checks = async {
            world.at(6 * 60 + 20).await;
            assert_eq!((world.done().len(), world.hourly("windows_behind")), (0, 6.0));
            world.at(6 * 60 + 35).await;
            assert_eq!((world.done().len(), world.hourly("windows_behind")), (6, 0.0));
        };
        tokio::join!(world.server().run(world.at(7 * 60)), checks).0.unwrap();
    };
    first.await;
    // No process runs at 12:30.
    world.at(14 * 60).await;
    let checks = async {
        world.at(14 * 60 + 5).await;
        assert_eq!(world.done().len(), 13);
        world.at(18 * 60 + 25).await;
        assert_eq!(world.done().len(), 13);
    };
    tokio::join!(world.server().run(world.at(19 * 60)), checks).0.unwrap();
    assert_eq!(world.done().len(), 18);
    // A start is no reason to run before the next time.
    world.at(21 * 60).await;
    world.server().run(world.at(24 * 60 + 20)).await.unwrap();
    assert_eq!(world.done().len(), 18);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_sinks_cannot_be_made_or_whose_task_panics_is_tried_again() {
    let world = World::new(|_| ());
    let mut server = world.server();
    let (make_sinks, attempts) = (Arc::clone(&server.make_sinks), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&attempts);
    server.make_sinks = Arc::new(move |job| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Err(crate::Error::Sink { job: job.name.clone(), sink: "a".into(), problem: "no secret".into() }),
        1 => panic!("a test panics"),
        _ => make_sinks(job),
    });
    server.run(world.at(70)).await.unwrap();
    assert_eq!((attempts.load(Ordering::SeqCst), world.hourly("failures_total")), (3, 2.0));
    assert_eq!(world.done(), [hour(0)]);
    // The last success of another process is known before the first run.
    let next = World { status: Arc::default(), ..world };
    next.write("hourly.toml", &job_text("[schedule]\ncron = \"30 */6 * * *\"\n"));
    next.server().run(next.at(80)).await.unwrap();
    let last = next.store.newest("hourly", hour(0)).await.unwrap().unwrap().ended;
    assert_eq!(next.hourly("last_success_timestamp_seconds"), last.as_second() as f64);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_corrected_is_tried_at_once() {
    let world = World::new(|_| ());
    let mut server = world.server();
    let make_sinks = Arc::clone(&server.make_sinks);
    server.make_sinks = Arc::new(move |job| match job.detection.sigma {
        4.0 => make_sinks(job),
        _ => Err(crate::Error::Sink { job: job.name.clone(), sink: "a".into(), problem: "no secret".into() }),
    });
    let edit = async {
        // The pause has grown to a quarter of an hour: the last one began after 01:35.
        world.at(60 + 40).await;
        world.write("hourly.toml", &job_text("[detection]\nsigma = 4\n"));
        world.at(60 + 43).await;
        assert_eq!(world.done(), [hour(0)]);
        assert_eq!(world.status.problems(), [""; 0]);
    };
    tokio::join!(server.run(world.at(60 + 44)), edit).0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn jobs_share_the_permits() {
    let mut world = World::new(|engine| engine.pause = Duration::from_secs(600));
    world.options.concurrency = NonZeroUsize::MIN;
    for n in 0..3 {
        world.write(&format!("{n}.toml"), &job_text("").replace("hourly", &format!("hourly-{n}")));
    }
    world.at(66).await;
    world.server().run(world.at(66 + 45)).await.unwrap();
    // Four jobs of ten minutes each, one after another.
    assert_eq!(world.done(), [hour(0); 4]);
    let mut ends = Vec::new();
    for job in ["hourly", "hourly-0", "hourly-1", "hourly-2"] {
        ends.push(world.store.newest(job, hour(0)).await.unwrap().unwrap().ended);
    }
    ends.sort();
    assert!(ends.windows(2).all(|pair| pair[1].duration_since(pair[0]).as_mins() == 10), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_is_missing_ends_the_server() {
    let world = World::new(|_| ());
    let server = Server { folder: "/nowhere/jobs".into(), ..world.server() };
    let error = server.run(std::future::pending()).await.unwrap_err().to_string();
    assert!(error.contains("/nowhere/jobs"), "{error}");
    assert!(!world.status.is_ready());
}
