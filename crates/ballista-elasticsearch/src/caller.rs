//! The caller at the other end of a connection.
//!
//! Owns: what the connection itself proves about the caller. Must not know: what the caller may do.

use flowsigma_node::Subject;
use std::net::SocketAddr;

/// The caller of a request. The servers of this crate put it into the extensions of each request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The address of the caller.
    pub(crate) address: SocketAddr,
    /// How the caller is connected.
    pub(crate) link: Link,
}

/// How a caller is connected, and what that proves.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    /// Without TLS: nothing is proved.
    Plain,
    /// Over TLS, with the subject of the caller's certificate if it presented one that the cluster's authority
    /// signed.
    Tls(Option<Subject>),
}

impl Caller {
    /// Returns the address in the form that logs use.
    pub(crate) fn from(&self) -> String {
        self.address.to_string()
    }
}
