//! Cluster TLS as Ballista's hooks and HTTP clients take it.
//!
//! Owns: making calls of this process by TLS. Must not know: where certificates come from, or what a role may do.

use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint};
use flowsigma_node::{ClusterCertificates, Protection, Role, Subject};
use rustls::ServerConfig;
use std::sync::Arc;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Error, Identity};

/// The certificates of this process, for both ends of a connection.
#[derive(Clone)]
pub struct ClusterTls {
    client: Arc<ClientTlsConfig>,
    certificates: ClusterCertificates,
}

impl ClusterTls {
    /// By these certificates.
    pub fn new(certificates: ClusterCertificates) -> Self {
        let mut client =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificates.authority_pem()));
        if let Some((certificate, key)) = certificates.own_pem() {
            client = client.identity(Identity::from_pem(certificate, key));
        }
        Self { client: Arc::new(client), certificates }
    }

    /// By the certificates of what protects this process; none where anyone may use the cluster.
    pub fn of(protection: &Protection) -> Option<Self> {
        protection.certificates().cloned().map(Self::new)
    }

    /// For a server of this process; none of a client that shows no certificate.
    pub(crate) fn server(&self) -> Option<Arc<ServerConfig>> {
        self.certificates.server_config()
    }

    /// The role of a certificate of this cluster's authority.
    pub(crate) fn role(&self, subject: &Subject) -> Role {
        self.certificates.role(subject)
    }

    /// For a client of HTTP endpoints of the cluster.
    ///
    /// # Errors
    ///
    /// If the certificates are of a kind that it cannot use.
    pub(crate) fn for_http(&self, client: reqwest::ClientBuilder) -> reqwest::Result<reqwest::ClientBuilder> {
        let client = client.https_only(true).tls_built_in_root_certs(false);
        let authority = reqwest::Certificate::from_pem(self.certificates.authority_pem())?;
        let client = client.add_root_certificate(authority);
        match self.certificates.own_pem() {
            Some((certificate, key)) => {
                Ok(client.identity(reqwest::Identity::from_pem(&[certificate, b"\n", key].concat())?))
            }
            None => Ok(client),
        }
    }

    /// For a call of this process. Ballista writes the scheduler's address with `http`, whatever was
    /// asked for; such an endpoint would leave out TLS without an error, so it is made again.
    ///
    /// # Errors
    ///
    /// If the endpoint is none that TLS can be spoken with.
    pub(crate) fn secure(&self, endpoint: Endpoint) -> Result<Endpoint, Error> {
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
