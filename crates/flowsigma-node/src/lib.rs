//! What the processes of a cluster prove to each other.
//!
//! Owns: certificates with a role, the authority that issues them, and the credentials of a cluster on one
//! machine. Must not know: Ballista, DataFusion, Elasticsearch, or what a role may do.

mod authority;
mod local;
mod role;

pub use authority::{Authority, AuthorityError, Issued};
pub use local::{LocalCredentials, LocalError, is_loopback_host};
pub use role::{Role, Subject, subject_of};
