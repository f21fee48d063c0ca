//! The credentials of a cluster on one machine, which only its account can read.
//!
//! Owns: the file that a scheduler on a loopback address writes when it starts. Clients and executors of the same
//! account authenticate with it. Must not know: what the credentials are used for.
//!
//! The file contains three PEM blocks: the authority's certificate, the owner's certificate, and the owner's key.
//! A file that another account can read or write is an error.

use crate::authority::{Authority, AuthorityError, Issued};
use crate::role::Role;
use etcetera::BaseStrategy;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The environment variable for the folder of these files, for accounts without a home folder.
const FOLDER_VARIABLE: &str = "FLOWSIGMA_STATE_DIR";

/// The credentials are valid for two years, and replaced after one.
const FRESH_FOR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The reason why the credentials of a cluster on this machine cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Neither the environment variable nor a home folder exists.
    #[error(
        "there is no folder for the credentials of a cluster on this machine: set ${FOLDER_VARIABLE} or $HOME, or use [cluster] tls"
    )]
    NoFolder,
    /// The system returned an error.
    #[error("{}: {source}; it holds the credentials of a cluster on this machine", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: std::io::Error,
    },
    /// Another account owns the path, or may read or write it.
    #[error(
        "{} is not this account's alone (owner {owner}, mode {mode:o}), so its credentials are not used: delete it and start the scheduler again",
        path.display()
    )]
    Shared {
        /// The file or folder.
        path: PathBuf,
        /// The user id of the owner.
        owner: u32,
        /// The permission bits.
        mode: u32,
    },
    /// The content is not what a scheduler writes.
    #[error("{} does not hold the credentials of a cluster: start its scheduler again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// A certificate could not be created.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// Credentials with which a process authenticates to a cluster of its own account on this machine, in PEM.
#[derive(Clone, Debug)]
pub struct LocalCredentials {
    /// The certificate of the authority, which is created for the scheduler of one account on one port.
    pub authority: String,
    /// The owner's certificate and key.
    pub owner: Issued,
    age: Duration,
}

impl LocalCredentials {
    /// Creates credentials for a scheduler and executors on loopback addresses of this machine.
    ///
    /// # Errors
    ///
    /// Returns an error if the system provides no random numbers.
    pub fn generate() -> Result<Self, LocalError> {
        let authority = Authority::new("flowsigma on this machine")?;
        let hosts = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let owner = authority.issue(Role::Owner, "owner", &hosts)?;
        Ok(Self { authority: authority.certificate().to_owned(), owner, age: Duration::ZERO })
    }

    /// Whether the credentials are valid for at least another year.
    pub fn is_fresh(&self) -> bool {
        self.age < FRESH_FOR
    }

    /// Writes the credentials for the scheduler on `port`, replacing older ones. Returns the path of the file.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no folder for the file, another account can access it, or the file cannot be
    /// written.
    pub fn write(&self, port: u16) -> Result<PathBuf, LocalError> {
        let folder = folder()?;
        make_private(&folder)?;
        let path = folder.join(file_name(port));
        if !self.age.is_zero() && path.exists() {
            // The credentials were read from this file.
            return Ok(path);
        }
        let io = |source| LocalError::Io { path: path.clone(), source };
        // The temporary file has mode 600. It gets the final name only when it is complete.
        let mut file = tempfile::NamedTempFile::new_in(&folder).map_err(io)?;
        let text = [&self.authority, &self.owner.certificate, &self.owner.key].map(|pem| pem.trim_end());
        file.write_all(format!("{}\n", text.join("\n")).as_bytes()).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        file.persist(&path).map_err(|e| LocalError::Io { path: path.clone(), source: e.error })?;
        Ok(path)
    }

    /// Reads the credentials of the scheduler on `port` of this machine; returns `None` if it has written none.
    ///
    /// # Errors
    ///
    /// Returns an error if another account can access the file, or its content is not what a scheduler writes.
    pub fn read(port: u16) -> Result<Option<Self>, LocalError> {
        let Ok(folder) = folder() else { return Ok(None) };
        let path = folder.join(file_name(port));
        match std::fs::symlink_metadata(&path) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LocalError::Io { path, source }),
        }
        refuse_shared(&folder)?;
        refuse_shared(&path)?;
        let text =
            std::fs::read_to_string(&path).map_err(|source| LocalError::Io { path: path.clone(), source })?;
        let written = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
        let age = written.ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
        let read = Self::parse(&text).ok_or(LocalError::Malformed { path })?;
        Ok(Some(Self { age: age.max(Duration::from_nanos(1)), ..read }))
    }

    /// Deletes the credentials of the scheduler on `port`, if there are any.
    ///
    /// # Errors
    ///
    /// Returns an error if the file exists and cannot be deleted.
    pub fn delete(port: u16) -> Result<(), LocalError> {
        let Ok(folder) = folder() else { return Ok(()) };
        let path = folder.join(file_name(port));
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(LocalError::Io { path, source }),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        const END: &str = "-----END ";
        let mut blocks: Vec<String> = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(END) {
            let end = at + rest[at..].find('\n').unwrap_or(rest.len() - at);
            blocks.push(rest[..end].trim().to_owned() + "\n");
            rest = &rest[end..];
        }
        let [authority, certificate, key] = <[String; 3]>::try_from(blocks).ok()?;
        Some(Self { authority, owner: Issued { certificate, key }, age: Duration::ZERO })
    }
}

/// Whether a host always is this machine: `localhost` or a loopback address.
pub fn is_loopback_host(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn file_name(port: u16) -> String {
    format!("scheduler-{port}.pem")
}

fn folder() -> Result<PathBuf, LocalError> {
    if let Some(folder) = std::env::var_os(FOLDER_VARIABLE).filter(|folder| !folder.is_empty()) {
        return Ok(PathBuf::from(folder).join("clusters"));
    }
    let folders = etcetera::choose_base_strategy().map_err(|_| LocalError::NoFolder)?;
    let state = folders.state_dir().unwrap_or_else(|| folders.data_dir());
    Ok(state.join("flowsigma").join("clusters"))
}

fn make_private(folder: &Path) -> Result<(), LocalError> {
    let io = |source| LocalError::Io { path: folder.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
    refuse_shared(folder)
}

/// Rejects a link, and a path that another account owns or can access.
fn refuse_shared(path: &Path) -> Result<(), LocalError> {
    let metadata =
        std::fs::symlink_metadata(path).map_err(|source| LocalError::Io { path: path.to_owned(), source })?;
    let (owner, mode) = (metadata.uid(), metadata.permissions().mode() & 0o7777);
    let own = owner == rustix::process::geteuid().as_raw();
    if metadata.is_symlink() || !own || mode & 0o077 != 0 {
        return Err(LocalError::Shared { path: path.to_owned(), owner, mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_whole() {
        let made = LocalCredentials::generate().unwrap();
        let text = [&made.authority, &made.owner.certificate, &made.owner.key].map(|pem| pem.trim_end());
        let read = LocalCredentials::parse(&format!("{}\n", text.join("\n"))).unwrap();
        assert_eq!(read.authority.trim(), made.authority.trim());
        assert_eq!(read.owner.certificate.trim(), made.owner.certificate.trim());
        assert_eq!(read.owner.key.trim(), made.owner.key.trim());
        for part in ["", "-----END ", made.authority.as_str(), &text[..2].join("\n")] {
            assert!(LocalCredentials::parse(part).is_none(), "{part}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scheduler-1.pem");
        std::fs::write(&path, "x").unwrap();
        let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        set(0o600);
        refuse_shared(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o666] {
            set(mode);
            let error = refuse_shared(&path).unwrap_err().to_string();
            assert!(error.contains("not this account's alone"), "{error}");
        }
        set(0o600);
        let link = folder.path().join("link.pem");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(refuse_shared(&link).is_err());
    }

    #[test]
    fn loopback_is_told_from_other_hosts() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1", "[::1]"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in ["0.0.0.0", "10.0.0.1", "example.org", "localhost.example.org", "::", ""] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
