//! The one registration.
//!
//! Owns: what a session needs so that Elasticsearch tables work, on whichever side it is.

use crate::codec::{EsLogicalCodec, physical_codec};
use ballista::extension::{SessionConfigExt, SessionContextExt};
use ballista_core::registry::BallistaFunctionRegistry;
use datafusion::error::Result;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_elasticsearch::EsTableFactory;
use elastic_client::ConnectionRegistry;
use std::sync::Arc;

/// A session configuration with Ballista's settings and our codecs.
pub fn session_config(registry: &Arc<ConnectionRegistry>) -> SessionConfig {
    SessionConfig::new_with_ballista()
        .with_ballista_logical_extension_codec(Arc::new(EsLogicalCodec::new(Arc::clone(registry))))
        .with_ballista_physical_extension_codec(physical_codec(registry))
}

/// A session over `config` in which `STORED AS ELASTICSEARCH` works.
pub fn session_state(registry: &Arc<ConnectionRegistry>, config: SessionConfig) -> SessionState {
    let mut builder = SessionStateBuilder::new().with_default_features();
    builder.scalar_functions().get_or_insert_default().extend(datafusion_elasticsearch::functions());
    builder
        .with_config(config)
        .with_table_factory("ELASTICSEARCH".into(), Arc::new(EsTableFactory::new(Arc::clone(registry))))
        .build()
}

/// Ballista's contexts come with its functions in place of the session's.
fn with_functions(context: SessionContext) -> SessionContext {
    for function in datafusion_elasticsearch::functions() {
        context.register_udf(function.as_ref().clone());
    }
    context
}

/// The functions an executor finds by name: Ballista's and ours.
pub fn function_registry() -> Arc<BallistaFunctionRegistry> {
    let mut registry = BallistaFunctionRegistry::default();
    for function in datafusion_elasticsearch::functions() {
        registry.scalar_functions.insert(function.name().to_owned(), function);
    }
    Arc::new(registry)
}

/// A session with a scheduler and an executor in this process.
pub async fn embedded_context(registry: Arc<ConnectionRegistry>) -> Result<SessionContext> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let config =
        session_config(&registry).with_target_partitions(cores).with_ballista_standalone_parallelism(cores);
    let context = SessionContext::standalone_with_state(session_state(&registry, config)).await?;
    Ok(with_functions(context))
}

/// A session that submits to a scheduler, such as `df://localhost:50050` or `http://…`.
pub async fn remote_context(
    registry: Arc<ConnectionRegistry>,
    scheduler_url: &str,
) -> Result<SessionContext> {
    let config = session_config(&registry);
    let context = SessionContext::remote_with_state(scheduler_url, session_state(&registry, config)).await?;
    Ok(with_functions(context))
}
