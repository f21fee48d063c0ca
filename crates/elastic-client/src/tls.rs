//! The TLS configuration of a connection.
//!
//! Owns: reading certificates and keys, and the three ways to verify the server's certificate. Must not know: requests.

use crate::config::{ClientCertificate, Fingerprint, Tls, Verify};
use crate::error::Error;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use std::path::Path;
use std::sync::Arc;

/// Returns the TLS configuration for the `tls` settings of a connection.
pub(crate) fn client_config(name: &str, tls: &Tls) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let refused = |problem: String| Error::Refused(format!("connection \"{name}\": {problem}"));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| refused(e.to_string()))?;
    let builder = match tls.verify {
        Verify::Full => builder.with_root_certificates(trusted(tls.ca_file.as_deref()).map_err(refused)?),
        Verify::Fingerprint(fingerprint) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(FingerprintVerifier { fingerprint, provider })),
        Verify::Off => {
            tracing::warn!(connection = name, "tls.verify = false: the server's certificate is not checked");
            builder.dangerous().with_custom_certificate_verifier(Arc::new(NoVerifier { provider }))
        }
    };
    match &tls.client {
        None => Ok(builder.with_no_client_auth()),
        Some(ClientCertificate { cert_file, key_file }) => {
            let chain = certificates("tls.client_cert_file", cert_file).map_err(refused)?;
            let key = private_key("tls.client_key_file", key_file).map_err(refused)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| refused(format!("tls.client_cert_file and tls.client_key_file: {e}")))
        }
    }
}

/// Returns the certificate authorities of the system and of the file. Unreadable certificates of the system are
/// skipped, so certificates that they signed are not trusted.
fn trusted(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        for certificate in certificates("tls.ca_file", path)? {
            roots.add(certificate).map_err(|e| format!("tls.ca_file {}: {e}", path.display()))?;
        }
    }
    Ok(roots)
}

/// Reads all certificates of a PEM file, at least one. Errors name the option and the path, and contain nothing of the
/// file.
fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(path).map_err(|e| format!("cannot read {option} {}: {e}", path.display()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(format!("{option} {} holds no certificate in PEM", path.display())),
    }
}

fn private_key(option: &str, path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = std::fs::read(path).map_err(|e| format!("cannot read {option} {}: {e}", path.display()))?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| format!("{option} {} holds no private key in PEM without a passphrase", path.display()))
}

/// No certificate of the server has the configured fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("no certificate that the server shows has the fingerprint")]
struct OtherCertificates;

/// Returns the error of a refused certificate, in the type that `transport_error` recognises.
fn refused(reason: impl std::error::Error + Send + Sync + 'static) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

/// Trusts the certificate with one fingerprint, and certificates that it signed.
#[derive(Debug)]
struct FingerprintVerifier {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for FingerprintVerifier {
    /// Accepts the server's own certificate if it has the fingerprint, because the handshake proves its private key.
    /// Otherwise a shown certificate with the fingerprint must have signed the server's own one. It is not enough to
    /// show it, because anyone can.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if Fingerprint::of(end_entity) == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        let Some(authority) = intermediates.iter().find(|shown| Fingerprint::of(shown) == self.fingerprint)
        else {
            return Err(refused(OtherCertificates));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(refused)?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Trusts every certificate.
#[derive(Debug)]
struct NoVerifier {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for NoVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    struct Authority {
        der: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let der = params.self_signed(&key).unwrap().der().clone();
            Self { der, issuer: Issuer::new(params, key) }
        }

        fn sign(&self, host: &str) -> CertificateDer<'static> {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            params.signed_by(&key, &self.issuer).unwrap().der().clone()
        }
    }

    #[test]
    fn a_fingerprint_trusts_what_it_signed_and_not_what_merely_shows_it() {
        let (ours, theirs) = (Authority::new(), Authority::new());
        let (good, forged) = (ours.sign("es1"), theirs.sign("es1"));
        let accepts = |pinned: &CertificateDer<'_>, shown: [&CertificateDer<'static>; 2], host: &str| {
            let provider = Arc::new(ring::default_provider());
            let verifier = FingerprintVerifier { fingerprint: Fingerprint::of(pinned), provider };
            let name = ServerName::try_from(host.to_owned()).unwrap();
            let others = [shown[1].clone()];
            verifier.verify_server_cert(shown[0], &others, &name, &[], UnixTime::now()).is_ok()
        };
        assert!(accepts(&ours.der, [&good, &ours.der], "es1"));
        assert!(accepts(&good, [&good, &ours.der], "es1"));
        assert!(!accepts(&ours.der, [&good, &ours.der], "es2"));
        assert!(!accepts(&ours.der, [&forged, &theirs.der], "es1"));
        // A stranger can show our authority's certificate in addition to its own.
        assert!(!accepts(&ours.der, [&forged, &ours.der], "es1"));
    }
}
