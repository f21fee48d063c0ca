//! From manifests to alerts.
//!
//! Owns: the identity of a finding, and what became of it between two revisions. Must not know: sinks or the store.

use crate::alert::{Alert, AlertState};
use crate::manifest::{Finding, Manifest};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Means and deviations that differ by less than this share are equal: the order of a sum changes its last digits.
const NOISE: f64 = 1e-9;

/// Returns what a revision says beyond an earlier one of the same window: new findings and those with other numbers, in
/// the order of the manifest, then those that are no longer found. A finding with the same numbers gives no alert.
///
/// The same two manifests give the same alerts.
pub fn alerts(previous: Option<&Manifest>, now: &Manifest) -> Vec<Alert> {
    let before = previous.map_or(&[][..], |manifest| &manifest.findings);
    let alert = |finding: &Finding, state| Alert {
        id: id(now, finding),
        job: now.job.clone(),
        window: now.window,
        revision: now.revision,
        state,
        finding: finding.clone(),
        detected: now.ended,
    };
    let found = now.findings.iter().filter_map(|finding| match before.iter().find(|f| is_same(f, finding)) {
        None => Some(alert(finding, AlertState::New)),
        Some(old) if has_same_numbers(old, finding) => None,
        Some(_) => Some(alert(finding, AlertState::Amended)),
    });
    let gone = before.iter().filter(|old| !now.findings.iter().any(|finding| is_same(old, finding)));
    found.chain(gone.map(|old| alert(old, AlertState::Withdrawn))).collect()
}

fn is_same(a: &Finding, b: &Finding) -> bool {
    a.address == b.address && a.direction == b.direction
}

fn has_same_numbers(a: &Finding, b: &Finding) -> bool {
    let near = |a: f64, b: f64| a == b || (a - b).abs() <= NOISE * a.abs().max(b.abs());
    a.outgoing == b.outgoing
        && a.incoming == b.incoming
        && near(a.mean, b.mean)
        && near(a.stddev, b.stddev)
        && near(a.z, b.z)
}

/// Returns the SHA-256 of job, start, direction and address, each with a final zero byte, in hex.
fn id(manifest: &Manifest, finding: &Finding) -> String {
    let start = manifest.window.start.to_string();
    let mut hash = Sha256::new();
    for part in [manifest.job.as_str(), &start, &finding.direction, &finding.address] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a string cannot fail.
        _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::test_data::{finding, manifest};

    fn states(previous: Option<&Manifest>, now: &Manifest) -> Vec<(String, AlertState)> {
        alerts(previous, now).into_iter().map(|a| (a.finding.address, a.state)).collect()
    }

    #[test]
    fn a_first_revision_has_only_new_findings() {
        let now = manifest(1, &[("10.0.0.1", 50), ("10.0.0.2", 60)]);
        let expected = [("10.0.0.1".into(), AlertState::New), ("10.0.0.2".into(), AlertState::New)];
        assert_eq!(states(None, &now), expected);
        assert_eq!(alerts(None, &now), alerts(None, &now.clone()));
    }

    #[test]
    fn a_later_revision_says_what_changed() {
        let before = manifest(1, &[("10.0.0.1", 50), ("10.0.0.2", 60), ("10.0.0.3", 70)]);
        let now = manifest(2, &[("10.0.0.4", 50), ("10.0.0.3", 70), ("10.0.0.2", 61)]);
        let expected = [
            ("10.0.0.4".into(), AlertState::New),
            ("10.0.0.2".into(), AlertState::Amended),
            ("10.0.0.1".into(), AlertState::Withdrawn),
        ];
        assert_eq!(states(Some(&before), &now), expected);
        let withdrawn = alerts(Some(&before), &now).pop().unwrap();
        assert_eq!((withdrawn.revision, withdrawn.finding.outgoing), (2, 50));
        assert_eq!(states(Some(&now), &now), []);
    }

    #[test]
    fn the_last_digits_of_a_mean_are_no_change() {
        let before = manifest(1, &[("10.0.0.1", 50)]);
        let mut now = manifest(2, &[("10.0.0.1", 50)]);
        now.findings[0].mean *= 1.0 + 1e-14;
        assert_eq!(states(Some(&before), &now), []);
        now.findings[0].mean *= 1.0 + 1e-6;
        assert_eq!(states(Some(&before), &now), [("10.0.0.1".into(), AlertState::Amended)]);
    }

    #[test]
    fn an_id_is_that_of_the_finding_and_not_of_the_revision() {
        let id = |revision, direction: &str, address| {
            let mut now = manifest(revision, &[(address, 50)]);
            now.findings[0].direction = direction.into();
            alerts(None, &now).remove(0).id
        };
        assert_eq!(id(1, "outgoing", "10.0.0.1"), id(2, "outgoing", "10.0.0.1"));
        assert_ne!(id(1, "outgoing", "10.0.0.1"), id(1, "incoming", "10.0.0.1"));
        assert_ne!(id(1, "outgoing", "10.0.0.1"), id(1, "outgoing", "10.0.0.2"));
        // printf 'hourly\0002026-01-01T00:00:00Z\000outgoing\00010.0.0.1\000' | sha256sum
        assert_eq!(
            id(1, "outgoing", "10.0.0.1"),
            "b14807fbb3b9bbec421a37d51937945c77edae46e678f75d6c30d7ccdf5415b8"
        );
        assert_eq!(finding("10.0.0.1", 50).direction, "outgoing");
    }
}
