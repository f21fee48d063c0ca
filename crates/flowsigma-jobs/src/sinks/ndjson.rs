//! Findings as lines of JSON.
//!
//! Owns: one line for each finding, and which finding a line is. Must not know: where lines are written.

use crate::alert::Alert;
use crate::manifest::WindowTimes;
use serde::Deserialize;

/// The first bytes of every line.
pub(super) const HEAD: &[u8] = b"{\"id\":\"";

/// What makes two lines the same finding of the same revision.
#[derive(Debug, PartialEq, Eq, Hash, Deserialize)]
pub(super) struct Identity {
    id: String,
    job: String,
    window: WindowTimes,
    revision: u32,
}

impl Identity {
    /// Reads the identity of a line, or `None` if the line is not a finding.
    pub(super) fn of(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

/// A finding as a line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) identity: Identity,
    /// The JSON object and a line feed.
    pub(super) text: Vec<u8>,
}

impl Line {
    /// Encodes a finding.
    ///
    /// # Errors
    ///
    /// If it cannot be written as JSON.
    pub(super) fn try_new(alert: &Alert) -> Result<Self, String> {
        let mut text = serde_json::to_vec(alert)
            .map_err(|e| format!("finding {} cannot be written as JSON: {e}", alert.id))?;
        text.push(b'\n');
        let identity = Identity {
            id: alert.id.clone(),
            job: alert.job.clone(),
            window: alert.window,
            revision: alert.revision,
        };
        Ok(Self { identity, text })
    }
}

/// Encodes findings in their order.
///
/// # Errors
///
/// If one of them cannot be written as JSON.
pub(super) fn lines(alerts: &[Alert]) -> Result<Vec<Line>, String> {
    alerts.iter().map(Line::try_new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::tests::alert;

    #[test]
    fn a_line_is_one_object_with_the_identity_of_its_finding() {
        let mut alert = alert(1);
        alert.finding.address = "a\nb".into();
        let line = Line::try_new(&alert).unwrap();
        assert!(line.text.starts_with(HEAD));
        assert_eq!(line.text.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(serde_json::from_slice::<Alert>(&line.text).unwrap(), alert);
        assert_eq!(Identity::of(&line.text), Some(line.identity));
        assert_eq!(Identity::of(b"{\"id\":\"1\"}"), None);
    }
}
