//! Findings as lines of a file.
//!
//! Owns: the forms of lines. Must not know: where lines are written.

use super::identity::Identity;
use super::{csv, ndjson};
use crate::alert::Alert;
use std::fmt;

/// A finding as a line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) identity: Identity,
    /// The finding and a line feed.
    pub(super) text: Vec<u8>,
}

/// The form of the lines of a file. A line has no line feed but the one at its end.
pub(super) struct Form {
    /// The first line of a file, with its line feed. Empty if the form has none.
    pub(super) header: &'static [u8],
    /// Encodes a finding, with a line feed.
    encode: fn(&Alert) -> Result<Vec<u8>, String>,
    /// Reads the identity of a complete line, with or without its line feed. `None` if the line is not a finding.
    pub(super) identity: fn(&[u8]) -> Option<Identity>,
    /// Returns whether an incomplete line may be the begin of a finding.
    pub(super) may_begin: fn(&[u8]) -> bool,
}

/// One JSON object a line.
pub(super) static NDJSON: Form =
    Form { header: b"", encode: ndjson::encode, identity: ndjson::identity, may_begin: ndjson::may_begin };

/// Comma-separated values.
pub(super) static CSV: Form =
    Form { header: csv::HEADER, encode: csv::encode, identity: csv::identity, may_begin: csv::may_begin };

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form").finish_non_exhaustive()
    }
}

impl Form {
    /// Encodes findings in their order, without the header.
    ///
    /// # Errors
    ///
    /// If one of them cannot be encoded. The error names it.
    pub(super) fn lines(&self, alerts: &[Alert]) -> Result<Vec<Line>, String> {
        let line = |alert: &Alert| {
            let text = (self.encode)(alert)
                .map_err(|problem| format!("finding {} cannot be encoded: {problem}", alert.id))?;
            Ok(Line { identity: Identity::of(alert), text })
        };
        alerts.iter().map(line).collect()
    }

    /// Encodes findings in their order, with the header.
    ///
    /// # Errors
    ///
    /// If one of them cannot be encoded. The error names it.
    pub(super) fn file(&self, alerts: &[Alert]) -> Result<Vec<u8>, String> {
        let lines = self.lines(alerts)?;
        Ok(self.header.iter().copied().chain(lines.into_iter().flat_map(|line| line.text)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::tests::alert;

    #[test]
    fn a_line_has_the_identity_of_its_finding() {
        let mut alert = alert(1);
        alert.finding.address = "a\nb\r,\"c".into();
        for form in [&NDJSON, &CSV] {
            let Line { identity, text } = form.lines(std::slice::from_ref(&alert)).unwrap().remove(0);
            assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(text.last(), Some(&b'\n'));
            for length in 0..text.len() - 1 {
                assert!((form.may_begin)(&text[..length]), "{length}");
                assert_eq!((form.identity)(&text[..length]), None, "{length}");
            }
            assert_eq!((form.identity)(&text[..text.len() - 1]).as_ref(), Some(&identity));
            assert_eq!((form.identity)(&text), Some(identity));
            assert_eq!((form.identity)(form.header), None);
            for other in ["{\"id\":\"1\"}", "root:x:0:0", "[", "1,2,3"] {
                assert_eq!((form.identity)(other.as_bytes()), None);
            }
        }
    }
}
