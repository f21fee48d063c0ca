//! What stands between this process and those who can reach its ports.
//!
//! Owns: choosing it from the configuration, the address and the flag. Must not know: what is served.
//!
//! There are three ways. `[cluster] tls` names certificates, for any address. Without it, a cluster on a loopback address
//! belongs to the account that started it: the scheduler writes credentials that only this account can read. Anything
//! else is an error, unless a flag says that anyone may use the cluster.

use crate::links::ClusterLinks;
use datafusion::error::{DataFusionError, Result};
use elastic_client::ConnectionRegistry;
use flowsigma_node::{LocalCredentials, is_loopback_host};
use secrecy::{ExposeSecret, SecretString};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket};

/// The flag, as scheduler and executor spell it.
pub(crate) const ALLOW_ANYONE: &str = "--allow-anyone";
/// Between two looks at whether a scheduler has written its credentials.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// What protects a port.
#[derive(Clone)]
pub enum Protection {
    /// Certificates of the files in `[cluster] tls`.
    Certificates(ClusterLinks),
    /// Credentials of this account, for a cluster on this machine.
    Account(ClusterLinks),
    /// A bearer token over TLS, which only clients have.
    Token(ClusterLinks, SecretString),
    /// Nothing.
    None,
}

impl Protection {
    /// The certificates; none where anyone may use the cluster.
    pub fn links(&self) -> Option<&ClusterLinks> {
        match self {
            Self::Certificates(links) | Self::Account(links) | Self::Token(links, _) => Some(links),
            Self::None => None,
        }
    }

    /// The bearer token, for a request's `authorization`.
    pub(crate) fn bearer(&self) -> Option<String> {
        match self {
            Self::Token(_, token) => Some(format!("Bearer {}", token.expose_secret())),
            Self::Certificates(_) | Self::Account(_) | Self::None => None,
        }
    }

    /// Whether files are those of the account that submits: a cluster of one account reads and writes what it could
    /// itself.
    pub fn is_of_one_account(&self) -> bool {
        matches!(self, Self::Account(_))
    }

    /// For the scheduler that listens at `address`, and its listener. Callers are not accepted yet.
    ///
    /// # Errors
    ///
    /// If the address is taken, or others could reach it and nothing would protect it.
    pub fn of_scheduler(
        registry: &ConnectionRegistry,
        address: SocketAddr,
        allow_anyone: bool,
    ) -> Result<(Self, TcpListener)> {
        let configured = of_node(registry, "scheduler")?;
        if configured.is_none() && !allow_anyone && !address.ip().is_loopback() {
            return Err(unprotected("scheduler", &address.to_string()));
        }
        let socket = bind("--bind-port", address, "scheduler")?;
        let port = socket.local_addr()?.port();
        let protection = match configured {
            Some(links) => Self::Certificates(links),
            None if allow_anyone => {
                warn("scheduler", &address.to_string());
                LocalCredentials::delete(port).map_err(external)?;
                Self::None
            }
            // Those of a scheduler before are kept: its executors go on with them.
            None => {
                let credentials = match LocalCredentials::read(port).map_err(external)? {
                    Some(credentials) if credentials.is_fresh() => credentials,
                    Some(_) | None => LocalCredentials::generate().map_err(external)?,
                };
                let file = credentials.write(port).map_err(external)?;
                tracing::info!(file = %file.display(), "only this account can use the cluster, by credentials in a file");
                Self::Account(ClusterLinks::local(&credentials)?)
            }
        };
        Ok((protection, socket.listen(BACKLOG)?))
    }

    /// For an executor of the scheduler at `host` and `port`, whose credentials it waits for until `wait` has passed.
    ///
    /// # Errors
    ///
    /// If nothing would protect it, or the scheduler is another account's.
    pub async fn of_executor(
        registry: &ConnectionRegistry,
        (host, port): (&str, u16),
        bind_host: &str,
        allow_anyone: bool,
        wait: Duration,
    ) -> Result<Self> {
        if let Some(links) = of_node(registry, "executor")? {
            return Ok(Self::Certificates(links));
        }
        if allow_anyone {
            warn("executor", bind_host);
            return Ok(Self::None);
        }
        for (what, host) in [("scheduler", host), ("executor", bind_host)] {
            if !is_loopback_host(host) {
                return Err(unprotected(what, host));
            }
        }
        let give_up = Instant::now() + wait;
        loop {
            if let Some(credentials) = LocalCredentials::read(port).map_err(external)? {
                return Ok(Self::Account(ClusterLinks::local(&credentials)?));
            }
            if Instant::now() >= give_up {
                return Err(DataFusionError::Configuration(format!(
                    "no scheduler of this account listens on port {port} of this machine: start flowsigma-scheduler \
                     as this user first, or say by --scheduler-host and --scheduler-port where it is"
                )));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// For a client of the scheduler at `host` and `port`.
    ///
    /// # Errors
    ///
    /// If credentials are there and cannot be used.
    pub fn of_client(registry: &ConnectionRegistry, host: &str, port: u16) -> Result<Self> {
        if let Some(links) = ClusterLinks::of(registry)? {
            return Ok(Self::Certificates(links));
        }
        if let Some(login) = &registry.config().cluster_token {
            let token = login
                .token
                .read()
                .map_err(|e| DataFusionError::Configuration(format!("[cluster] token: {e}")))?;
            return Ok(Self::Token(ClusterLinks::of_authority(&login.ca_file)?, token));
        }
        if is_loopback_host(host)
            && let Some(credentials) = LocalCredentials::read(port).map_err(external)?
        {
            return Ok(Self::Account(ClusterLinks::local(&credentials)?));
        }
        Ok(Self::None)
    }
}

/// The certificates of a process that serves.
fn of_node(registry: &ConnectionRegistry, process: &str) -> Result<Option<ClusterLinks>> {
    if registry.config().cluster_token.is_some() {
        return Err(DataFusionError::Configuration(format!(
            "[cluster] has a token, by which a client proves itself: the {process} needs cert_file and key_file in \
             [cluster] tls"
        )));
    }
    ClusterLinks::of(registry)
}

/// A listener at an address, whose error says what for and which option to change.
///
/// # Errors
///
/// If the address is taken, or is none of this machine.
pub fn listen(address: SocketAddr, process: &str) -> Result<TcpListener> {
    listen_by("--bind-port", address, process)
}

/// As [`listen`], at the port that another option chooses.
///
/// # Errors
///
/// If the address is taken, or is none of this machine.
pub fn listen_by(port_option: &str, address: SocketAddr, process: &str) -> Result<TcpListener> {
    Ok(bind(port_option, address, process)?.listen(BACKLOG)?)
}

fn bind(port_option: &str, address: SocketAddr, process: &str) -> Result<TcpSocket> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        std::io::Result::Ok(socket)
    };
    bound().map_err(|e| {
        DataFusionError::Configuration(format!(
            "the {process} cannot listen at {address}: {e}; choose another address by --bind-host and \
             {port_option}"
        ))
    })
}

fn unprotected(process: &str, address: &str) -> DataFusionError {
    DataFusionError::Configuration(format!(
        "others can reach the {process} at {address}, and nothing would protect it: give each node a certificate by \
         [cluster] tls in its flowsigma.toml (flowsigma cluster init makes them), or let anyone who reaches it run jobs \
         as this account by {ALLOW_ANYONE}"
    ))
}

fn warn(process: &str, address: &str) {
    tracing::warn!(
        "{ALLOW_ANYONE}: whoever reaches the {process} at {address} runs jobs as this account, reads through its \
         connections, and nothing is encrypted"
    );
}

fn external(error: flowsigma_node::LocalError) -> DataFusionError {
    DataFusionError::Configuration(error.to_string())
}
