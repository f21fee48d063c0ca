//! The connections of this process, by name.
//!
//! Owns: resolving a name from this node's own configuration, once.
//! Must not know: who asks. An address never comes from outside of this node.

use crate::config::{ClusterTls, Config, ConnectionConfig};
use crate::connection::Connection;
use crate::error::Error;
use std::collections::HashMap;
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
    config: Config,
    live: Mutex<HashMap<String, Arc<Connection>>>,
    progress: ReadProgress,
}

impl ConnectionRegistry {
    /// Over one node's configuration. Reads no secret yet.
    pub fn new(config: Config) -> Self {
        Self { config, live: Mutex::default(), progress: ReadProgress::default() }
    }

    /// How this node recognises the others of its cluster.
    pub fn cluster_tls(&self) -> Option<&ClusterTls> {
        self.config.cluster_tls.as_ref()
    }

    /// What this node's configuration file says, connections that were added since aside.
    pub fn config(&self) -> &Config {
        &self.config
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
        let connection = Arc::new(Connection::try_new(name, self.config.connection(name)?)?);
        live.insert(name.to_owned(), Arc::clone(&connection));
        Ok(connection)
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
