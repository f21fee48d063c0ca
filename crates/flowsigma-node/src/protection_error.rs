//! The errors of protecting the ports of a process.
//!
//! Owns: the causes and their messages. Must not know: which process is protected.

use crate::config::ClusterTls;
use crate::listen::ListenError;
use crate::local::LocalError;
use elastic_client::ConfigError;
use std::path::PathBuf;

/// The flag of scheduler and executor that disables protection.
pub(crate) const ALLOW_ANYONE: &str = "--allow-anyone";

/// The reason why a process cannot be protected, and does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtectionError {
    /// A file of `[cluster] tls` cannot be read.
    #[error("[cluster] tls: cannot read {key} {}: {source}", path.display())]
    Unreadable {
        /// The key in the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The files of `[cluster] tls` are not certificates, or do not belong together.
    #[error(
        "[cluster] tls: {}, {} and {} are not an authority, a certificate and its key: {problem}",
        files.ca_file.display(), files.cert_file.display(), files.key_file.display()
    )]
    NoCertificates {
        /// The files.
        files: Box<ClusterTls>,
        /// The error of reading them.
        problem: String,
    },
    /// The authority file of a client with a token contains no certificate.
    #[error("[cluster] tls: {} is not the certificate of an authority: {problem}", file.display())]
    NoAuthority {
        /// The file.
        file: PathBuf,
        /// The error of reading it.
        problem: String,
    },
    /// The credentials that a scheduler on this machine wrote are not certificates.
    #[error("credentials of this machine's cluster: {problem}")]
    NoCredentials {
        /// The error of reading them.
        problem: String,
    },
    /// The bearer token cannot be read.
    #[error("[cluster] token: {0}")]
    Token(#[source] ConfigError),
    /// A scheduler or an executor has a token instead of a certificate.
    #[error(
        "[cluster] has a token, which only clients can use: the {process} needs cert_file and key_file in \
         [cluster] tls"
    )]
    TokenOfServer {
        /// The process.
        process: &'static str,
    },
    /// Other machines can reach the port, and it has no protection.
    #[error(
        "other machines can reach the {process} at {address}, and nothing protects it: give each process a \
         certificate by [cluster] tls in its flowsigma.toml (flowsigma cluster init creates them), or let anyone who \
         reaches it run jobs as this account by {ALLOW_ANYONE}"
    )]
    Unprotected {
        /// The process.
        process: &'static str,
        /// The address where it would listen.
        address: String,
    },
    /// No scheduler of this account has written credentials.
    #[error(
        "no scheduler of this account listens on port {port} of this machine: start flowsigma-scheduler as this user \
         first, or set --scheduler-host and --scheduler-port"
    )]
    NoScheduler {
        /// The port of the scheduler.
        port: u16,
    },
    /// The credentials of a cluster on this machine cannot be written or read.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The process cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
}
