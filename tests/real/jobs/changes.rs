//! What changes between two runs: the indices behind a name, and the job file.

use super::bench::{JobFolder, JobText, runs_of};
use super::flows::{Flows, HOUR, Planted, delete, index_of_flows, millis, time};
use super::place::{Place, findings};
use crate::command::stderr;
use crate::golden::{alone, assert_nothing_open, registry, servers};
use elastic_client::{Method, Request};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

const START: &str = "2026-03-02T00:00:00Z";

/// The time at which an hour is due.
fn due(hour: i64) -> String {
    time(millis(START) + (hour + 1) * HOUR)
}

fn window(recheck: &str) -> String {
    format!("every = \"1h\"\ndelay = \"0s\"\nrecheck = \"{recheck}\"\nfrom = \"{START}\"")
}

fn run(folder: &JobFolder, job: &str, now: &str) -> Vec<Value> {
    let ended = folder.job(job, &["run", "--format", "json", "--now", now]);
    assert!(ended.status.success(), "{job}: {}", stderr(&ended));
    runs_of(&ended)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_over_the_rollover_of_an_index_has_the_documents_of_both() {
    const BOTH: &str = "rolled-000001,rolled-000002";
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        delete(&connection, BOTH).await;
        let mut body = index_of_flows();
        body["aliases"] = json!({ "rolled": { "is_write_index": true } });
        let create = Request::new(Method::Put, "/rolled-000001", "create a test index").with_body(&body);
        connection.send(&create).await.unwrap();
        let mut flows = Flows::in_index(&connection, "rolled");
        let mut rng = StdRng::seed_from_u64(12);
        let start = millis(START);
        flows.load_window(start, HOUR, Planted::SCANNER, &mut rng).await;

        let folder = JobFolder::new(&[("prod", &url)]);
        let jobs = [("by-alias", "rolled"), ("by-pattern", "rolled-*")];
        let places = jobs.map(|(name, index)| {
            let place = Place::folder(&folder.path(name));
            let (window, sections) = (window("24h"), [place.section.as_str()]);
            folder.write(name, &JobText { name, index, window: &window, sections: &sections }.text());
            place
        });
        for (name, _) in jobs {
            assert_eq!(run(&folder, name, &due(0)).len(), 1);
        }

        // The second hour begins in one index and ends in the other, and so does one of its scanners.
        flows.load_window(start + HOUR, HOUR, Planted::NONE, &mut rng).await;
        let scan = |flows: i64| -> Vec<(String, String)> {
            (0..flows).map(|i| ("10.9.9.9".to_owned(), format!("10.3.0.{}", i % 100))).collect()
        };
        flows.load(start + HOUR, HOUR / 2, &scan(100)).await;
        let roll = Request::new(Method::Post, "/rolled/_rollover", "roll over").with_body(&index_of_flows());
        let rolled = connection.send(&roll).await.unwrap().json("rollover").unwrap();
        assert_eq!(rolled["new_index"], "rolled-000002", "{rolled}");
        flows.load(start + HOUR, HOUR, &scan(300)).await;
        flows.planted.push((time(start + HOUR), "10.9.9.9".into(), "outgoing".into(), 400));
        // Late documents of the first hour are in the new index.
        flows.load_late(start, HOUR, &mut rng).await;

        for ((name, _), place) in jobs.iter().zip(&places) {
            let runs = run(&folder, name, &due(1));
            assert_eq!(runs.len(), 2, "{name}: {runs:?}");
            let manifests = place.manifests(name).await;
            let newest = || manifests.values().filter_map(|revisions| revisions.last());
            assert_eq!(findings(newest()), flows.planted(), "{name}");
            let counted: Vec<Value> = newest().map(|manifest| manifest["documents"].clone()).collect();
            let loaded: Vec<u64> = flows.documents.values().copied().collect();
            assert_eq!(json!(counted), json!(loaded), "{name}");
            let revisions: Vec<usize> = manifests.values().map(Vec::len).collect();
            assert_eq!(revisions, [2, 1], "{name}");
        }
        assert_nothing_open(&connection).await;
        delete(&connection, BOTH).await;
    }
}

/// Returns which versions of a job file ran each window.
async fn digests(place: &Place, job: &str) -> Vec<Vec<Value>> {
    let digests = |revisions: &Vec<Value>| revisions.iter().map(|m| m["job_digest"].clone()).collect();
    place.manifests(job).await.values().map(digests).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_says_which_version_of_the_job_file_ran() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        let mut flows = Flows::new(&connection, "versions").await;
        let mut rng = StdRng::seed_from_u64(12);
        let start = millis(START);
        for hour in 0..4 {
            flows.load_window(start + hour * HOUR, HOUR, Planted::SCANNER, &mut rng).await;
        }
        let folder = JobFolder::new(&[("prod", &url)]);
        let place = Place::folder(&folder.path("store"));
        let (name, window) = ("versions", window("0s"));
        let text = |sections: &[&str]| JobText { name, index: name, window: &window, sections }.text();
        let first = text(&[&place.section]);
        let second = text(&[&place.section, "[detection]\nminimum_count = 1000"]);

        folder.write(name, &first);
        assert_eq!(run(&folder, name, &due(1)).len(), 2);
        folder.write(name, &second);
        assert_eq!(run(&folder, name, &due(2)).len(), 1);
        let ran = digests(&place, name).await;
        let (a, b) = (ran[0][0].clone(), ran[2][0].clone());
        assert_ne!(a, b);
        assert!([&a, &b].iter().all(|digest| digest.as_str().unwrap().len() == 64), "{a} {b}");
        assert_eq!(ran, [vec![a.clone()], vec![a.clone()], vec![b.clone()]]);

        let (from, to) = (time(start), time(start + 2 * HOUR));
        let redo = ["backfill", "--from", &from, "--to", &to, "--redo", "all", "--now", &due(2)];
        let redone = folder.job(name, &redo);
        assert!(redone.status.success(), "{}", stderr(&redone));
        folder.write(name, &first);
        run(&folder, name, &due(3));
        let both = vec![a.clone(), b.clone()];
        assert_eq!(digests(&place, name).await, [both.clone(), both, vec![b], vec![a]]);
        // What the second version does not find is of its revisions alone.
        let manifests = place.manifests(name).await;
        let found: Vec<Vec<usize>> = manifests
            .values()
            .map(|revisions| revisions.iter().map(|m| m["findings"].as_array().unwrap().len()).collect())
            .collect();
        assert_eq!(found, [vec![1, 0], vec![1, 0], vec![0], vec![1]]);
        assert_nothing_open(&connection).await;
    }
}
