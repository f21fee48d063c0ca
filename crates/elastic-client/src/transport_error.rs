//! Why a request got no complete response.
//!
//! Owns: the classification of transport errors by the types of their causes. Must not know: the content of responses.

use rustls::{CertificateError, OtherError};
use std::error::Error as StdError;
use std::io;

/// The error of a request that got no complete response.
#[derive(Debug)]
pub(crate) struct TransportError {
    pub(crate) kind: TransportErrorKind,
    /// The error with its causes, on one line, without URLs.
    pub(crate) reason: String,
}

/// What a transport error means for the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransportErrorKind {
    /// No connection to the Elasticsearch node was made, so the node cannot have executed the request.
    Unsent,
    /// The request was sent, at least in part, and no complete response was received.
    Interrupted,
    /// The server's certificate was not accepted. A retry cannot help.
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
        let error = error.without_url();
        let mut reason = causes(&error);
        // rustls shows the error of a verifier by its type, and does not return it as a cause.
        if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(verifier)))) =
            find_cause::<rustls::Error>(&error)
        {
            reason = format!("{reason}: {}", causes(verifier.as_ref()));
        }
        Self { kind, reason }
    }
}

/// Returns an error with its causes, on one line.
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

/// Returns the first error of type `E` in a chain of causes.
fn find_cause<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut current = Some(error);
    while let Some(e) = current {
        if let Some(found) = e.downcast_ref() {
            return Some(found);
        }
        // `io::Error::source` skips the error inside the `io::Error` and returns the source of that.
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
    use rustls::AlertDescription;

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
