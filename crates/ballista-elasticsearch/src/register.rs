//! The one registration.
//!
//! Owns: what a session needs so that Elasticsearch tables work, on whichever side it is.

use crate::codec::{EsLogicalCodec, physical_codec};
use crate::links::ClusterLinks;
use ballista_core::extension::SessionConfigExt;
use ballista_core::registry::BallistaFunctionRegistry;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;
use datafusion_elasticsearch::EsTableFactory;
use elastic_client::ConnectionRegistry;
use std::sync::Arc;

/// A session configuration with Ballista's settings and our codecs, over these links.
pub fn session_config(registry: &Arc<ConnectionRegistry>, links: Option<&ClusterLinks>) -> SessionConfig {
    let config = SessionConfig::new_with_ballista()
        .with_information_schema(true)
        .with_ballista_logical_extension_codec(Arc::new(EsLogicalCodec::new(Arc::clone(registry))))
        .with_ballista_physical_extension_codec(physical_codec(registry));
    match links {
        Some(links) => links.secure(config),
        None => config,
    }
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

/// The functions an executor finds by name: Ballista's and ours.
pub fn function_registry() -> Arc<BallistaFunctionRegistry> {
    let mut registry = BallistaFunctionRegistry::default();
    for function in datafusion_elasticsearch::functions() {
        registry.scalar_functions.insert(function.name().to_owned(), function);
    }
    Arc::new(registry)
}
