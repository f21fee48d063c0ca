//! Looking for secrets where they must not be.
//!
//! Owns: the forms in which a secret could show, and the search. Must not know: whose they are.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::path::Path;

/// Forms of secrets, each with a name that may be shown.
#[derive(Default)]
pub struct Secrets(Vec<(String, String)>);

impl Secrets {
    /// Adds a secret as it is, in base64, in hexadecimal, and as the list of bytes that `{:?}` of a
    /// `Vec<u8>` prints.
    pub fn add(&mut self, name: &str, secret: &str) {
        let bytes = secret.as_bytes();
        let numbers = bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let forms = [
            ("itself", secret.to_owned()),
            ("in base64", STANDARD_NO_PAD.encode(secret)),
            ("in base64 for URLs", URL_SAFE_NO_PAD.encode(secret)),
            ("in hexadecimal", hex),
            ("as numbers", numbers),
        ];
        for (form, text) in forms {
            self.0.push((format!("{name} {form}"), text.to_ascii_lowercase()));
        }
    }

    /// Adds a user's password, and the header by which it is sent.
    pub fn add_password(&mut self, user: &str, password: &str) {
        self.add(&format!("the password of {user}"), password);
        let header = STANDARD.encode(format!("{user}:{password}"));
        self.add(&format!("the basic credentials of {user}"), &header);
    }

    /// Names of the secrets that `text` holds, whatever their case.
    pub fn found_in(&self, text: &[u8]) -> Vec<&str> {
        let lower = String::from_utf8_lossy(text).to_ascii_lowercase();
        self.0.iter().filter(|(_, secret)| lower.contains(secret)).map(|(name, _)| name.as_str()).collect()
    }

    /// As `file: secret`, all secrets in the files under `folder`; and how many files that were.
    pub fn found_under(&self, folder: &Path) -> Result<(Vec<String>, usize)> {
        let (mut found, mut files) = (Vec::new(), 0);
        for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                let (more, count) = self.found_under(&path)?;
                found.extend(more);
                files += count;
                continue;
            }
            files += 1;
            let text = std::fs::read(&path)?;
            found.extend(self.found_in(&text).iter().map(|name| format!("{}: {name}", path.display())));
        }
        Ok((found, files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_secret_is_found_in_any_case() {
        let mut secrets = Secrets::default();
        secrets.add_password("flows", "Hunter2?>");
        for leak in [
            "password: hunter2?>",
            "HUNTER2?>",
            "Authorization: Basic Zmxvd3M6SHVudGVyMj8+",
            "x=Zmxvd3M6SHVudGVyMj8-",
            "SHVudGVyMj8+",
            "48756E746572323f3e",
            "Bytes([72, 117, 110, 116, 101, 114, 50, 63, 62])",
        ] {
            assert_ne!(secrets.found_in(leak.as_bytes()), [""; 0], "{leak}");
        }
        assert_eq!(secrets.found_in(b"user flows, connection prod, hunter"), [""; 0]);
    }
}
