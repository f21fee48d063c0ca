//! How connections are described: nodes, credentials and TLS, as plain values.
//!
//! Owns: what may be said of a connection, and how a secret it names is read. It opens no connection, and it never holds
//! a secret: a connection says where its secret is, and [`SecretSource::read`] fetches it when a client is built. Must
//! not know: where the values come from.

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

/// How to reach one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// The nodes, at least one. Each path ends in `/`, so that [`Url::join`] keeps a path prefix.
    pub nodes: Vec<Url>,
    /// How requests prove who sends them.
    pub auth: Auth,
    /// How the servers are recognised.
    pub tls: Tls,
    /// What all requests go through.
    pub proxy: Option<Proxy>,
    /// Headers of every request beside our own; names in lower case.
    pub headers: BTreeMap<String, HeaderSource>,
    /// What the servers are (`opensearch 2.19.1`), where they do not say so themselves.
    pub server: Option<String>,
    /// The most requests in flight at once.
    pub max_requests: Option<NonZeroUsize>,
    /// The longest one request may take.
    pub timeout: Option<Duration>,
    /// The longest all tries of one request may take together, with the waits between them.
    pub deadline: Option<Duration>,
}

/// How requests prove who sends them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// A user's name and password.
    Basic {
        /// The user.
        username: String,
        /// Where the password is.
        password: SecretSource,
    },
    /// An API key, encoded as the server hands it out.
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

/// How the servers are recognised, and how we are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates to trust beside the system's own.
    pub ca_file: Option<PathBuf>,
    /// Whether certificates are checked.
    pub verify: Verify,
    /// What is shown to servers that ask who we are.
    pub client: Option<ClientCertificate>,
}

/// Whether the servers' certificates are checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verify {
    /// Chain and host name.
    #[default]
    Full,
    /// Host name, and a chain with this certificate in it, whoever signed that.
    Fingerprint(Fingerprint),
    /// Not at all: anyone in between can read and change everything.
    Off,
}

/// A client's certificate and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, with what is between it and the authority.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

/// A proxy for HTTP, and for HTTPS by CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where it is.
    pub url: Url,
    /// A user's name, and where the password is.
    pub auth: Option<(String, SecretSource)>,
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderSource {
    /// This text, which may be shown.
    Text(String),
    /// A secret.
    Secret(SecretSource),
}

impl ConnectionConfig {
    /// A connection to one node, without credentials and with full TLS verification.
    ///
    /// # Errors
    ///
    /// If it is no URL of a node. One with credentials is refused: it would end up in the shell's history and in the list
    /// of processes.
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
