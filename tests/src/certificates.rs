//! Certificates for the processes of a cluster.
//!
//! Owns: making them, anew for each test. Must not know: who shows them.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::path::Path;
use tempfile::TempDir;

/// An authority, and one certificate that it signed for this machine.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes a new authority and a certificate by it.
    pub fn make() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Flowsigma test cluster");
        let key = KeyPair::generate()?;
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key)?.pem())?;
        let authority = Issuer::new(params, key);
        // One pair for both ends of a link.
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        std::fs::write(folder.path().join("node.pem"), params.signed_by(&key, &authority)?.pem())?;
        std::fs::write(folder.path().join("node.key"), key.serialize_pem())?;
        Ok(Self { folder })
    }

    /// Where `ca.pem`, `node.pem` and `node.key` are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `[cluster]` of a configuration with this pair, which trusts `authority`.
    pub fn config(&self, authority: &Self) -> String {
        let own = self.folder().display();
        let ca = authority.folder().display();
        format!(
            "[cluster]\ntls = {{ ca_file = \"{ca}/ca.pem\", cert_file = \"{own}/node.pem\", key_file = \"{own}/node.key\" }}\n"
        )
    }
}
