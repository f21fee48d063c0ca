//! The protection of the ports of this process.
//!
//! Owns: choosing it by the configuration, the address and the flag. Must not know: what is served.
//!
//! There are three kinds. `[cluster] tls` sets certificates, for any address. Without it, a cluster on a loopback
//! address belongs to the account that started it: the scheduler writes credentials that only this account can
//! read. Anything else is an error, unless a flag allows anyone to use the cluster.

use crate::certificates::ClusterCertificates;
use crate::config::Config;
use crate::listen::Bound;
use crate::local::{LocalCredentials, is_loopback_host};
use crate::protection_error::{ALLOW_ANYONE, ProtectionError};
use secrecy::{ExposeSecret, SecretString};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// The poll interval for the credentials of a scheduler.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The protection of a port.
#[derive(Clone)]
pub enum Protection {
    /// The certificates of the files in `[cluster] tls`.
    Certificates(ClusterCertificates),
    /// The credentials of this account, for a cluster on this machine.
    Account(ClusterCertificates),
    /// A bearer token over TLS, which only a client has.
    Token(ClusterCertificates, SecretString),
    /// No protection.
    None,
}

impl Protection {
    /// Returns the certificates; `None` if anyone may use the cluster.
    pub fn certificates(&self) -> Option<&ClusterCertificates> {
        match self {
            Self::Certificates(certificates) | Self::Account(certificates) | Self::Token(certificates, _) => {
                Some(certificates)
            }
            Self::None => None,
        }
    }

    /// Returns the value of the header `authorization` with the bearer token; `None` without a token. It is a
    /// secret.
    pub fn bearer(&self) -> Option<String> {
        match self {
            Self::Token(_, token) => Some(format!("Bearer {}", token.expose_secret())),
            Self::Certificates(_) | Self::Account(_) | Self::None => None,
        }
    }

    /// Whether only the account that runs the tasks can submit them. Such a cluster can access only files that its
    /// user can access anyway.
    pub fn is_of_one_account(&self) -> bool {
        matches!(self, Self::Account(_))
    }

    /// Returns the protection of the scheduler that listens on `address`, and its listener.
    ///
    /// # Errors
    ///
    /// Returns an error if the address is in use, or other machines could reach it without protection. It also
    /// fails if certificates or credentials cannot be read or written.
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
            // Keeps the credentials of an earlier scheduler, because its executors still use them.
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

    /// Returns the protection of an executor of the scheduler at `host` and `port`. Waits at most `wait` for the
    /// credentials of a scheduler on this machine.
    ///
    /// # Errors
    ///
    /// Returns an error if other machines could reach the executor without protection, or the scheduler has not
    /// written credentials for this account.
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

    /// Returns the protection of a client of the scheduler at `host` and `port`.
    ///
    /// # Errors
    ///
    /// Returns an error if certificates, credentials or a token exist but cannot be used.
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

/// Returns the certificates of a scheduler or an executor.
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
        "{ALLOW_ANYONE}: anyone who reaches the {process} at {address} runs jobs as this account and reads through \
         its connections; nothing is encrypted"
    );
}
