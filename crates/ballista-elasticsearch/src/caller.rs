//! Who is at the other end of a connection.
//!
//! Owns: what the connection itself proves. Must not know: what the caller may do.

use flowsigma_node::Subject;
use std::net::SocketAddr;

/// The other end of a connection, as servers of this crate put it into each request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// How it is connected.
    pub(crate) link: Link,
}

/// How a caller is connected, and what that proves.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    /// Without TLS: nothing is proved.
    Plain,
    /// By TLS; with the certificate that it showed, if it showed one of the cluster's authority.
    Tls(Option<Subject>),
}

impl Caller {
    /// The address as logs name it.
    pub(crate) fn from(&self) -> String {
        self.address.to_string()
    }
}
