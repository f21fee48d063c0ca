//! The one registration.
//!
//! Owns: what a session needs so that Elasticsearch tables work, on whichever side it is.

use crate::codec::{EsLogicalCodec, physical_codec};
use crate::links::ClusterLinks;
use ballista::extension::{SessionConfigExt, SessionContextExt};
use datafusion::error::Result;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_elasticsearch::EsTableFactory;
use elastic_client::ConnectionRegistry;
use std::sync::Arc;

/// A session configuration with Ballista's settings and our codecs, over these links.
pub fn session_config(registry: &Arc<ConnectionRegistry>, links: Option<&ClusterLinks>) -> SessionConfig {
    let config = SessionConfig::new_with_ballista()
        .with_ballista_logical_extension_codec(Arc::new(EsLogicalCodec::new(Arc::clone(registry))))
        .with_ballista_physical_extension_codec(physical_codec(registry));
    match links {
        Some(links) => links.secure(config),
        None => config,
    }
}

/// A session over `config` in which `STORED AS ELASTICSEARCH` works.
pub fn session_state(registry: &Arc<ConnectionRegistry>, config: SessionConfig) -> SessionState {
    SessionStateBuilder::new()
        .with_default_features()
        .with_config(config)
        .with_table_factory("ELASTICSEARCH".into(), Arc::new(EsTableFactory::new(Arc::clone(registry))))
        .build()
}

/// A session with a scheduler and an executor in this process.
pub async fn embedded_context(registry: Arc<ConnectionRegistry>) -> Result<SessionContext> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    // All in this process, which no certificate need prove to itself.
    let config = session_config(&registry, None)
        .with_target_partitions(cores)
        .with_ballista_standalone_parallelism(cores);
    SessionContext::standalone_with_state(session_state(&registry, config)).await
}

/// A session that submits to a scheduler, such as `df://localhost:50050` or `http://…`; by TLS, whatever
/// the URL says, if the registry's configuration has `[cluster] tls`.
pub async fn remote_context(
    registry: Arc<ConnectionRegistry>,
    scheduler_url: &str,
) -> Result<SessionContext> {
    let config = session_config(&registry, ClusterLinks::of(&registry)?.as_ref());
    SessionContext::remote_with_state(scheduler_url, session_state(&registry, config)).await
}
