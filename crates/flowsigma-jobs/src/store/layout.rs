//! The names of the objects of a store.
//!
//! Owns: how job, window, revision, sink and time become a path, and back. Must not know: what the objects hold.

use crate::manifest::WindowTimes;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use object_store::path::{Path, PathPart};
use percent_encoding::percent_decode_str;

const TIME: &str = "%Y%m%dT%H%M%SZ";
const TIME_WITH_MILLIS: &str = "%Y%m%dT%H%M%S.%3fZ";
const COUNTS: &str = "counts.parquet";
const PAIRS: &str = "pairs.parquet";
const MANIFEST: &str = "manifest.json";
const RECOUNTS: &str = "recounts";
const DELIVERIES: &str = "deliveries";
const FAILED: &str = "failed.json";

/// What an object below a window's folder is.
#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    Failed,
    Counts(u32),
    Pairs(u32),
    Manifest(u32),
    Recount(u32, Timestamp),
    Delivery(u32, String),
}

/// Returns whether a text can be the name of a job: lower-case letters, digits and `-`.
pub(super) fn is_job_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Returns a time in the form of paths: `20260101T000000Z`, or `20260101T000000.250Z` between two seconds. What is below
/// a millisecond is cut off, as servers do.
pub(super) fn time_name(time: Timestamp) -> String {
    let form = if time.subsec_nanosecond() / 1_000_000 == 0 { TIME } else { TIME_WITH_MILLIS };
    time.strftime(form).to_string()
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let form = if text.contains('.') { TIME_WITH_MILLIS } else { TIME };
    let time = DateTime::strptime(form, text).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
    (time_name(time) == text).then_some(time)
}

/// Returns the name of a window's folder.
pub(super) fn window_name(window: WindowTimes) -> String {
    format!("{}_{}", time_name(window.start), time_name(window.end))
}

/// Returns the window of a folder's name.
pub(super) fn parse_window(name: &str) -> Option<WindowTimes> {
    let (start, end) = name.split_once('_')?;
    let window = WindowTimes { start: parse_time(start)?, end: parse_time(end)? };
    (window.start < window.end).then_some(window)
}

pub(super) fn job(job: &str) -> Path {
    Path::ROOT.join(job)
}

pub(super) fn windows(job: &str) -> Path {
    self::job(job).join("windows")
}

pub(super) fn window(job: &str, window: WindowTimes) -> Path {
    windows(job).join(window_name(window))
}

pub(super) fn failed(job: &str, window: WindowTimes) -> Path {
    self::window(job, window).join(FAILED)
}

fn revision_folder(job: &str, window: WindowTimes, revision: u32) -> Path {
    self::window(job, window).join(format!("r{revision:06}"))
}

pub(super) fn counts(job: &str, window: WindowTimes, revision: u32) -> Path {
    revision_folder(job, window, revision).join(COUNTS)
}

pub(super) fn pairs(job: &str, window: WindowTimes, revision: u32) -> Path {
    revision_folder(job, window, revision).join(PAIRS)
}

pub(super) fn manifest(job: &str, window: WindowTimes, revision: u32) -> Path {
    revision_folder(job, window, revision).join(MANIFEST)
}

pub(super) fn recount(job: &str, window: WindowTimes, revision: u32, at: Timestamp) -> Path {
    revision_folder(job, window, revision).join(RECOUNTS).join(format!("{}.json", time_name(at)))
}

/// Characters of a sink's name that a path cannot have are percent-encoded.
pub(super) fn delivery(job: &str, window: WindowTimes, revision: u32, sink: &str) -> Path {
    revision_folder(job, window, revision).join(DELIVERIES).join(format!("{sink}.json"))
}

pub(super) fn leases(job: &str) -> Path {
    self::job(job).join("lease")
}

pub(super) fn lease(job: &str, generation: u64) -> Path {
    leases(job).join(format!("{generation:010}.json"))
}

/// Returns the names of the folder and the file of a revision's findings, below the folder of the job.
pub(super) fn findings_name(window: WindowTimes, revision: u32, extension: &str) -> (String, String) {
    (window_name(window), format!("r{revision:06}.{extension}"))
}

/// What an advance leaves for the next one.
pub(super) fn settled(job: &str) -> Path {
    self::job(job).join("settled.json")
}

/// Returns the generation of a lease object's name.
pub(super) fn parse_lease(name: &str) -> Option<u64> {
    number(name.strip_suffix(".json")?, 10)
}

/// Returns what an object is, by the parts of its path below the window's folder. Another version may have objects that
/// this one does not know: they are `None`.
pub(super) fn kind<'a>(parts: impl Iterator<Item = PathPart<'a>>) -> Option<Kind> {
    let parts: Vec<PathPart<'a>> = parts.collect();
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    match parts[..] {
        [FAILED] => Some(Kind::Failed),
        [folder, COUNTS] => Some(Kind::Counts(parse_revision(folder)?)),
        [folder, PAIRS] => Some(Kind::Pairs(parse_revision(folder)?)),
        [folder, MANIFEST] => Some(Kind::Manifest(parse_revision(folder)?)),
        [folder, RECOUNTS, name] => {
            Some(Kind::Recount(parse_revision(folder)?, parse_time(name.strip_suffix(".json")?)?))
        }
        [folder, DELIVERIES, name] => {
            let sink = percent_decode_str(name.strip_suffix(".json")?).decode_utf8().ok()?;
            Some(Kind::Delivery(parse_revision(folder)?, sink.into_owned()))
        }
        _ => None,
    }
}

fn parse_revision(folder: &str) -> Option<u32> {
    number(folder.strip_prefix('r')?, 6)?.try_into().ok()
}

/// Returns a number that is written with at least `width` digits, and with no more than it needs beyond that.
fn number(text: &str, width: usize) -> Option<u64> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = text.parse().ok()?;
    (number > 0 && format!("{number:0width$}") == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour() -> WindowTimes {
        WindowTimes {
            start: "2026-01-01T00:00:00Z".parse().unwrap(),
            end: "2026-01-01T01:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn paths_are_as_documented() {
        let folder = "hourly/windows/20260101T000000Z_20260101T010000Z";
        assert_eq!(counts("hourly", hour(), 1).as_ref(), format!("{folder}/r000001/counts.parquet"));
        assert_eq!(pairs("hourly", hour(), 1).as_ref(), format!("{folder}/r000001/pairs.parquet"));
        assert_eq!(manifest("hourly", hour(), 12).as_ref(), format!("{folder}/r000012/manifest.json"));
        let at = "2026-01-02T03:04:05.6Z".parse().unwrap();
        let path = recount("hourly", hour(), 1, at);
        assert_eq!(path.as_ref(), format!("{folder}/r000001/recounts/20260102T030405.600Z.json"));
        let path = delivery("hourly", hour(), 1, "hook");
        assert_eq!(path.as_ref(), format!("{folder}/r000001/deliveries/hook.json"));
        assert_eq!(failed("hourly", hour()).as_ref(), format!("{folder}/failed.json"));
        assert_eq!(settled("hourly").as_ref(), "hourly/settled.json");
        assert_eq!(lease("hourly", 7).as_ref(), "hourly/lease/0000000007.json");
    }

    #[test]
    fn a_path_says_what_it_is() {
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        let sink = "a/b %#ü..";
        for (path, expected) in [
            (counts("j", hour(), 1), Kind::Counts(1)),
            (pairs("j", hour(), 1), Kind::Pairs(1)),
            (manifest("j", hour(), 1_234_567), Kind::Manifest(1_234_567)),
            (recount("j", hour(), 2, at), Kind::Recount(2, at)),
            (delivery("j", hour(), 3, sink), Kind::Delivery(3, sink.into())),
            (failed("j", hour()), Kind::Failed),
        ] {
            let parts = path.prefix_match(&window("j", hour())).unwrap();
            assert_eq!(kind(parts), Some(expected), "{path}");
        }
        for text in
            ["r1/manifest.json", "r000000/manifest.json", "r000001/else", "r000001/recounts/x.json", "x"]
        {
            let path = Path::from(text);
            assert_eq!(kind(path.parts()), None, "{text}");
        }
    }

    #[test]
    fn a_folder_that_no_window_has_is_none() {
        assert_eq!(parse_window(&window_name(hour())), Some(hour()));
        let end = "2026-01-01T01:00:00.25Z".parse().unwrap();
        let window = WindowTimes { end, ..hour() };
        assert_eq!(window_name(window), "20260101T000000Z_20260101T010000.250Z");
        assert_eq!(parse_window(&window_name(window)), Some(window));
        for name in [
            "20260101T010000Z_20260101T000000Z",
            "20260101T000000Z",
            "2026011T000000Z_20260101T010000Z",
            "20260101T000000Z_20260101T010000Z_2",
            "20260101T000000Z_20260101T010000.000Z",
            "20260101T000000Z_20260101T010000.25Z",
            "20261301T000000Z_20261401T010000Z",
        ] {
            assert_eq!(parse_window(name), None, "{name}");
        }
        assert_eq!(parse_lease("0000000012.json"), Some(12));
        for name in ["12.json", "0000000000.json", "00000000012.json", "+000000012.json", "x"] {
            assert_eq!(parse_lease(name), None, "{name}");
        }
    }

    #[test]
    fn a_job_name_is_one_folder() {
        assert!(is_job_name("hourly-flows-2"));
        for name in ["", "..", "a/b", "A", "a b", "é"] {
            assert!(!is_job_name(name), "{name}");
        }
    }
}
