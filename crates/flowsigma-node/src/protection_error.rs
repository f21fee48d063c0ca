//! Why a process of a cluster is not protected.
//!
//! Owns: the causes and their messages. Must not know: who is protected.

use crate::config::ClusterTls;
use crate::listen::ListenError;
use crate::local::LocalError;
use elastic_client::ConfigError;
use std::path::PathBuf;

/// The flag, as scheduler and executor spell it.
pub(crate) const ALLOW_ANYONE: &str = "--allow-anyone";

/// Why a process is not protected, or cannot start as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtectionError {
    /// A file of `[cluster] tls` cannot be read.
    #[error("[cluster] tls: cannot read {key} {}: {source}", path.display())]
    Unreadable {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The files of `[cluster] tls` are none, or do not belong together.
    #[error(
        "[cluster] tls: {}, {} and {} are not an authority, a certificate and its key: {problem}",
        files.ca_file.display(), files.cert_file.display(), files.key_file.display()
    )]
    NoCertificates {
        /// The files.
        files: Box<ClusterTls>,
        /// What is wrong with them.
        problem: String,
    },
    /// The file that a client recognises the scheduler by holds no certificate.
    #[error("[cluster] tls: {} is not the certificate of an authority: {problem}", file.display())]
    NoAuthority {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// What a scheduler of this machine wrote are no certificates.
    #[error("credentials of this machine's cluster: {problem}")]
    NoCredentials {
        /// What is wrong with them.
        problem: String,
    },
    /// The bearer token cannot be read.
    #[error("[cluster] token: {0}")]
    Token(#[source] ConfigError),
    /// A process that serves has a token in place of a certificate.
    #[error(
        "[cluster] has a token, by which a client proves itself: the {process} needs cert_file and key_file in [cluster] tls"
    )]
    TokenOfServer {
        /// The process.
        process: &'static str,
    },
    /// Other machines could use the port.
    #[error(
        "others can reach the {process} at {address}, and nothing would protect it: give each node a certificate by \
         [cluster] tls in its flowsigma.toml (flowsigma cluster init makes them), or let anyone who reaches it run jobs \
         as this account by {ALLOW_ANYONE}"
    )]
    Unprotected {
        /// The process.
        process: &'static str,
        /// Where it would listen.
        address: String,
    },
    /// No scheduler of this account has written credentials.
    #[error(
        "no scheduler of this account listens on port {port} of this machine: start flowsigma-scheduler as this user \
         first, or say by --scheduler-host and --scheduler-port where it is"
    )]
    NoScheduler {
        /// The port of the scheduler that was waited for.
        port: u16,
    },
    /// The credentials of a cluster on this machine cannot be written or read.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The process cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
}
