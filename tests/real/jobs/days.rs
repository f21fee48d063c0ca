//! Days of 23 and of 25 hours: windows follow the calendar of their time zone, and each document is in one of them.

use super::bench::{JobFolder, JobText, runs_of};
use super::flows::{Flows, HOUR, millis, time};
use super::place::Place;
use crate::command::stderr;
use crate::golden::{alone, assert_nothing_open, registry, servers};
use serde_json::{Value, json};

/// The documents of an hour, another number in each of a day.
fn documents_of(hour: i64) -> i64 {
    10 + (hour * 7) % 25
}

/// Runs a job over the windows from `from` on that are due at `now`. Returns start, end and documents of each.
async fn run(url: &str, name: &str, every: &str, from: i64, now: i64) -> Vec<Value> {
    let folder = JobFolder::new(&[("prod", url)]);
    let place = Place::folder(&folder.path("store"));
    let window = format!(
        "every = \"{every}\"\ndelay = \"0s\"\ntime_zone = \"Europe/Berlin\"\nfrom = \"{}\"",
        time(from)
    );
    let sections = [place.section.as_str()];
    folder.write(name, &JobText { name, index: "days", window: &window, sections: &sections }.text());
    let ended = folder.job(name, &["run", "--format", "json", "--now", &time(now)]);
    assert!(ended.status.success(), "{}", stderr(&ended));
    let windows = folder.windows(name, &time(now));
    assert_eq!(runs_of(&ended).len(), windows.len(), "{windows:?}");
    assert!(windows.iter().all(|window| window["state"] == "done"), "{windows:?}");
    windows.iter().map(|window| json!([window["start"], window["end"], window["documents"]])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_23_and_one_of_25_hours_have_their_documents() {
    for url in servers() {
        let _alone = alone(&url).await;
        let connection = registry(&url).get("test").unwrap();
        for (midnight, hours) in [("2026-03-29T00:00:00+01:00", 23), ("2026-10-25T00:00:00+02:00", 25)] {
            let midnight = millis(midnight);
            // The days before and after have 24 hours.
            let (first, last) = (midnight - 24 * HOUR, midnight + (hours + 24) * HOUR);
            let mut flows = Flows::new(&connection, "days").await;
            let all: Vec<(String, String)> =
                (0..35).map(|i| (format!("10.0.0.{i}"), "10.2.0.1".into())).collect();
            // The hours beyond are in no window.
            let hours_of = |hours: std::ops::Range<i64>| hours.map(|hour| (hour, documents_of(hour + 100)));
            let loaded: Vec<(i64, &[(String, String)])> = hours_of(-25..hours + 25)
                .map(|(hour, count)| (midnight + hour * HOUR, &all[..usize::try_from(count).unwrap()]))
                .collect();
            flows.load_windows(&loaded, HOUR).await;
            let documents: i64 = hours_of(-24..hours + 24).map(|(_, count)| count).sum();
            let of = |start: i64, end: i64| -> Value {
                let loaded: u64 = flows.documents.range(start..end).map(|(_, documents)| documents).sum();
                json!([time(start), time(end), loaded])
            };

            let days = run(&url, "daily", "1d", first, last).await;
            let next = midnight + hours * HOUR;
            assert_eq!(days, [of(first, midnight), of(midnight, next), of(next, last)], "{url}");
            let sum: i64 = days.iter().map(|day| day[2].as_i64().unwrap()).sum();
            assert_eq!(sum, documents, "{url}");

            let expected: Vec<Value> =
                (0..hours).map(|hour| of(midnight + hour * HOUR, midnight + (hour + 1) * HOUR)).collect();
            assert_eq!(run(&url, "hourly", "1h", midnight, next).await, expected, "{url}");
        }
        assert_nothing_open(&connection).await;
    }
}
