//! The file `flowsigma.toml`: the connections of this process, its certificates, and who may do what.
//!
//! Owns: where the file is looked for, and what it may say. Must not know: what is done with it. It never holds a secret:
//! the file says where one is.

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
/// The environment variable that names the configuration file.
pub const CONFIG_ENV: &str = "FLOWSIGMA_CONFIG";
const NOT_FOUND: &str =
    "no configuration file was found (--config, $FLOWSIGMA_CONFIG, ./flowsigma.toml, the user's folder)";

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
    ///
    /// # Errors
    ///
    /// If it is no TOML, or says what means nothing here. No message holds a value.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigFileError> {
        parse::parse_config(text, path)
    }

    /// Finds and reads the configuration file: `explicit` (`--config`), else `$FLOWSIGMA_CONFIG`, else
    /// `./flowsigma.toml`, else `flowsigma/flowsigma.toml` in the user's configuration folder. The first two must
    /// exist; with none of them the configuration is empty.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, is not there though it was named, or does not hold a configuration.
    pub fn load(explicit: Option<&Path>) -> Result<Self, ConfigFileError> {
        let user_folder = etcetera::choose_base_strategy().ok().map(|strategy| strategy.config_dir());
        load_first(plan_candidates(explicit, std::env::var_os(CONFIG_ENV), user_folder))
    }

    /// The connections, for clients to be made of them. An unknown name is an error that names the file.
    pub fn registry(&self) -> ConnectionRegistry {
        let origin = match &self.file {
            Some(file) => format!("{} has no such connection", file.display()),
            None => NOT_FOUND.to_owned(),
        };
        ConnectionRegistry::new(self.connections.clone()).with_origin(origin)
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
