//! The connections of this process, by name.
//!
//! Owns: resolving the name of a connection. Must not know: what uses the connection, or where the settings come from.
//! A plan from another process contains only names, never URLs.

use crate::config::{ConfigError, ConnectionConfig};
use crate::connection::Connection;
use crate::error::Error;
use crate::nearest::nearest;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The progress of all reads of this process, over all connections. The counters only grow.
#[derive(Debug, Default)]
pub struct ReadProgress {
    /// The number of slices that were read to their end.
    pub slices: AtomicU64,
    /// The number of documents read.
    pub documents: AtomicU64,
    /// The number of matching documents in the slices that were begun, as the servers counted them.
    pub matched: AtomicU64,
}

/// Resolves names to live connections. Each name has one connection in a process.
#[derive(Debug, Default)]
pub struct ConnectionRegistry {
    connections: BTreeMap<String, ConnectionConfig>,
    origin: Option<String>,
    live: Mutex<HashMap<String, Arc<Connection>>>,
    progress: ReadProgress,
}

impl ConnectionRegistry {
    /// Returns a registry of these connections by name. Secrets are read when a connection is first used.
    pub fn new(connections: BTreeMap<String, ConnectionConfig>) -> Self {
        Self { connections, ..Self::default() }
    }

    /// Sets a text for the error of an unknown name, such as `flowsigma.toml has no such connection`.
    pub fn with_origin(self, origin: impl Into<String>) -> Self {
        Self { origin: Some(origin.into()), ..self }
    }

    /// Adds a connection, such as the one of `--url`, or replaces the one of that name.
    ///
    /// # Errors
    ///
    /// If a secret or a certificate of the connection cannot be read, or if a setting is invalid.
    pub fn insert(&self, name: &str, config: &ConnectionConfig) -> Result<(), Error> {
        let connection = Arc::new(Connection::try_new(name, config)?);
        self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), connection);
        Ok(())
    }

    /// Returns the progress of all reads of this process.
    pub fn progress(&self) -> &ReadProgress {
        &self.progress
    }

    /// Returns the connection of this name, and creates it on first use.
    ///
    /// # Errors
    ///
    /// If no connection has this name, or if the connection cannot be created from its settings.
    pub fn get(&self, name: &str) -> Result<Arc<Connection>, Error> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = live.get(name) {
            return Ok(Arc::clone(connection));
        }
        let connection = Arc::new(Connection::try_new(name, self.described(name)?)?);
        live.insert(name.to_owned(), Arc::clone(&connection));
        Ok(connection)
    }

    fn described(&self, name: &str) -> Result<&ConnectionConfig, ConfigError> {
        self.connections.get(name).ok_or_else(|| ConfigError::UnknownConnection {
            name: name.to_owned(),
            origin: self.origin.clone(),
            nearest: nearest(name, self.connections.keys().map(String::as_str)),
            known: self.connections.keys().cloned().collect(),
        })
    }

    /// Closes all connections with their open search contexts, within 10 s. A server that does not respond in this time
    /// drops the contexts after `keep_alive`.
    pub async fn close(&self) {
        self.close_within(CLOSE_TIMEOUT).await;
    }

    /// Closes all connections as [`ConnectionRegistry::close`] does, within `longest`.
    pub async fn close_within(&self, longest: Duration) {
        let live: Vec<_> =
            self.live.lock().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect();
        futures::future::join_all(live.iter().map(|connection| connection.close(longest))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_told_where_it_was_looked_for_and_what_is_there() {
        let connections = ["prod", "lab"].map(|name| {
            (name.to_owned(), ConnectionConfig::from_url("http://127.0.0.1:9200").expect("a URL"))
        });
        let registry = ConnectionRegistry::new(connections.into());
        let error = |registry: &ConnectionRegistry, name| registry.get(name).unwrap_err().to_string();
        assert_eq!(error(&registry, "xyz"), r#"unknown connection "xyz", known are "lab", "prod""#);
        let registry = registry.with_origin("a.toml has no such connection");
        assert_eq!(
            error(&registry, "prd"),
            r#"unknown connection "prd": a.toml has no such connection, did you mean "prod"?"#
        );
        assert_eq!(error(&ConnectionRegistry::default(), "prod"), r#"unknown connection "prod""#);
        assert!(registry.get("prod").is_ok());
    }
}
