//! Cluster TLS: how client, scheduler and executors prove to each other who they are.
//!
//! Owns: from certificates to what servers and Ballista's hooks take, and which role a certificate has.
//! Must not know: what a role may do, or Elasticsearch.

use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint};
use datafusion::error::{DataFusionError, Result};
use elastic_client::{ClusterMembers, ClusterTls, ConnectionRegistry};
use flowsigma_node::{LocalCredentials, Role, Subject};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// The certificates of this process, for both ends of a connection.
#[derive(Clone)]
pub struct ClusterLinks {
    client: Arc<ClientTlsConfig>,
    /// None of a client that has no certificate.
    server: Option<Arc<ServerConfig>>,
    /// The authority's certificate, and this process's with its key if it has one, PEM.
    pem: Arc<(Vec<u8>, Option<Vec<u8>>)>,
    trust: Trust,
}

/// Which roles certificates of the authority may have.
#[derive(Clone)]
enum Trust {
    /// As they say themselves, but for an owner; and as the configuration lists.
    Configured(ClusterMembers),
    /// As they say themselves: the authority was made for this machine's cluster.
    Local,
}

impl ClusterLinks {
    /// By the files of `[cluster] tls` in the registry's configuration; none if it has no such table.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or is not what its key says.
    pub fn of(registry: &ConnectionRegistry) -> Result<Option<Self>> {
        let members = &registry.config().members;
        registry.cluster_tls().map(|tls| Self::of_files(tls, members.clone())).transpose()
    }

    fn of_files(tls: &ClusterTls, members: ClusterMembers) -> Result<Self> {
        let (ca, cert, key) = (
            read("ca_file", &tls.ca_file)?,
            read("cert_file", &tls.cert_file)?,
            read("key_file", &tls.key_file)?,
        );
        Self::of_pem(&ca, &cert, &key, Trust::Configured(members)).map_err(|problem| {
            let [ca, cert, key] = [&tls.ca_file, &tls.cert_file, &tls.key_file].map(|path| path.display());
            refused(format!(
                "{ca}, {cert} and {key} are not an authority, a certificate and its key: {problem}"
            ))
        })
    }

    /// By credentials that a scheduler on this machine wrote for its account.
    ///
    /// # Errors
    ///
    /// If they are no certificates.
    pub fn local(credentials: &LocalCredentials) -> Result<Self> {
        let LocalCredentials { authority, owner, .. } = credentials;
        let made = Self::of_pem(
            authority.as_bytes(),
            owner.certificate.as_bytes(),
            owner.key.as_bytes(),
            Trust::Local,
        );
        made.map_err(|problem| {
            DataFusionError::Configuration(format!("credentials of this machine's cluster: {problem}"))
        })
    }

    /// Of a client that shows no certificate: it recognises the scheduler, and proves itself otherwise.
    ///
    /// # Errors
    ///
    /// If the file of the authority cannot be read or is none.
    pub(crate) fn of_authority(ca_file: &Path) -> Result<Self> {
        let ca = read("ca_file", ca_file)?;
        let client = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ca));
        Endpoint::from_static("https://localhost").tls_config(client.clone()).map_err(|e| {
            let problem = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            refused(format!("{} is not the certificate of an authority: {problem}", ca_file.display()))
        })?;
        let trust = Trust::Configured(ClusterMembers::default());
        Ok(Self { client: Arc::new(client), server: None, pem: Arc::new((ca, None)), trust })
    }

    fn of_pem(ca: &[u8], cert: &[u8], key: &[u8], trust: Trust) -> std::result::Result<Self, String> {
        let client = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca))
            .identity(Identity::from_pem(cert, key));
        // Tried here, where the certificates can be named.
        Endpoint::from_static("https://localhost")
            .tls_config(client.clone())
            .map_err(|e| std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string))?;
        let server = server_config(ca, cert, key)?;
        let pem = Arc::new((ca.to_vec(), Some([cert, b"\n", key].concat())));
        Ok(Self { client: Arc::new(client), server: Some(Arc::new(server)), pem, trust })
    }

    /// For a server of this process. Callers need no certificate to connect: whoever serves them decides what they
    /// may do without one.
    pub(crate) fn server(&self) -> Option<Arc<ServerConfig>> {
        self.server.as_ref().map(Arc::clone)
    }

    /// The role of a certificate of this cluster's authority; a client unless it is said otherwise.
    pub(crate) fn role(&self, subject: &Subject) -> Role {
        match &self.trust {
            Trust::Local => subject.role.unwrap_or(Role::Client),
            Trust::Configured(members) => match subject.role {
                _ if members.schedulers.contains(&subject.name) => Role::Scheduler,
                _ if members.executors.contains(&subject.name) => Role::Executor,
                Some(role @ (Role::Scheduler | Role::Executor)) => role,
                // An owner is one only of the cluster that was made for it.
                Some(Role::Client | Role::Owner) | None => Role::Client,
            },
        }
    }

    /// For a client of HTTP endpoints of the cluster.
    ///
    /// # Errors
    ///
    /// If the certificates are of a kind that it cannot use.
    pub(crate) fn for_http(&self, client: reqwest::ClientBuilder) -> reqwest::Result<reqwest::ClientBuilder> {
        let (ca, own) = self.pem.as_ref();
        let client = client.https_only(true).tls_built_in_root_certs(false);
        let client = client.add_root_certificate(reqwest::Certificate::from_pem(ca)?);
        match own {
            Some(own) => Ok(client.identity(reqwest::Identity::from_pem(own)?)),
            None => Ok(client),
        }
    }

    /// For a call of this process. Ballista writes the scheduler's address with `http`, whatever was
    /// asked for; such an endpoint would leave out TLS without an error, so it is made again.
    pub(crate) fn secure(
        &self,
        endpoint: Endpoint,
    ) -> std::result::Result<Endpoint, tonic::transport::Error> {
        let endpoint = match endpoint.uri().authority() {
            Some(authority) if endpoint.uri().scheme_str() != Some("https") => {
                let defaults = GrpcClientConfig::default();
                create_grpc_client_endpoint(format!("https://{authority}"), Some(&defaults))?
            }
            _ => endpoint,
        };
        endpoint.tls_config(self.client.as_ref().clone())
    }
}

fn server_config(ca: &[u8], cert: &[u8], key: &[u8]) -> std::result::Result<ServerConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let certificates = |pem: &[u8]| -> std::result::Result<Vec<CertificateDer<'static>>, String> {
        CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<_, _>>().map_err(|e| e.to_string())
    };
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

fn read(key: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| refused(format!("cannot read {key} {}: {e}", path.display())))
}

fn refused(problem: String) -> DataFusionError {
    DataFusionError::Configuration(format!("[cluster] tls: {problem}"))
}
