//! Ten jobs at 50 times the speed of time: memory is flat, nothing stays open, and the metrics are right.
//!
//! `FLOWSIGMA_SOAK_MINUTES` says for how long.

use super::bench::{JobFolder, JobText, Served};
use super::flows::{Flows, HOUR, Planted, delete, millis, time};
use super::place::{Found, Place, alerts, findings};
use crate::golden::{alone, assert_nothing_open, registry, servers};
use flowsigma_tests::cluster::{POLL_INTERVAL, free_ports};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SPEED: i64 = 50;
const MINUTE: i64 = 60_000;
const START: &str = "2026-03-04T00:00:00Z";
const ALERTS: &str = "soak-alerts";
/// The lengths of the jobs' windows, in minutes.
const EVERY: [i64; 10] = [15, 15, 30, 30, 60, 60, 60, 60, 60, 60];
/// How much more memory the last quarter of the time may have than the second one, in percent.
const GROWTH: usize = 10;
/// What is left to do once the last window is due, on a busy machine with debug builds.
const REST: Duration = Duration::from_secs(600);

struct Job {
    name: String,
    every: i64,
    windows: i64,
    place: Place,
    flows: Flows,
}

/// The metrics of a job, as `/metrics` has them.
fn metric(metrics: &str, metric: &str, job: &str) -> u64 {
    let start = format!("flowsigma_job_{metric}{{name=\"{job}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&start));
    value.unwrap_or_else(|| panic!("no {start}: {metrics}")).parse().unwrap()
}

fn sum(metrics: &str, name: &str, jobs: &[Job]) -> u64 {
    jobs.iter().map(|job| metric(metrics, name, &job.name)).sum()
}

/// Returns the memory of a process in bytes.
fn memory(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<usize>().unwrap() * 1024
}

fn median(samples: &[usize]) -> usize {
    let mut samples = samples.to_vec();
    samples.sort_unstable();
    samples[samples.len() / 2]
}

/// Samples the memory each time that documents were counted, until all were. Returns the samples and the metrics.
async fn sample(server: &mut Served, jobs: &[Job], longest: Duration) -> (Vec<usize>, String) {
    let loaded: u64 = jobs.iter().flat_map(|job| job.flows.documents.values()).sum();
    let (began, mut counted, mut samples) = (Instant::now(), 0, Vec::new());
    loop {
        let metrics = server.get("/metrics").await.unwrap_or_else(|| panic!("{}", server.log()));
        let documents = sum(&metrics, "documents_total", jobs);
        if documents > counted {
            counted = documents;
            samples.push(memory(server.process.id()));
            let (behind, seconds) = (sum(&metrics, "windows_behind", jobs), began.elapsed().as_secs());
            let mib = samples.last().map_or(0, |bytes| bytes >> 20);
            println!("{seconds} s: {documents} of {loaded} documents, {behind} windows behind, {mib} MiB");
        }
        if counted >= loaded && sum(&metrics, "windows_behind", jobs) == 0 {
            return (samples, metrics);
        }
        assert!(began.elapsed() < longest, "{metrics}\n{}", server.log());
        tokio::time::sleep(POLL_INTERVAL * 10).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "an hour: run scripts/test --soak"]
async fn ten_jobs_at_50_times_the_speed_of_time() {
    let minutes = std::env::var("FLOWSIGMA_SOAK_MINUTES").map_or(60, |minutes| minutes.parse().unwrap());
    let url = servers().remove(0);
    let _alone = alone(&url).await;
    let connection = registry(&url).get("test").unwrap();
    delete(&connection, ALERTS).await;
    let (start, length) = (millis(START), minutes * MINUTE * SPEED);
    let end = start + length / HOUR * HOUR;
    assert!(end > start, "two minutes are the shortest time that has a window of each job");
    let folder = JobFolder::new(&[("prod", &url), ("alerts", &url)]);
    let mut rng = StdRng::seed_from_u64(12);
    let mut jobs = Vec::new();
    for (number, minutes) in EVERY.iter().enumerate() {
        let name = format!("soak-{number}");
        let every = minutes * MINUTE;
        let mut flows = Flows::new(&connection, &name).await;
        let windows = (end - start) / every;
        for window in 0..windows {
            flows.load_window(start + window * every, every, Planted::random(&mut rng), &mut rng).await;
        }
        let place = Place::folder(&folder.path("store").join(&name));
        let sink = format!("[[sinks]]\ntype = \"index\"\nconnection = \"alerts\"\nindex = \"{ALERTS}\"");
        let window =
            format!("every = \"{minutes}m\"\ndelay = \"{number}m\"\nrecheck = \"2h\"\nfrom = \"{START}\"");
        let sections = [place.section.as_str(), sink.as_str()];
        folder.write(
            &name,
            &JobText { name: &name, index: &name, window: &window, sections: &sections }.text(),
        );
        jobs.push(Job { name, every, windows, place, flows });
    }

    let port = free_ports(1).unwrap()[0];
    let mut server = folder.serve(port, &format!("{START}@{SPEED}"), "serve.log");
    server.wait_until_ready().await;
    let longest = Duration::from_secs(u64::try_from(minutes * 60).unwrap()) + REST;
    let (samples, metrics) = sample(&mut server, &jobs, longest).await;
    let status = server.stop().await;
    assert!(status.success(), "{status}: {}", server.log());

    let mut planted: Vec<Found> = Vec::new();
    for Job { name, every, windows, place, flows } in &jobs {
        let documents: u64 = flows.documents.values().sum();
        assert_eq!(metric(&metrics, "documents_total", name), documents, "{name}");
        assert_eq!(metric(&metrics, "findings_total", name), flows.planted.len() as u64, "{name}");
        for none in ["late_documents_total", "failures_total", "sinks_owed", "windows_behind"] {
            assert_eq!(metric(&metrics, none, name), 0, "{name}: {none}");
        }
        // The server's clock may have gone beyond the flows.
        let mut manifests = place.manifests(name).await;
        manifests.retain(|start, _| millis(start) < end);
        let expected: Vec<String> = (0..*windows).map(|window| time(start + window * every)).collect();
        assert_eq!(manifests.keys().cloned().collect::<Vec<_>>(), expected, "{name}");
        assert!(manifests.values().all(|revisions| revisions.len() == 1), "{name}");
        let counted: Vec<Value> =
            manifests.values().map(|revisions| revisions[0]["documents"].clone()).collect();
        assert_eq!(json!(counted), json!(flows.documents.values().collect::<Vec<_>>()), "{name}");
        assert_eq!(findings(manifests.values().flatten()), flows.planted(), "{name}");
        planted.extend(flows.planted.iter().cloned());
    }
    planted.sort();
    assert_eq!(alerts(&url, ALERTS).await, planted);
    assert_nothing_open(&connection).await;

    let quarter = samples.len() / 4;
    assert!(quarter > 0, "{samples:?}");
    let (before, after) = (median(&samples[quarter..2 * quarter]), median(&samples[3 * quarter..]));
    println!("{} samples: second quarter {} MiB, last {} MiB", samples.len(), before >> 20, after >> 20);
    assert!(after * 100 <= before * (100 + GROWTH), "{before} bytes, then {after}");
    let indices: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).chain([ALERTS]).collect();
    delete(&connection, &indices.join(",")).await;
}
