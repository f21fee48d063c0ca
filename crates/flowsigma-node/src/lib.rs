//! The shared parts of the processes of a cluster: client, scheduler and executor.
//!
//! Owns: the file `flowsigma.toml`, certificates with roles and the authority that issues them, the credentials of
//! a cluster on one machine, the protection of a port, the runtime and the shutdown signal. With the feature
//! `process` also options and logs. Must not know: Ballista, DataFusion, or which process it is.

mod authority;
mod certificates;
mod config;
mod folders;
mod listen;
mod local;
#[cfg(feature = "process")]
mod logs;
#[cfg(feature = "process")]
mod options;
mod protection;
mod protection_error;
mod role;
mod runtime;

pub use authority::{Authority, AuthorityError, Issued};
pub use certificates::ClusterCertificates;
pub use config::{
    Access, CONFIG_ENV, CONFIG_FILE, ClusterMembers, ClusterTls, ClusterToken, Config, ConfigFileError,
    FileRoots, Grants, Jobs,
};
pub use folders::{private_folder, private_folder_in};
pub use listen::{ListenError, listen, listen_by, parse_bind_host};
pub use local::{LocalCredentials, LocalError, is_loopback_host};
#[cfg(feature = "process")]
pub use logs::{LogRotation, NodeLogs};
#[cfg(feature = "process")]
pub use options::NodeArgs;
pub use protection::Protection;
pub use protection_error::ProtectionError;
pub use role::{Role, Subject, subject_of};
pub use runtime::{node_runtime, shutdown_signal};
