//! The registration of Elasticsearch tables in a session.
//!
//! Owns: what a session needs for Elasticsearch tables, in a client, a scheduler and an executor. Must not know:
//! jobs.

use crate::cluster_tls::ClusterTls;
use crate::codec::{EsLogicalCodec, physical_codec};
use crate::copy::CopyRule;
use crate::query_planner::EsQueryPlanner;
use ballista_core::config::{
    BALLISTA_CLIENT_PULL, BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK, BallistaConfig,
};
use ballista_core::extension::{EndpointOverrideFn, SessionConfigExt, ballista_scalar_functions};
use ballista_core::registry::BallistaFunctionRegistry;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_elasticsearch::{AddressOrder, EsTableFactory};
use elastic_client::ConnectionRegistry;
use std::sync::Arc;
use std::time::Duration;

/// The timeout for connecting to a scheduler or an executor.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time without traffic after which a keepalive is sent, and the timeout for its response.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// The same for calls of an executor to the scheduler. Ballista never resends the report of a task's end. A dead
/// connection is closed after 40 s, and by then the scheduler must have dropped the executor, after 30 to 35 s.
/// Otherwise it would wait for the lost report without a limit.
const EXECUTOR_KEEPALIVE: Duration = Duration::from_secs(20);

/// Returns the settings of connections between scheduler, executors and clients. They detect within 20 s that the
/// other end no longer responds.
///
/// A machine that loses power or network sends no reset. Ballista's own settings for connections to the scheduler
/// detect that after 320 s. Those for fetching rows never detect it, because a reader sends nothing.
pub fn endpoint_override(tls: Option<&ClusterTls>) -> EndpointOverrideFn {
    keepalive_every(KEEPALIVE, tls)
}

/// Returns the same settings for an executor's connections to the scheduler. They detect it within 40 s.
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

/// Returns a session configuration with Ballista's settings, the codecs of this crate, and cluster TLS.
///
/// A client polls the status of its job instead of waiting for pushed updates. The first update comes only when
/// the first stage has ended. Until then the client would not know the job's id, and could not cancel it.
pub fn session_config(registry: &Arc<ConnectionRegistry>, tls: Option<&ClusterTls>) -> SessionConfig {
    let config = SessionConfig::new_with_ballista()
        .with_information_schema(true)
        .set_bool(BALLISTA_CLIENT_PULL, true)
        .with_ballista_logical_extension_codec(Arc::new(EsLogicalCodec::new(Arc::clone(registry))))
        .with_ballista_physical_extension_codec(physical_codec(registry))
        .with_ballista_use_tls(tls.is_some())
        .with_ballista_override_create_grpc_client_endpoint(endpoint_override(tls));
    one_partition_a_task(config)
}

/// Has the scheduler give each task one partition, unless the session sets another number. A stage that merges its
/// partitions into one is always one task.
///
/// By default a task has as many partitions as its executor has free vcores. An executor that pulls tasks counts
/// each as one vcore, so one with four would get tasks of four, three, two and one partitions at once, with more
/// memory than it has, while other executors wait. And a task that waits for its last partition keeps all its vcores.
fn one_partition_a_task(config: SessionConfig) -> SessionConfig {
    let unlimited =
        config.options().extensions.get::<BallistaConfig>().is_some_and(|b| b.max_partitions_per_task() == 0);
    match unlimited {
        true => config.set_usize(BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK, 1),
        false => config,
    }
}

/// Returns a session state over `config` in which `STORED AS ELASTICSEARCH` works, and `COPY` writes exactly once.
pub fn session_state(registry: &Arc<ConnectionRegistry>, config: SessionConfig) -> SessionState {
    let mut builder = SessionStateBuilder::new().with_default_features();
    builder.scalar_functions().get_or_insert_default().extend(datafusion_elasticsearch::functions());
    builder
        .with_config(one_partition_a_task(config))
        .with_query_planner(Arc::new(EsQueryPlanner))
        .with_analyzer_rule(Arc::new(AddressOrder))
        .with_analyzer_rule(Arc::new(CopyRule))
        .with_table_factory("ELASTICSEARCH".into(), Arc::new(EsTableFactory::new(Arc::clone(registry))))
        .build()
}

/// Adds the functions of this crate to a context, because Ballista's upgrade of a session replaces them.
pub(crate) fn with_functions(context: SessionContext) -> SessionContext {
    for function in datafusion_elasticsearch::functions() {
        context.register_udf(function.as_ref().clone());
    }
    context
}

/// Returns the functions that an executor finds by name: those of a session, and those of this crate. Ballista's
/// own registry has no functions on lists.
pub fn function_registry() -> Arc<BallistaFunctionRegistry> {
    let mut registry = BallistaFunctionRegistry::default();
    for function in ballista_scalar_functions().into_iter().chain(datafusion_elasticsearch::functions()) {
        registry.scalar_functions.insert(function.name().to_owned(), function);
    }
    Arc::new(registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_one_partition_unless_the_session_says_otherwise() {
        let registry = Arc::new(ConnectionRegistry::default());
        let number = |config: &SessionConfig| {
            config.options().extensions.get::<BallistaConfig>().unwrap().max_partitions_per_task()
        };
        assert_eq!(number(&session_config(&registry, None)), 1);
        // A client of Ballista sends all of its settings, and so the default.
        let sent = SessionConfig::new_with_ballista();
        assert_eq!(number(session_state(&registry, sent.clone()).config()), 1);
        let sent = sent.set_usize(BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK, 3);
        assert_eq!(number(session_state(&registry, sent).config()), 3);
    }
}
