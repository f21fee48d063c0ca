//! The executor: Ballista's own, with our tables registered.
//!
//! Owns: the registration, and whether links are TLS. Every option and health endpoint is Ballista's.

mod secure;

use anyhow::Context;
use ballista_core::config::TaskSchedulingPolicy;
use ballista_elasticsearch::{
    ClusterLinks, EsLogicalCodec, function_registry, physical_codec, session_config,
};
use ballista_executor::config::Config;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_executor::health::spawn_health_server;
use clap::Parser;
use elastic_client::ConnectionRegistry;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

/// Flowsigma's executor: a Ballista executor that reads Elasticsearch and OpenSearch.
#[derive(Parser)]
#[command(name = "flowsigma-executor", version)]
struct Args {
    /// File with this node's connections [default: $FLOWSIGMA_CONFIG, ./flowsigma.toml, then the
    /// user's configuration folder]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    #[command(flatten)]
    ballista: Config,
}

fn main() -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(32 << 20).build()?;
    runtime.block_on(async { tokio::spawn(serve(Args::parse())).await? })
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let loaded = elastic_client::Config::load(args.config.as_deref())?;
    let registry = Arc::new(ConnectionRegistry::new(loaded.config));
    let health_address: SocketAddr =
        format!("{}:{}", args.ballista.bind_host, args.ballista.bind_health_port)
            .parse()
            .context("--bind-host and --bind-health-port are no address")?;
    let mut config: ExecutorProcessConfig = args.ballista.try_into()?;
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(config.special_mod_log_level.clone()));
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).with_env_filter(filter).init();
    let links = ClusterLinks::of(&registry)?;
    if let Some(links) = &links {
        // Where tasks are pushed, executors have a port that Ballista cannot protect.
        tracing::info!("[cluster] tls is set: tasks are pulled");
        config.task_scheduling_policy = TaskSchedulingPolicy::PullStaged;
        config.override_create_grpc_client_endpoint = Some(links.endpoint_override());
        config.override_arrow_flight_service = Some(secure::flight_server(
            links,
            config.grpc_max_decoding_message_size as usize,
            config.grpc_max_encoding_message_size as usize,
        ));
    }
    let for_config = Arc::clone(&registry);
    config.override_config_producer = Some(Arc::new(move || session_config(&for_config, links.as_ref())));
    config.override_function_registry = Some(function_registry());
    config.override_logical_codec = Some(Arc::new(EsLogicalCodec::new(Arc::clone(&registry))));
    config.override_physical_codec = Some(physical_codec(&registry));

    let (stop, stopped) = tokio::sync::oneshot::channel();
    let health = spawn_health_server(health_address, config.health.clone(), stopped);
    let result = start_executor_process(Arc::new(config)).await;
    stop.send(()).ok();
    health.await.context("the health server ended badly")??;
    Ok(result?)
}
