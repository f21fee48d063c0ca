//! The server of the scheduler process: Ballista's scheduler behind admission.
//!
//! Owns: the registration, and assembling the parts. Must not know: the rules of admission.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use ballista_core::config::TaskSchedulingPolicy;
use ballista_elasticsearch::{
    Admission, AuditLog, Browsers, ClusterTls, EsLogicalCodec, FileAccess, Guard, JobGuard, RandomJobIds,
    SchedulerServices, WorkSignal, endpoint_override, physical_codec, serve, session_config, session_state,
};
use ballista_scheduler::api::get_routes;
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::create_scheduler;
use ballista_scheduler::scheduler_server::SchedulerServer;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use elastic_client::ConnectionRegistry;
use flowsigma_node::{Config, Protection};
use std::sync::Arc;
use tokio::net::TcpListener;

/// The parts that this process adds to Ballista's scheduler.
pub(crate) struct Server {
    /// `flowsigma.toml`.
    pub(crate) config: Config,
    /// The connections of `config`.
    pub(crate) registry: Arc<ConnectionRegistry>,
    /// The protection of the port.
    pub(crate) protection: Protection,
    /// The audit log.
    pub(crate) audit: AuditLog,
    /// Whether pages of other origins may call the REST endpoints.
    pub(crate) browsers: Browsers,
}

impl Server {
    /// Serves gRPC, rows of jobs, REST and probes until the process ends.
    ///
    /// # Errors
    ///
    /// If an option is wrong, or a server fails.
    pub(crate) async fn run(self, mut options: SchedulerConfig, listener: TcpListener) -> anyhow::Result<()> {
        let Self { config, registry, protection, audit, browsers } = self;
        let links = ClusterTls::of(&protection);
        let (work, jobs) = (WorkSignal::default(), JobGuard::new());
        let (for_config, for_links) = (Arc::clone(&registry), links.clone());
        let for_state = Arc::clone(&registry);
        // Planning lists files, and reads the footers of some.
        let files = FileAccess::of_grants(&config, protection.is_of_one_account());
        let runtime =
            RuntimeEnvBuilder::new().with_object_store_registry(files.object_stores()).build_arc()?;
        options = options
            .with_override_config_producer(Arc::new(move || session_config(&for_config, for_links.as_ref())))
            .with_override_session_builder(Arc::new(move |config| {
                let state = SessionStateBuilder::new_from_existing(session_state(&for_state, config));
                Ok(state.with_runtime_env(Arc::clone(&runtime)).build())
            }))
            .with_on_work_available(jobs.before(work.callback()))
            .with_enable_embedded_flight_proxy(true)
            .with_use_tls(links.is_some());
        options.override_logical_codec = Some(Arc::new(EsLogicalCodec::new(Arc::clone(&registry))));
        options.override_physical_codec = Some(physical_codec(&registry));
        options.override_create_grpc_client_endpoint = Some(endpoint_override(links.as_ref()));
        if links.is_some() {
            // Pushed tasks need a port on each executor that nothing protects.
            options.scheduling_policy = TaskSchedulingPolicy::PullStaged;
        }
        options.job_id_generator = Some(Arc::new(RandomJobIds));
        options.validate()?;
        let options = Arc::new(options);
        let guard = links.clone().map_or(Guard::Open, Guard::Certificates);
        let defaults = session_config(&registry, links.as_ref());
        let admission = Arc::new(Admission::new(&config, &registry, guard, defaults, audit));
        let cluster = BallistaCluster::new_from_config(&options).await?;
        let scheduler =
            create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, Arc::clone(&options)).await?;
        jobs.watch(&scheduler);
        let routes = routes(&options, &Arc::new(scheduler.clone()));
        let services = SchedulerServices { scheduler, routes, admission, work, browsers };
        let router = services.router(&options, links.as_ref());
        tracing::info!("listening at {}", listener.local_addr()?);
        Ok(serve(listener, router, links.as_ref()).await?)
    }
}

/// Returns Ballista's HTTP routes and the probes.
fn routes(
    config: &SchedulerConfig,
    scheduler: &Arc<SchedulerServer<LogicalPlanNode, PhysicalPlanNode>>,
) -> Router {
    let for_probe = Arc::clone(scheduler);
    let ready = move || async move {
        if for_probe.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    };
    let rest = if config.disable_rest_api { Router::new() } else { get_routes(Arc::clone(scheduler)) };
    rest.route("/healthz", get(|| async { "ok" })).route("/readyz", get(ready))
}
