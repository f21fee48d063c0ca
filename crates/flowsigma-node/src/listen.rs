//! The listeners of a process.
//!
//! Owns: the address of `--bind-host`, and listening on it. Must not know: what is served, or which callers are accepted.

use std::net::{AddrParseError, IpAddr, SocketAddr};
use tokio::net::{TcpListener, TcpSocket};

/// The maximum of connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// The reason why a process cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// `--bind-host` is not an IP address.
    #[error("--bind-host: {host:?} is not an address, expected one like 127.0.0.1 or [::]: {source}")]
    Host {
        /// The given host.
        host: String,
        /// The error of parsing it.
        source: AddrParseError,
    },
    /// The address is in use, or does not belong to this machine.
    #[error(
        "the {process} cannot listen at {address}: {source}; choose another address by --bind-host and {port_option}"
    )]
    Address {
        /// The process that would listen, such as `scheduler`.
        process: String,
        /// The address.
        address: SocketAddr,
        /// The option for the port.
        port_option: String,
        /// The error of the system.
        source: std::io::Error,
    },
}

/// Parses `--bind-host`: an IP address; brackets around IPv6 are optional.
///
/// # Errors
///
/// Returns an error if the host is not an IP address, for example a name.
pub fn parse_bind_host(host: &str) -> Result<IpAddr, ListenError> {
    let address = host.trim_matches(['[', ']']).parse();
    address.map_err(|source| ListenError::Host { host: host.to_owned(), source })
}

/// Listens on `address`. The error names `process`, `--bind-host` and `--bind-port`.
///
/// # Errors
///
/// Returns an error if the address is in use, or does not belong to this machine.
pub fn listen(address: SocketAddr, process: &str) -> Result<TcpListener, ListenError> {
    listen_by("--bind-port", address, process)
}

/// Listens on `address` like [`listen`]. The error names `port_option` instead of `--bind-port`.
///
/// # Errors
///
/// Returns an error if the address is in use, or does not belong to this machine.
pub fn listen_by(port_option: &str, address: SocketAddr, process: &str) -> Result<TcpListener, ListenError> {
    Bound::new(port_option, address, process)?.listen()
}

/// A bound port that does not accept connections yet.
pub(crate) struct Bound<'a> {
    socket: TcpSocket,
    port: u16,
    address: SocketAddr,
    port_option: &'a str,
    process: &'a str,
}

impl<'a> Bound<'a> {
    /// Binds the port of `address`, or any free port if it is 0.
    pub(crate) fn new(
        port_option: &'a str,
        address: SocketAddr,
        process: &'a str,
    ) -> Result<Self, ListenError> {
        let bound = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let port = socket.local_addr()?.port();
            std::io::Result::Ok((socket, port))
        };
        let (socket, port) = bound().map_err(|source| refused(port_option, address, process, source))?;
        Ok(Self { socket, port, address, port_option, process })
    }

    /// Returns the bound port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Starts to accept connections.
    pub(crate) fn listen(self) -> Result<TcpListener, ListenError> {
        let Self { socket, address, port_option, process, .. } = self;
        socket.listen(BACKLOG).map_err(|source| refused(port_option, address, process, source))
    }
}

fn refused(port_option: &str, address: SocketAddr, process: &str, source: std::io::Error) -> ListenError {
    let (process, port_option) = (process.to_owned(), port_option.to_owned());
    ListenError::Address { process, address, port_option, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_to_bind_is_an_address() {
        for (host, address) in [("127.0.0.1", "127.0.0.1"), ("::", "::"), ("[::1]", "::1")] {
            assert_eq!(parse_bind_host(host).unwrap().to_string(), address);
        }
        let error = parse_bind_host("localhost").unwrap_err().to_string();
        assert!(error.starts_with("--bind-host: \"localhost\" is not an address"), "{error}");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_an_error_that_says_which_option_to_change() {
        let first = listen(([127, 0, 0, 1], 0).into(), "scheduler").unwrap();
        let address = first.local_addr().unwrap();
        let error = listen_by("--bind-health-port", address, "executor").unwrap_err().to_string();
        for part in
            ["the executor cannot listen at", &address.to_string(), "--bind-host and --bind-health-port"]
        {
            assert!(error.contains(part), "{error}");
        }
    }
}
