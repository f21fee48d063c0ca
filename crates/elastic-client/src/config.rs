//! The description of a connection as plain values: Elasticsearch nodes, credentials and TLS.
//!
//! Owns: the settings of a connection, and reading its secrets. It opens no connection and stores no secret: a setting
//! names the place of a secret, and [`SecretSource::read`] reads it when a client is built. Must not know: where the
//! settings come from.

mod cloud;
mod error;
mod fingerprint;
mod node;
mod secret;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

pub use cloud::parse_cloud_id;
pub use error::{ConfigError, UrlProblem};
pub use fingerprint::Fingerprint;
pub use node::parse_node;
pub use secret::SecretSource;

/// The settings of a connection to one cluster of Elasticsearch or OpenSearch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// The URLs of the Elasticsearch nodes, at least one. Each path ends in `/`, so that [`Url::join`] keeps a path
    /// prefix.
    pub nodes: Vec<Url>,
    /// The credentials of every request.
    pub auth: Auth,
    /// How the server's certificate is verified, and the client's certificate.
    pub tls: Tls,
    /// The proxy for all requests.
    pub proxy: Option<Proxy>,
    /// Additional headers of every request. The names are in lower case.
    pub headers: BTreeMap<String, HeaderSource>,
    /// The product and version (`opensearch 2.19.1`) of a server that does not reveal them.
    pub server: Option<String>,
    /// The largest number of requests in flight at once. The default is 32.
    pub max_requests: Option<NonZeroUsize>,
    /// The longest time for one attempt of a request. The default is 60 s.
    pub timeout: Option<Duration>,
    /// The longest time for all attempts of one request, with the waits between them. The default is 600 s, or
    /// `timeout` if that is longer.
    pub deadline: Option<Duration>,
    /// Whether documents may be written. The default is that they may only be read.
    pub access: Access,
}

/// What may be done by a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// Documents may be read.
    #[default]
    Read,
    /// Documents may be read and written.
    Write,
}

/// The credentials of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// No credentials.
    #[default]
    None,
    /// A user name and a password.
    Basic {
        /// The user name.
        username: String,
        /// Where the password is.
        password: SecretSource,
    },
    /// An [API key](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/security-api-create-api-key.html) in
    /// its encoded form.
    ApiKey {
        /// Where the key is.
        key: SecretSource,
    },
    /// A bearer token.
    Bearer {
        /// Where the token is.
        token: SecretSource,
    },
}

/// How the server's certificate is verified, and the client's certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// A PEM file with certificate authorities to trust in addition to those of the system.
    pub ca_file: Option<PathBuf>,
    /// How the server's certificate is verified.
    pub verify: Verify,
    /// The certificate for servers that require one from clients.
    pub client: Option<ClientCertificate>,
}

/// How the server's certificate is verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verify {
    /// The chain up to a trusted authority, and the host name.
    #[default]
    Full,
    /// Either the server's own certificate has this fingerprint, or an authority with it signed the certificate for
    /// this host name.
    Fingerprint(Fingerprint),
    /// No verification. Anyone between client and server can read and change everything.
    Off,
}

/// A client certificate and its private key, both in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The file of the certificate and its intermediate certificates.
    pub cert_file: PathBuf,
    /// The file of the private key, without a passphrase.
    pub key_file: PathBuf,
}

/// A proxy for HTTP, and for HTTPS by CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// The URL of the proxy.
    pub url: Url,
    /// The user name, and where the password is.
    pub auth: Option<(String, SecretSource)>,
}

/// The value of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderSource {
    /// A text, which logs and errors may show.
    Text(String),
    /// A secret, which is never shown.
    Secret(SecretSource),
}

impl ConnectionConfig {
    /// Returns the settings of a connection to one Elasticsearch node, without credentials and with full TLS
    /// verification.
    ///
    /// # Errors
    ///
    /// If the text is not the URL of a node. A URL with credentials is refused, because the shell's history and the
    /// process list would show them.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        let node = node::parse_node(url).map_err(|problem| ConfigError::Url { problem })?;
        Ok(Self {
            nodes: vec![node],
            auth: Auth::None,
            tls: Tls::default(),
            proxy: None,
            headers: BTreeMap::new(),
            server: None,
            max_requests: None,
            access: Access::Read,
            timeout: None,
            deadline: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_by_hand() {
        let connection = ConnectionConfig::from_url("http://localhost:9200/es").unwrap();
        assert_eq!(connection.nodes, [Url::parse("http://localhost:9200/es/").unwrap()]);
        assert_eq!((connection.auth, connection.tls), (Auth::None, Tls::default()));
        for text in [
            "https://u:hunter2@es1",
            "https://hunter2@es1",
            "ftp://u:hunter2@es1",
            "u:hunter2@es1",
            "hunter2",
        ] {
            let error = ConnectionConfig::from_url(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        let credentials = ConnectionConfig::from_url("https://u:hunter2@es1").unwrap_err().to_string();
        assert!(credentials.contains("go into auth of the connection"), "{credentials}");
    }
}
