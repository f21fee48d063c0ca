//! TLS of the links between client, scheduler and executors, by which each proves who it is.
//!
//! Owns: from the files of `[cluster] tls` to what Ballista's hooks take. Must not know: Elasticsearch.

use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint};
use datafusion::error::{DataFusionError, Result};
use elastic_client::{ClusterTls, ConnectionRegistry};
use std::path::Path;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig};

/// The certificates of this process, on both ends of its links.
#[derive(Clone)]
pub struct ClusterLinks {
    client: ClientTlsConfig,
    server: ServerTlsConfig,
}

impl ClusterLinks {
    /// As the registry's configuration says; none if it says nothing, and links are then plain.
    pub fn of(registry: &ConnectionRegistry) -> Result<Option<Self>> {
        registry.cluster_tls().map(Self::try_new).transpose()
    }

    /// Reads the files.
    pub fn try_new(tls: &ClusterTls) -> Result<Self> {
        let ca = Certificate::from_pem(read("ca_file", &tls.ca_file)?);
        let (cert, key) = (read("cert_file", &tls.cert_file)?, read("key_file", &tls.key_file)?);
        let identity = Identity::from_pem(cert, key);
        let client = ClientTlsConfig::new().ca_certificate(ca.clone()).identity(identity.clone());
        // Tried here, where the files can be named.
        Endpoint::from_static("https://localhost").tls_config(client.clone()).map_err(|e| {
            let [ca, cert, key] = [&tls.ca_file, &tls.cert_file, &tls.key_file].map(|path| path.display());
            let problem = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            refused(format!(
                "{ca}, {cert} and {key} are not an authority, a certificate and its key: {problem}"
            ))
        })?;
        let server = ServerTlsConfig::new().identity(identity).client_ca_root(ca);
        Ok(Self { client, server })
    }

    /// For a server of this process: who calls must show a certificate of the same authority.
    pub fn server_tls(&self) -> ServerTlsConfig {
        self.server.clone()
    }

    /// For a call of this process. Ballista writes the scheduler's address with `http`, whatever was
    /// asked for; such an endpoint would leave TLS out in silence, so it is made anew.
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
        endpoint.tls_config(self.client.clone())
    }
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| refused(format!("cannot read {key} {}: {e}", path.display())))
}

fn refused(problem: String) -> DataFusionError {
    DataFusionError::Configuration(format!("[cluster] tls: {problem}"))
}
