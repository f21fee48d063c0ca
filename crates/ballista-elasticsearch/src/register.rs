//! The one registration.
//!
//! Owns: what a session needs so that Elasticsearch tables work, on whichever side it is.

use crate::cluster_tls::ClusterTls;
use crate::codec::{EsLogicalCodec, physical_codec};
use crate::copy::CopyRule;
use crate::query_planner::EsQueryPlanner;
use ballista_core::config::BALLISTA_CLIENT_PULL;
use ballista_core::extension::{EndpointOverrideFn, SessionConfigExt, ballista_scalar_functions};
use ballista_core::registry::BallistaFunctionRegistry;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_elasticsearch::{AddressOrder, EsTableFactory};
use elastic_client::ConnectionRegistry;
use std::sync::Arc;
use std::time::Duration;

/// A node that takes no connection within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is silent before its other end is asked for a sign of life, and how long
/// that sign may take.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// The same for what an executor tells the scheduler. Ballista never sends the report of a task's
/// end again, so when a connection is given up for silence, after 40 s, the scheduler must long have
/// given up the executor, after 30 to 35 s: else it would wait for that task for ever.
const EXECUTOR_KEEPALIVE: Duration = Duration::from_secs(20);

/// How connections between nodes notice that the other end has fallen silent, within 20 s.
///
/// A machine that loses its power or its link sends no reset. Ballista's own settings for the
/// scheduler's connections notice that after 320 s, and those by which executors and clients fetch
/// rows have none at all: a reader, that sends nothing, would wait for ever.
pub fn endpoint_override(tls: Option<&ClusterTls>) -> EndpointOverrideFn {
    keepalive_every(KEEPALIVE, tls)
}

/// The same for an executor's connections to the scheduler, within 40 s.
pub fn executor_endpoint_override(tls: Option<&ClusterTls>) -> EndpointOverrideFn {
    keepalive_every(EXECUTOR_KEEPALIVE, tls)
}

fn keepalive_every(interval: Duration, tls: Option<&ClusterTls>) -> EndpointOverrideFn {
    let tls = tls.cloned();
    Arc::new(move |endpoint| {
        let endpoint = match &tls {
            Some(tls) => tls.secure(endpoint)?,
            None => endpoint,
        };
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(Some(interval))
            .http2_keep_alive_interval(interval)
            .keep_alive_timeout(interval)
            .keep_alive_while_idle(true))
    })
}

/// A session configuration with Ballista's settings and our codecs, over these links.
///
/// A client asks for its job's state rather than wait to be told: it is first told when the first
/// stage has ended, and until then could not cancel the job, whose id it does not know.
pub fn session_config(registry: &Arc<ConnectionRegistry>, tls: Option<&ClusterTls>) -> SessionConfig {
    SessionConfig::new_with_ballista()
        .with_information_schema(true)
        .set_bool(BALLISTA_CLIENT_PULL, true)
        .with_ballista_logical_extension_codec(Arc::new(EsLogicalCodec::new(Arc::clone(registry))))
        .with_ballista_physical_extension_codec(physical_codec(registry))
        .with_ballista_use_tls(tls.is_some())
        .with_ballista_override_create_grpc_client_endpoint(endpoint_override(tls))
}

/// A session over `config` in which `STORED AS ELASTICSEARCH` works, and `COPY` writes exactly once.
pub fn session_state(registry: &Arc<ConnectionRegistry>, config: SessionConfig) -> SessionState {
    let mut builder = SessionStateBuilder::new().with_default_features();
    builder.scalar_functions().get_or_insert_default().extend(datafusion_elasticsearch::functions());
    builder
        .with_config(config)
        .with_query_planner(Arc::new(EsQueryPlanner))
        .with_analyzer_rule(Arc::new(AddressOrder))
        .with_analyzer_rule(Arc::new(CopyRule))
        .with_table_factory("ELASTICSEARCH".into(), Arc::new(EsTableFactory::new(Arc::clone(registry))))
        .build()
}

/// A context for this state: Ballista's upgrade of it brings its own functions in place of the
/// session's.
pub(crate) fn with_functions(context: SessionContext) -> SessionContext {
    for function in datafusion_elasticsearch::functions() {
        context.register_udf(function.as_ref().clone());
    }
    context
}

/// The functions an executor finds by name: those of sessions, and ours. Ballista's own registry lacks functions of lists.
pub fn function_registry() -> Arc<BallistaFunctionRegistry> {
    let mut registry = BallistaFunctionRegistry::default();
    for function in ballista_scalar_functions().into_iter().chain(datafusion_elasticsearch::functions()) {
        registry.scalar_functions.insert(function.name().to_owned(), function);
    }
    Arc::new(registry)
}
