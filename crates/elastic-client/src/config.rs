//! Connections under a name: nodes, credentials and TLS, known only to each node's own configuration file.
//!
//! Owns the file `flowsigma.toml`: where it is looked for, what it may say, and how a secret it names is read.
//! It opens no connection, and it never holds a secret: a connection says where its secret is, and
//! [`SecretSource::read`] fetches it when a client is built.

mod access;
mod cloud;
mod error;
mod fingerprint;
mod node;
mod parse;
mod secret;
mod table;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy;
use url::Url;

pub use access::{Access, FileRoots, Grants, Jobs};
pub use error::{ConfigError, UrlProblem};
pub use fingerprint::Fingerprint;
pub use secret::SecretSource;

/// The name of the configuration file, in the working directory and in the user's configuration folder.
pub const CONFIG_FILE: &str = "flowsigma.toml";
/// The environment variable that names the configuration file.
pub const CONFIG_ENV: &str = "FLOWSIGMA_CONFIG";

/// What one configuration file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The connections by name.
    pub connections: BTreeMap<String, ConnectionConfig>,
    /// How scheduler, executors and clients of a cluster recognise each other; not at all if none.
    pub cluster_tls: Option<ClusterTls>,
    /// How a client without a certificate proves to a scheduler who it is.
    pub cluster_token: Option<ClusterToken>,
    /// Which certificates are a scheduler's or an executor's, beside those that say so themselves.
    pub members: ClusterMembers,
    /// Who may submit jobs to a scheduler of this configuration, by name.
    pub access: BTreeMap<String, Access>,
    /// What tasks of an executor of this configuration may read and write; none if the file does not say.
    pub files: Option<FileRoots>,
    /// The file they come from, named in messages.
    pub file: Option<PathBuf>,
}

/// A configuration, and the file it was found in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedConfig {
    /// What the file says; empty if there is none.
    pub config: Config,
    /// The file, if one was found.
    pub path: Option<PathBuf>,
}

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

/// Certificates of one process of a cluster, all PEM. One pair proves who it is to those it calls
/// and to those who call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterTls {
    /// Who signed the certificates of all processes of the cluster.
    pub ca_file: PathBuf,
    /// This process's certificate.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// A bearer token for a cluster's scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterToken {
    /// Certificates of the authority that signed the scheduler's, PEM.
    pub ca_file: PathBuf,
    /// Where the token is.
    pub token: SecretSource,
}

/// Common names of certificates of a cluster whose authority writes no roles into them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterMembers {
    /// Of schedulers.
    pub schedulers: Vec<String>,
    /// Of executors.
    pub executors: Vec<String>,
}

impl Config {
    /// Reads the text of a configuration file. `path` is named in messages, and relative paths in the text start
    /// at its folder.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        parse::parse_config(text, path)
    }

    /// Finds and reads the configuration file: `explicit` (`--config`), else `$FLOWSIGMA_CONFIG`, else
    /// `./flowsigma.toml`, else `flowsigma/flowsigma.toml` in the user's configuration folder. The first two must
    /// exist; with none of them the configuration is empty.
    pub fn load(explicit: Option<&Path>) -> Result<LoadedConfig, ConfigError> {
        let user_folder = etcetera::choose_base_strategy().ok().map(|strategy| strategy.config_dir());
        load_first(plan_candidates(explicit, std::env::var_os(CONFIG_ENV), user_folder))
    }

    /// The connection called `name`.
    pub fn connection(&self, name: &str) -> Result<&ConnectionConfig, ConfigError> {
        self.connections.get(name).ok_or_else(|| ConfigError::UnknownConnection {
            name: name.to_owned(),
            file: self.file.clone(),
            nearest: crate::nearest::nearest(name, self.connections.keys().map(String::as_str)),
            known: self.connections.keys().cloned().collect(),
        })
    }
}

impl ConnectionConfig {
    /// A connection to one node, without credentials and with full TLS verification.
    ///
    /// A URL with credentials is refused: it would end up in the shell's history and in the list of processes.
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

/// A place where the configuration file may be, and who said so if it must be there.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    path: PathBuf,
    required_by: Option<&'static str>,
}

fn plan_candidates(
    explicit: Option<&Path>,
    env: Option<OsString>,
    user_folder: Option<PathBuf>,
) -> Vec<Candidate> {
    if let Some(path) = explicit {
        return vec![Candidate { path: path.to_owned(), required_by: Some("--config") }];
    }
    if let Some(path) = env.filter(|path| !path.is_empty()) {
        return vec![Candidate { path: path.into(), required_by: Some("$FLOWSIGMA_CONFIG") }];
    }
    let mut candidates = vec![Candidate { path: CONFIG_FILE.into(), required_by: None }];
    if let Some(folder) = user_folder {
        candidates.push(Candidate { path: folder.join("flowsigma").join(CONFIG_FILE), required_by: None });
    }
    candidates
}

fn load_first(candidates: Vec<Candidate>) -> Result<LoadedConfig, ConfigError> {
    for Candidate { path, required_by } in candidates {
        match (std::fs::read_to_string(&path), required_by) {
            (Ok(text), _) => {
                let config = Config::parse(&text, &path)?;
                return Ok(LoadedConfig { config, path: Some(path) });
            }
            (Err(source), None) if source.kind() == io::ErrorKind::NotFound => {}
            (Err(source), Some(required_by)) if source.kind() == io::ErrorKind::NotFound => {
                return Err(ConfigError::FileMissing { path, required_by });
            }
            (Err(source), _) => return Err(ConfigError::FileUnreadable { path, source }),
        }
    }
    Ok(LoadedConfig::default())
}

#[cfg(test)]
mod tests;
