//! A job over many hours whose runs are killed, whose server and sink fail, and whose documents arrive late: each
//! planted address is found in its window, no window is missing or doubled, and the alerts are the findings.
//!
//! `FLOWSIGMA_SEED` chooses other flows and other moments.

mod course;
mod killing;

use crate::golden::{alone, in_all_ways, registry, servers};
use course::Course;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::ops::Range;

/// Where the store of the job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Folder,
    Bucket,
}

/// What happens in which hour.
#[derive(Clone, Debug)]
struct Plan {
    hours: i64,
    /// From this hour on, two servers of jobs run the windows.
    served: i64,
    /// How often a run is killed, in the hours before.
    kills: usize,
    /// How often a killed run's lease is waited for; otherwise it is ended as time would.
    waits: usize,
    /// How often a server of jobs is killed.
    served_kills: usize,
    /// The server does not respond.
    down: Range<i64>,
    /// Documents of these hours arrive two hours late. The second of them is run by the servers of jobs.
    late: [i64; 2],
    /// The sink refuses all alerts.
    refused: i64,
}

fn full() -> Plan {
    Plan {
        hours: 48,
        served: 30,
        kills: 20,
        waits: 2,
        served_kills: 4,
        down: 11..14,
        late: [5, 35],
        refused: 20,
    }
}

fn short() -> Plan {
    Plan { hours: 10, served: 7, kills: 3, waits: 0, served_kills: 1, down: 1..4, late: [4, 7], refused: 5 }
}

fn seed() -> u64 {
    let seed = match std::env::var("FLOWSIGMA_SEED").as_deref() {
        Ok("random") => rand::random::<u32>().into(),
        Ok(number) => number.parse().expect("FLOWSIGMA_SEED is a number or \"random\""),
        Err(_) => 12,
    };
    println!("FLOWSIGMA_SEED={seed}");
    seed
}

async fn run(plan: Plan, kept: Kept, servers: &[String]) {
    let seed = seed();
    for url in servers {
        let _alone = alone(url).await;
        let connection = registry(url).get("test").unwrap();
        let rng = StdRng::seed_from_u64(seed);
        let mut course = Course::new(url, &connection, plan.clone(), kept, rng).await;
        course.run_by_hand().await;
        course.serve().await;
        course.check().await;
    }
}

/// The store does not depend on the server, so one server is enough for each, unless in all ways.
fn chosen_servers() -> Vec<String> {
    let all = if in_all_ways() { usize::MAX } else { 1 };
    servers().into_iter().take(all).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_window_is_missing_or_doubled_on_a_folder() {
    run(short(), Kept::Folder, &chosen_servers()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_window_is_missing_or_doubled_on_s3() {
    run(short(), Kept::Bucket, &chosen_servers()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: run scripts/test --long"]
async fn no_window_of_48_is_missing_or_doubled_on_a_folder() {
    run(full(), Kept::Folder, &servers()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: run scripts/test --long"]
async fn no_window_of_48_is_missing_or_doubled_on_s3() {
    run(full(), Kept::Bucket, &servers()).await;
}
