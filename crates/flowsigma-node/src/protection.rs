//! What stands between this process and those who can reach its ports.
//!
//! Owns: choosing it from the configuration, the address and the flag. Must not know: what is served.
//!
//! There are three ways. `[cluster] tls` names certificates, for any address. Without it, a cluster on a loopback address
//! belongs to the account that started it: the scheduler writes credentials that only this account can read. Anything
//! else is an error, unless a flag says that anyone may use the cluster.

use crate::certificates::ClusterCertificates;
use crate::config::Config;
use crate::listen::Bound;
use crate::local::{LocalCredentials, is_loopback_host};
use crate::protection_error::{ALLOW_ANYONE, ProtectionError};
use secrecy::{ExposeSecret, SecretString};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Between two looks at whether a scheduler has written its credentials.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What protects a port.
#[derive(Clone)]
pub enum Protection {
    /// Certificates of the files in `[cluster] tls`.
    Certificates(ClusterCertificates),
    /// Credentials of this account, for a cluster on this machine.
    Account(ClusterCertificates),
    /// A bearer token over TLS, which only clients have.
    Token(ClusterCertificates, SecretString),
    /// Nothing.
    None,
}

impl Protection {
    /// The certificates; none where anyone may use the cluster.
    pub fn certificates(&self) -> Option<&ClusterCertificates> {
        match self {
            Self::Certificates(certificates) | Self::Account(certificates) | Self::Token(certificates, _) => {
                Some(certificates)
            }
            Self::None => None,
        }
    }

    /// The bearer token, for a request's `authorization`. It is a secret.
    pub fn bearer(&self) -> Option<String> {
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
        config: &Config,
        address: SocketAddr,
        allow_anyone: bool,
    ) -> Result<(Self, TcpListener), ProtectionError> {
        let configured = of_node(config, "scheduler")?;
        if configured.is_none() && !allow_anyone && !address.ip().is_loopback() {
            return Err(unprotected("scheduler", &address.to_string()));
        }
        let bound = Bound::new("--bind-port", address, "scheduler")?;
        let port = bound.port();
        let protection = match configured {
            Some(certificates) => Self::Certificates(certificates),
            None if allow_anyone => {
                warn("scheduler", &address.to_string());
                LocalCredentials::delete(port)?;
                Self::None
            }
            // Those of a scheduler before are kept: its executors go on with them.
            None => {
                let credentials = match LocalCredentials::read(port)? {
                    Some(credentials) if credentials.is_fresh() => credentials,
                    Some(_) | None => LocalCredentials::generate()?,
                };
                let file = credentials.write(port)?;
                tracing::info!(file = %file.display(), "only this account can use the cluster, by credentials in a file");
                Self::Account(ClusterCertificates::local(&credentials)?)
            }
        };
        Ok((protection, bound.listen()?))
    }

    /// For an executor of the scheduler at `host` and `port`, whose credentials it waits for until `wait` has passed.
    ///
    /// # Errors
    ///
    /// If nothing would protect it, or the scheduler is another account's.
    pub async fn of_executor(
        config: &Config,
        (host, port): (&str, u16),
        bind_host: &str,
        allow_anyone: bool,
        wait: Duration,
    ) -> Result<Self, ProtectionError> {
        if let Some(certificates) = of_node(config, "executor")? {
            return Ok(Self::Certificates(certificates));
        }
        if allow_anyone {
            warn("executor", bind_host);
            return Ok(Self::None);
        }
        for (operation, host) in [("scheduler", host), ("executor", bind_host)] {
            if !is_loopback_host(host) {
                return Err(unprotected(operation, host));
            }
        }
        let give_up = Instant::now() + wait;
        loop {
            if let Some(credentials) = LocalCredentials::read(port)? {
                return Ok(Self::Account(ClusterCertificates::local(&credentials)?));
            }
            if Instant::now() >= give_up {
                return Err(ProtectionError::NoScheduler { port });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// For a client of the scheduler at `host` and `port`.
    ///
    /// # Errors
    ///
    /// If credentials are there and cannot be used.
    pub fn of_client(config: &Config, host: &str, port: u16) -> Result<Self, ProtectionError> {
        if let Some(certificates) = ClusterCertificates::of(config)? {
            return Ok(Self::Certificates(certificates));
        }
        if let Some(login) = &config.cluster_token {
            let token = login.token.read().map_err(ProtectionError::Token)?;
            return Ok(Self::Token(ClusterCertificates::of_authority(&login.ca_file)?, token));
        }
        if is_loopback_host(host)
            && let Some(credentials) = LocalCredentials::read(port)?
        {
            return Ok(Self::Account(ClusterCertificates::local(&credentials)?));
        }
        Ok(Self::None)
    }
}

/// The certificates of a process that serves.
fn of_node(config: &Config, process: &'static str) -> Result<Option<ClusterCertificates>, ProtectionError> {
    if config.cluster_token.is_some() {
        return Err(ProtectionError::TokenOfServer { process });
    }
    ClusterCertificates::of(config)
}

fn unprotected(process: &'static str, address: &str) -> ProtectionError {
    ProtectionError::Unprotected { process, address: address.to_owned() }
}

fn warn(process: &str, address: &str) {
    tracing::warn!(
        "{ALLOW_ANYONE}: whoever reaches the {process} at {address} runs jobs as this account, reads through its \
         connections, and nothing is encrypted"
    );
}
