//! The ports of a process.
//!
//! Owns: the address of `--bind-host`, and listening at it. Must not know: what is served, or to whom.

use std::net::{AddrParseError, IpAddr, SocketAddr};
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Why a process cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// `--bind-host` is no address.
    #[error("--bind-host: {host:?} is no address, expected one like 127.0.0.1 or [::]: {source}")]
    Host {
        /// What was given.
        host: String,
        /// Why it is none.
        source: AddrParseError,
    },
    /// The address is taken, or is none of this machine.
    #[error(
        "the {process} cannot listen at {address}: {source}; choose another address by --bind-host and {port_option}"
    )]
    Address {
        /// What would listen, such as `scheduler`.
        process: String,
        /// Where.
        address: SocketAddr,
        /// The option that chooses the port.
        port_option: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// Reads `--bind-host`: an address, an IPv6 one with or without brackets.
///
/// # Errors
///
/// If it is no address, such as a name.
pub fn parse_bind_host(host: &str) -> Result<IpAddr, ListenError> {
    let address = host.trim_matches(['[', ']']).parse();
    address.map_err(|source| ListenError::Host { host: host.to_owned(), source })
}

/// A listener at an address, whose error says what for and which option to change.
///
/// # Errors
///
/// If the address is taken, or is none of this machine.
pub fn listen(address: SocketAddr, process: &str) -> Result<TcpListener, ListenError> {
    listen_by("--bind-port", address, process)
}

/// As [`listen`], at the port that another option chooses.
///
/// # Errors
///
/// If the address is taken, or is none of this machine.
pub fn listen_by(port_option: &str, address: SocketAddr, process: &str) -> Result<TcpListener, ListenError> {
    Bound::new(port_option, address, process)?.listen()
}

/// A port that is taken, and at which no connection is accepted yet.
pub(crate) struct Bound<'a> {
    socket: TcpSocket,
    port: u16,
    address: SocketAddr,
    port_option: &'a str,
    process: &'a str,
}

impl<'a> Bound<'a> {
    /// Takes the port of `address`, or any that is free if it is 0.
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

    /// The port that was taken.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Accepts connections from now on.
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
        assert!(error.starts_with("--bind-host: \"localhost\" is no address"), "{error}");
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
