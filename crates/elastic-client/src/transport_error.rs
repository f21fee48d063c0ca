//! Why a request got no whole response.
//!
//! Owns: what an error of the transport is, by the types of its causes. Must not know: what a server says.

use std::error::Error as StdError;
use std::io;

/// A request that got no whole response.
#[derive(Debug)]
pub(crate) struct TransportError {
    pub(crate) kind: TransportErrorKind,
    /// The error with its causes, on one line, without URLs.
    pub(crate) reason: String,
}

/// What a failed transport means for the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransportErrorKind {
    /// The node was not reached, so that it cannot have done anything.
    Unsent,
    /// Something was sent, and no whole response came back.
    Interrupted,
    /// The server's certificate was refused. Trying again cannot help.
    Untrusted,
}

impl From<reqwest::Error> for TransportError {
    fn from(error: reqwest::Error) -> Self {
        let kind = if is_untrusted(&error) {
            TransportErrorKind::Untrusted
        } else if error.is_connect() {
            TransportErrorKind::Unsent
        } else {
            TransportErrorKind::Interrupted
        };
        Self { kind, reason: causes(&error.without_url()) }
    }
}

/// An error with its causes, on one line.
pub(crate) fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut current = Some(error);
    while let Some(e) = current {
        let text = e.to_string();
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
        current = e.source();
    }
    parts.join(": ")
}

fn is_untrusted(error: &(dyn StdError + 'static)) -> bool {
    let refused = |e: &rustls::Error| {
        matches!(e, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
    };
    find_cause::<rustls::Error>(error).is_some_and(refused)
}

/// The first error of type `E` in a chain of causes.
fn find_cause<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut current = Some(error);
    while let Some(e) = current {
        if let Some(found) = e.downcast_ref() {
            return Some(found);
        }
        // The source of an `io::Error` is that of the error in it, which is passed over.
        let inner = e.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        current = match inner {
            Some(inner) => Some(inner),
            None => e.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{AlertDescription, CertificateError};

    #[derive(Debug, thiserror::Error)]
    #[error("a certificate is only spoken of")]
    struct Layer(#[source] Box<dyn StdError + Send + Sync>);

    #[test]
    fn a_certificate_is_refused_by_type_and_not_by_what_is_said() {
        let inside = |error: rustls::Error| {
            let io = io::Error::new(io::ErrorKind::InvalidData, error);
            Layer(Box::new(Layer(Box::new(io::Error::other(io)))))
        };
        for untrusted in [
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer),
            rustls::Error::InvalidCertificate(CertificateError::Expired),
            rustls::Error::NoCertificatesPresented,
        ] {
            assert!(is_untrusted(&inside(untrusted.clone())), "{untrusted}");
            assert!(is_untrusted(&untrusted));
        }
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        assert!(!is_untrusted(&inside(alert)), "the server refused ours, which is no question of trust");
        assert!(!is_untrusted(&Layer(Box::new(io::Error::other("certificate")))));
    }
}
