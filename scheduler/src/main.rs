//! The scheduler: Ballista's own, with our tables registered.
//!
//! Owns: the registration, whether links are TLS, and that nothing stays open when it ends. Every
//! option, REST and metrics endpoint is Ballista's.

mod secure;

use anyhow::Context;
use ballista_core::config::TaskSchedulingPolicy;
use ballista_elasticsearch::{
    ClusterLinks, EsLogicalCodec, NodeArgs, NodeLogs, endpoint_override, node_runtime, physical_codec,
    session_config, session_state, told_to_end,
};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::{Config, SchedulerConfig};
use ballista_scheduler::scheduler_process::start_server;
use clap::{CommandFactory, FromArgMatches, Parser};
use std::net::SocketAddr;
use std::sync::Arc;

/// Flowsigma's scheduler: a Ballista scheduler that knows Elasticsearch and OpenSearch tables.
#[derive(Parser)]
#[command(name = "flowsigma-scheduler", version)]
struct Args {
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    ballista: Config,
}

/// Ballista would miss a dead executor for 180 to 195 s; these find it within 35.
const EXECUTOR_TIMEOUT_SECONDS: &str = "30";
const EXPIRE_DEAD_EXECUTOR_INTERVAL_SECONDS: &str = "5";

/// All of Ballista's options, with other defaults where its own are for larger clusters.
fn command() -> clap::Command {
    Args::command()
        .mut_arg("executor_timeout_seconds", |arg| arg.default_value(EXECUTOR_TIMEOUT_SECONDS))
        .mut_arg("expire_dead_executor_interval_seconds", |arg| {
            arg.default_value(EXPIRE_DEAD_EXECUTOR_INTERVAL_SECONDS)
        })
}

fn main() -> anyhow::Result<()> {
    let args = Args::from_arg_matches(&command().get_matches()).unwrap_or_else(|e| e.exit());
    node_runtime()?.block_on(async { tokio::spawn(serve(args)).await? })
}

async fn serve(args: Args) -> anyhow::Result<()> {
    args.node.write_logs(&args.ballista.log_level_setting, &logs(&args.ballista))?;
    let registry = args.node.registry()?;
    let address: SocketAddr = format!("{}:{}", args.ballista.bind_host, args.ballista.bind_port)
        .parse()
        .context("--bind-host and --bind-port are no address")?;
    if args.ballista.external_host == "localhost" && !address.ip().is_loopback() {
        tracing::warn!(
            "executors on other machines would report their tasks to themselves: \
             give --external-host the name by which they reach this one"
        );
    }
    let config: SchedulerConfig = args.ballista.try_into()?;
    let links = ClusterLinks::of(&registry)?;
    let (for_config, for_links) = (Arc::clone(&registry), links.clone());
    let for_state = Arc::clone(&registry);
    let mut config = config
        .with_override_config_producer(Arc::new(move || session_config(&for_config, for_links.as_ref())))
        .with_override_session_builder(Arc::new(move |c| Ok(session_state(&for_state, c))));
    config.override_logical_codec = Some(Arc::new(EsLogicalCodec::new(Arc::clone(&registry))));
    config.override_physical_codec = Some(physical_codec(&registry));
    config.override_create_grpc_client_endpoint = Some(endpoint_override(links.as_ref()));
    if links.is_some() {
        // Where tasks are pushed, executors have a port that Ballista cannot protect.
        tracing::info!("[cluster] tls is set: executors pull their tasks");
        config.scheduling_policy = TaskSchedulingPolicy::PullStaged;
        config = config.with_use_tls(true);
    }
    let cluster = BallistaCluster::new_from_config(&config).await?;
    let serve = async {
        match links {
            Some(links) => secure::start_server(cluster, address, Arc::new(config), &links).await?,
            None => start_server(cluster, address, Arc::new(config)).await?,
        }
        anyhow::Ok(())
    };
    let served = tokio::select! {
        served = serve => served,
        told = told_to_end() => Ok(told?),
    };
    // For clients that open no snapshot it is opened where their scan is planned, which is here.
    registry.close().await;
    served
}

/// By Ballista's own options, in files with Ballista's own names.
fn logs(options: &Config) -> NodeLogs {
    NodeLogs {
        folder: options.log_dir.clone(),
        rotation: options.log_rotation_policy,
        name: format!("scheduler_{}_{}_{}", options.namespace, options.external_host, options.bind_port),
        threads: options.print_thread_info && options.log_dir.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Args, command};
    use clap::{FromArgMatches, error::Result};

    fn parse(args: &[&str]) -> Result<Args> {
        Args::from_arg_matches(&command().try_get_matches_from([&["flowsigma-scheduler"], args].concat())?)
    }

    #[test]
    fn a_dead_executor_is_found_within_35_seconds_unless_asked_otherwise() -> Result<()> {
        let ours = parse(&[])?.ballista;
        assert_eq!((ours.executor_timeout_seconds, ours.expire_dead_executor_interval_seconds), (30, 5));
        let asked = ["--executor-timeout-seconds", "180", "--expire-dead-executor-interval-seconds", "15"];
        let theirs = parse(&asked)?.ballista;
        assert_eq!(
            (theirs.executor_timeout_seconds, theirs.expire_dead_executor_interval_seconds),
            (180, 15)
        );
        Ok(())
    }
}
