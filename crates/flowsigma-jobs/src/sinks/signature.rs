//! The signature of a body.
//!
//! Owns: HMAC-SHA256 in the form of a header. Must not know: where the key is from, or what is signed.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use std::fmt::Write;

/// Returns `sha256=` and the HMAC-SHA256 of a body in hex.
///
/// # Errors
///
/// If the key has a length that HMAC does not accept.
pub(super) fn sign(key: &SecretString, body: &[u8]) -> Result<String, String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes())
        .map_err(|_| "the key of the signature has a length that HMAC does not accept".to_owned())?;
    mac.update(body);
    let mut text = String::from("sha256=");
    for byte in mac.finalize().into_bytes() {
        write!(text, "{byte:02x}").map_err(|e| e.to_string())?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_rfc_4231() {
        // Test case 2: https://www.rfc-editor.org/rfc/rfc4231#section-4.3
        assert_eq!(
            sign(&SecretString::from("Jefe"), b"what do ya want for nothing?").unwrap(),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
