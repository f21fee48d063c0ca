//! Findings as lines of JSON.
//!
//! Owns: one JSON object for each finding. Must not know: where lines are written.

use super::identity::Identity;
use crate::alert::Alert;

/// The first bytes of every line.
const HEAD: &[u8] = b"{\"id\":\"";

pub(super) fn encode(alert: &Alert) -> Result<Vec<u8>, String> {
    let mut text = serde_json::to_vec(alert).map_err(|error| error.to_string())?;
    text.push(b'\n');
    Ok(text)
}

pub(super) fn identity(line: &[u8]) -> Option<Identity> {
    serde_json::from_slice(line).ok()
}

pub(super) fn may_begin(torn: &[u8]) -> bool {
    torn.iter().zip(HEAD).all(|(byte, expected)| byte == expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::tests::alert;

    #[test]
    fn a_line_is_one_object() {
        let line = encode(&alert(1)).unwrap();
        assert!(line.starts_with(HEAD));
        assert_eq!(serde_json::from_slice::<Alert>(&line).unwrap(), alert(1));
    }
}
