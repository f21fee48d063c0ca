//! The file `flowsigma.toml`: connections, certificates, and access rules of this process.
//!
//! Owns: where the file is searched, and its content. Must not know: how the values are used. The file names where
//! a secret is, and never contains one.

mod access;
mod error;
mod parse;
mod table;

use elastic_client::{ConnectionConfig, ConnectionRegistry, SecretSource};
use etcetera::BaseStrategy;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

pub use access::{Access, FileRoots, Grants, Jobs};
pub use error::ConfigFileError;

/// The name of the configuration file, in the working directory and in the user's configuration folder.
pub const CONFIG_FILE: &str = "flowsigma.toml";
/// The environment variable with the path of the configuration file.
pub const CONFIG_ENV: &str = "FLOWSIGMA_CONFIG";
const NOT_FOUND: &str =
    "no configuration file was found (--config, $FLOWSIGMA_CONFIG, ./flowsigma.toml, the user's folder)";

/// The content of a configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The connections to Elasticsearch or OpenSearch, by name.
    pub connections: BTreeMap<String, ConnectionConfig>,
    /// The certificates with which the processes of a cluster authenticate each other; `None` if the file names no
    /// certificate of this process.
    pub cluster_tls: Option<ClusterTls>,
    /// The token with which a client without a certificate authenticates to a scheduler.
    pub cluster_token: Option<ClusterToken>,
    /// The certificates that count as a scheduler's or an executor's, in addition to those with such a role.
    pub members: ClusterMembers,
    /// The identities that may submit jobs to a scheduler with this configuration, by name.
    pub access: BTreeMap<String, Access>,
    /// The files that tasks of an executor with this configuration may access; `None` without `[files]`.
    pub files: Option<FileRoots>,
    /// The path of the file, for messages; `None` if no file was found.
    pub file: Option<PathBuf>,
}

/// The certificate files of one process of a cluster, all in PEM. The process uses the same certificate as a
/// client and as a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterTls {
    /// The file with the certificate of the authority that signed the certificates of all processes.
    pub ca_file: PathBuf,
    /// The file with the certificate of this process.
    pub cert_file: PathBuf,
    /// The file with its private key.
    pub key_file: PathBuf,
}

/// A bearer token for the scheduler of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterToken {
    /// The file with the certificates of the authority that signed the scheduler's, in PEM.
    pub ca_file: PathBuf,
    /// The source of the token.
    pub token: SecretSource,
}

/// Members of a cluster whose authority writes no roles into certificates, by common name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterMembers {
    /// The common names of schedulers.
    pub schedulers: Vec<String>,
    /// The common names of executors.
    pub executors: Vec<String>,
}

impl Config {
    /// Parses a configuration file. Messages name `path`, and relative paths in the text start at its folder.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not TOML, or has an unknown key or an invalid value. No message contains a
    /// value.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigFileError> {
        parse::parse_config(text, path)
    }

    /// Finds and reads the configuration file: `explicit` (`--config`), otherwise `$FLOWSIGMA_CONFIG`, otherwise
    /// `./flowsigma.toml`, otherwise `flowsigma/flowsigma.toml` in the user's configuration folder. The first two
    /// must exist if they are given. Without any file, the configuration is empty.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be read, a given file is missing, or its content is invalid.
    pub fn load(explicit: Option<&Path>) -> Result<Self, ConfigFileError> {
        let user_folder = etcetera::choose_base_strategy().ok().map(|strategy| strategy.config_dir());
        load_first(plan_candidates(explicit, std::env::var_os(CONFIG_ENV), user_folder))
    }

    /// Returns a registry of the connections. Its error for an unknown name also names the file.
    pub fn registry(&self) -> ConnectionRegistry {
        let origin = match &self.file {
            Some(file) => format!("{} has no such connection", file.display()),
            None => NOT_FOUND.to_owned(),
        };
        ConnectionRegistry::new(self.connections.clone()).with_origin(origin)
    }
}

/// A path where the configuration file may be, with the option that requires it, if any.
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

fn load_first(candidates: Vec<Candidate>) -> Result<Config, ConfigFileError> {
    for Candidate { path, required_by } in candidates {
        match (std::fs::read_to_string(&path), required_by) {
            (Ok(text), _) => return Config::parse(&text, &path),
            (Err(source), None) if source.kind() == io::ErrorKind::NotFound => {}
            (Err(source), Some(required_by)) if source.kind() == io::ErrorKind::NotFound => {
                return Err(ConfigFileError::FileMissing { path, required_by });
            }
            (Err(source), _) => return Err(ConfigFileError::FileUnreadable { path, source }),
        }
    }
    Ok(Config::default())
}

#[cfg(test)]
mod tests;
