//! Cluster TLS for Ballista's hooks and for HTTP clients.
//!
//! Owns: adding TLS to the calls of this process. Must not know: where certificates come from, or what a role may
//! do.

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
    /// Uses these certificates.
    pub fn new(certificates: ClusterCertificates) -> Self {
        let mut client =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificates.authority_pem()));
        if let Some((certificate, key)) = certificates.own_pem() {
            client = client.identity(Identity::from_pem(certificate, key));
        }
        Self { client: Arc::new(client), certificates }
    }

    /// Returns the certificates of this process's protection; `None` if anyone may use the cluster.
    pub fn of(protection: &Protection) -> Option<Self> {
        protection.certificates().cloned().map(Self::new)
    }

    /// Returns the TLS configuration for a server of this process; `None` for a client without a certificate.
    pub(crate) fn server(&self) -> Option<Arc<ServerConfig>> {
        self.certificates.server_config()
    }

    /// Returns the role of a certificate that the cluster's authority signed.
    pub(crate) fn role(&self, subject: &Subject) -> Role {
        self.certificates.role(subject)
    }

    /// Adds the certificates to a client of the cluster's HTTP endpoints.
    ///
    /// # Errors
    ///
    /// Returns an error if the client does not support the certificates.
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

    /// Adds TLS to a call of this process. Ballista always writes the URL of the scheduler with `http`. Such an
    /// endpoint would silently ignore TLS, so this function creates it again with `https`.
    ///
    /// # Errors
    ///
    /// Returns an error if the endpoint does not support TLS.
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
