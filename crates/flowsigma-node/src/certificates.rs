//! The certificates of this process, with which the processes of a cluster authenticate each other.
//!
//! Owns: reading them, the TLS configuration of a server, and the role of a certificate. Must not know: what a
//! role may do, or which protocol is used over TLS.

use crate::config::{ClusterMembers, ClusterTls, Config};
use crate::local::LocalCredentials;
use crate::protection_error::ProtectionError;
use crate::role::{Role, Subject};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;

/// The certificates of this process, for both ends of a connection. A clone shares them.
#[derive(Clone)]
pub struct ClusterCertificates {
    authority: Arc<[u8]>,
    /// `None` for a client that has no certificate.
    own: Option<Own>,
    trust: Trust,
}

/// The certificate and the key of this process.
#[derive(Clone)]
struct Own {
    certificate: Arc<[u8]>,
    key: Arc<[u8]>,
    server: Arc<ServerConfig>,
}

/// How the role of a certificate is decided.
#[derive(Clone)]
enum Trust {
    /// A certificate's own role counts, except that of an owner. The configuration may list further members.
    Configured(ClusterMembers),
    /// A certificate's own role counts, because the authority was created for the cluster on this machine.
    Local,
}

impl ClusterCertificates {
    /// Reads the files of `[cluster] tls`; returns `None` if the configuration has no such table.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be read, or does not contain what its key requires.
    pub fn of(config: &Config) -> Result<Option<Self>, ProtectionError> {
        config.cluster_tls.as_ref().map(|tls| Self::of_files(tls, config.members.clone())).transpose()
    }

    fn of_files(tls: &ClusterTls, members: ClusterMembers) -> Result<Self, ProtectionError> {
        let (ca, cert, key) = (
            read("ca_file", &tls.ca_file)?,
            read("cert_file", &tls.cert_file)?,
            read("key_file", &tls.key_file)?,
        );
        Self::of_pem(&ca, &cert, &key, Trust::Configured(members))
            .map_err(|problem| ProtectionError::NoCertificates { files: Box::new(tls.clone()), problem })
    }

    /// Uses the credentials that a scheduler on this machine wrote for its account.
    ///
    /// # Errors
    ///
    /// Returns an error if they are not certificates.
    pub fn local(credentials: &LocalCredentials) -> Result<Self, ProtectionError> {
        let LocalCredentials { authority, owner, .. } = credentials;
        let (certificate, key) = (owner.certificate.as_bytes(), owner.key.as_bytes());
        Self::of_pem(authority.as_bytes(), certificate, key, Trust::Local)
            .map_err(|problem| ProtectionError::NoCredentials { problem })
    }

    /// Returns the certificates of a client without its own: it verifies the scheduler, and authenticates by a
    /// token.
    ///
    /// # Errors
    ///
    /// Returns an error if the file of the authority cannot be read or contains no certificate.
    pub(crate) fn of_authority(ca_file: &Path) -> Result<Self, ProtectionError> {
        let ca = read("ca_file", ca_file)?;
        let refused = |problem: String| ProtectionError::NoAuthority { file: ca_file.to_owned(), problem };
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(certificates(&ca).map_err(refused)?);
        if usable == 0 {
            return Err(refused("it contains no certificate in PEM".to_owned()));
        }
        let trust = Trust::Configured(ClusterMembers::default());
        Ok(Self { authority: ca.into(), own: None, trust })
    }

    fn of_pem(ca: &[u8], cert: &[u8], key: &[u8], trust: Trust) -> Result<Self, String> {
        // Building the server configuration here validates the files while their names are known. A client accepts
        // what a server accepts.
        let server = Arc::new(server_config(ca, cert, key)?);
        let own = Some(Own { certificate: cert.into(), key: key.into(), server });
        Ok(Self { authority: ca.into(), own, trust })
    }

    /// Returns the certificates of the cluster's authority, in PEM.
    pub fn authority_pem(&self) -> &[u8] {
        &self.authority
    }

    /// Returns the certificate of this process and its key, in PEM; `None` for a client without a certificate.
    pub fn own_pem(&self) -> Option<(&[u8], &[u8])> {
        self.own.as_ref().map(|own| (own.certificate.as_ref(), own.key.as_ref()))
    }

    /// Returns the TLS configuration for a server of this process, with HTTP/2 and HTTP/1.1; `None` for a client
    /// without a certificate. Callers may connect without a certificate. The server decides what they may do then.
    pub fn server_config(&self) -> Option<Arc<ServerConfig>> {
        self.own.as_ref().map(|own| Arc::clone(&own.server))
    }

    /// Returns the role of a certificate that the cluster's authority signed. The default is a client.
    pub fn role(&self, subject: &Subject) -> Role {
        match &self.trust {
            Trust::Local => subject.role.unwrap_or(Role::Client),
            Trust::Configured(members) => match subject.role {
                _ if members.schedulers.contains(&subject.name) => Role::Scheduler,
                _ if members.executors.contains(&subject.name) => Role::Executor,
                Some(role @ (Role::Scheduler | Role::Executor)) => role,
                // The role of an owner counts only in the cluster that was created for it.
                Some(Role::Client | Role::Owner) | None => Role::Client,
            },
        }
    }
}

fn server_config(ca: &[u8], cert: &[u8], key: &[u8]) -> Result<ServerConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|e| e.to_string())?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| e.to_string())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(cert)?, key)
        .map_err(|e| e.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|e| e.to_string())
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, ProtectionError> {
    std::fs::read(path).map_err(|source| ProtectionError::Unreadable { key, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Authority;

    fn subject(name: &str, role: Option<Role>) -> Subject {
        Subject { name: name.to_owned(), role }
    }

    #[test]
    fn files_are_tried_when_they_are_read_and_named_when_they_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("test").unwrap();
        let node = authority.issue(Role::Executor, "node", &["localhost".to_owned()]).unwrap();
        for (name, text) in [
            ("ca.pem", authority.certificate()),
            ("node.pem", &node.certificate),
            ("node.key", &node.key),
            ("empty.pem", ""),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let of = |ca: &str, cert: &str, key: &str| {
            let [ca_file, cert_file, key_file] = [ca, cert, key].map(|name| folder.path().join(name));
            let cluster_tls = Some(ClusterTls { ca_file, cert_file, key_file });
            ClusterCertificates::of(&Config { cluster_tls, ..Config::default() })
        };
        let made = of("ca.pem", "node.pem", "node.key").unwrap().unwrap();
        assert!(made.server_config().is_some());
        assert_eq!(made.own_pem().unwrap().1, node.key.as_bytes());
        for (files, named) in [
            (["ca.pem", "node.pem", "none.key"], "cannot read key_file"),
            (["ca.pem", "node.pem", "ca.pem"], "are not an authority, a certificate and its key"),
            (["empty.pem", "node.pem", "node.key"], "are not an authority, a certificate and its key"),
        ] {
            let error = of(files[0], files[1], files[2]).map(|_| ()).unwrap_err().to_string();
            assert!(error.starts_with("[cluster] tls: ") && error.contains(named), "{error}");
            assert!(files.iter().any(|file| error.contains(file)), "{error}");
        }
        let client = ClusterCertificates::of_authority(&folder.path().join("ca.pem")).unwrap();
        assert!(client.server_config().is_none() && client.own_pem().is_none());
        let none = ClusterCertificates::of_authority(&folder.path().join("empty.pem")).map(|_| ());
        assert!(none.unwrap_err().to_string().contains("empty.pem is not the certificate of an authority"));
        assert!(ClusterCertificates::of(&Config::default()).unwrap().is_none());
    }

    #[test]
    fn an_owner_is_one_only_of_the_cluster_that_was_made_for_it() {
        let local = ClusterCertificates::local(&LocalCredentials::generate().unwrap()).unwrap();
        assert_eq!(local.role(&subject("owner", Some(Role::Owner))), Role::Owner);
        assert_eq!(local.role(&subject("x", None)), Role::Client);
        let members = ClusterMembers { schedulers: vec!["s".into()], executors: vec!["e".into()] };
        let configured = ClusterCertificates { trust: Trust::Configured(members), ..local };
        for (name, said, role) in [
            ("owner", Some(Role::Owner), Role::Client),
            ("s", None, Role::Scheduler),
            ("e", Some(Role::Client), Role::Executor),
            ("x", Some(Role::Executor), Role::Executor),
            ("x", None, Role::Client),
        ] {
            assert_eq!(configured.role(&subject(name, said)), role, "{name} {said:?}");
        }
    }
}
