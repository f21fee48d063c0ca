//! Reused connections between executors.
//!
//! Owns: idle connections. Must not know: what is fetched. It works like Ballista's own pool, which Ballista only
//! gives to its own engine.

use async_trait::async_trait;
use ballista_core::client::BallistaClient;
use ballista_core::client_pool::{BallistaClientPool, PooledClient};
use ballista_core::error::Result;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::utils::GrpcClientConfig;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

type Key = (String, u16, GrpcClientConfig);

/// An idle client, with the time since when it is idle.
type Idle = (BallistaClient, Instant);

/// Keeps clients that have been idle for less than `ttl`.
pub(crate) struct ClientPool {
    idle: Arc<Mutex<HashMap<Key, Vec<Idle>>>>,
    ttl: Duration,
}

impl ClientPool {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { idle: Arc::default(), ttl }
    }
}

impl fmt::Debug for ClientPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientPool").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

fn lock(idle: &Mutex<HashMap<Key, Vec<Idle>>>) -> MutexGuard<'_, HashMap<Key, Vec<Idle>>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

fn evict(idle: &mut HashMap<Key, Vec<Idle>>, ttl: Duration) {
    idle.retain(|_, clients| {
        clients.retain(|(_, since)| since.elapsed() < ttl);
        !clients.is_empty()
    });
}

#[async_trait]
impl BallistaClientPool for ClientPool {
    async fn acquire(
        &self,
        host: &str,
        port: u16,
        config: &GrpcClientConfig,
        customize_endpoint: Option<Arc<BallistaConfigGrpcEndpoint>>,
    ) -> Result<PooledClient> {
        let key = (host.to_owned(), port, config.clone());
        let idle = {
            let mut idle = lock(&self.idle);
            evict(&mut idle, self.ttl);
            idle.get_mut(&key).and_then(Vec::pop)
        };
        let client = match idle {
            Some((client, _)) => client,
            None => {
                BallistaClient::try_new(
                    host,
                    port,
                    config.max_message_size,
                    config.use_tls,
                    customize_endpoint,
                    config.io_retries_times,
                    config.io_retry_wait_time_ms,
                    config.initial_connection_window_size,
                    config.initial_stream_window_size,
                )
                .await?
            }
        };
        let (idle, ttl) = (Arc::clone(&self.idle), self.ttl);
        let give_back = move |client| {
            let mut idle = lock(&idle);
            evict(&mut idle, ttl);
            idle.entry(key).or_default().push((client, Instant::now()));
        };
        Ok(PooledClient::new(client, Box::new(give_back)))
    }

    async fn evict_idle(&self) {
        evict(&mut lock(&self.idle), self.ttl);
    }
}
