//! The connections of this process, by name.
//!
//! Owns: resolving a name, once. Must not know: who asks, or where the connections are described. An address never comes
//! from outside of this process.

use crate::config::{ConfigError, ConnectionConfig};
use crate::connection::Connection;
use crate::error::Error;
use crate::nearest::nearest;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What this process has read since it began, over all connections. It only grows.
#[derive(Debug, Default)]
pub struct ReadProgress {
    /// Slices read whole.
    pub slices: AtomicU64,
    /// Rows.
    pub documents: AtomicU64,
    /// Rows that the servers counted, in the slices begun.
    pub matched: AtomicU64,
}

/// Resolves names to live connections; one of each a process.
#[derive(Debug, Default)]
pub struct ConnectionRegistry {
    connections: BTreeMap<String, ConnectionConfig>,
    origin: Option<String>,
    live: Mutex<HashMap<String, Arc<Connection>>>,
    progress: ReadProgress,
}

impl ConnectionRegistry {
    /// Over connections by name. Reads no secret yet.
    pub fn new(connections: BTreeMap<String, ConnectionConfig>) -> Self {
        Self { connections, ..Self::default() }
    }

    /// Says in the error of an unknown name where the connections come from, such as
    /// `flowsigma.toml has no such connection`.
    pub fn with_origin(self, origin: impl Into<String>) -> Self {
        Self { origin: Some(origin.into()), ..self }
    }

    /// Adds a connection that this process made up itself, such as for `--url`.
    pub fn insert(&self, name: &str, config: &ConnectionConfig) -> Result<(), Error> {
        let connection = Arc::new(Connection::try_new(name, config)?);
        self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), connection);
        Ok(())
    }

    /// What was read in this process, for who shows progress.
    pub fn progress(&self) -> &ReadProgress {
        &self.progress
    }

    /// The connection of that name. An unknown one is an error that lists the known.
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

    /// Ends all connections, so that no server keeps anything open for this process. Servers that do not
    /// answer within ten seconds drop it by themselves after `keep_alive`.
    pub async fn close(&self) {
        self.close_within(CLOSE_TIMEOUT).await;
    }

    /// The same for who cannot wait that long.
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
