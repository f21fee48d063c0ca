//! The scheduler: Ballista's own, with our tables registered.
//!
//! Owns: its options beside Ballista's, and that nothing stays open when it ends. Every other option, REST and
//! metrics endpoint is Ballista's.

mod server;

use anyhow::Context;
use ballista_core::config::LogRotationPolicy;
use ballista_elasticsearch::{AuditLog, Browsers, one_line};
use ballista_scheduler::config::{Config, SchedulerConfig};
use clap::{CommandFactory, FromArgMatches, Parser};
use flowsigma_node::{
    LogRotation, NodeArgs, NodeLogs, Protection, node_runtime, parse_bind_host, shutdown_signal,
};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Flowsigma's scheduler: a Ballista scheduler that knows Elasticsearch and OpenSearch tables.
#[derive(Parser)]
#[command(name = "flowsigma-scheduler", version)]
struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Let anyone who reaches the port run jobs as this account, unencrypted. Without it, only this
    /// account can use a scheduler on a loopback address, and any other address needs [cluster] tls
    #[arg(long)]
    allow_anyone: bool,
    /// File to which one JSON line a job is appended: who, from where, when, what was read, how it ended;
    /// - is stdout [default: the log, target "audit"]
    #[arg(long, value_name = "PATH")]
    audit_log: Option<PathBuf>,
    #[command(flatten)]
    ballista: Config,
}

/// Other machines reach only what its owner has opened. Ballista's own default is every address.
const LOOPBACK: &str = "127.0.0.1";

/// Ballista would miss a dead executor for 180 to 195 s; these find it within 35.
const EXECUTOR_TIMEOUT_SECONDS: &str = "30";
const EXPIRE_DEAD_EXECUTOR_INTERVAL_SECONDS: &str = "5";

/// All of Ballista's options, with other defaults where its own are for larger clusters.
fn command() -> clap::Command {
    Args::command()
        .mut_arg("bind_host", |arg| arg.default_value(LOOPBACK))
        .mut_arg("executor_timeout_seconds", |arg| arg.default_value(EXECUTOR_TIMEOUT_SECONDS))
        .mut_arg("expire_dead_executor_interval_seconds", |arg| {
            arg.default_value(EXPIRE_DEAD_EXECUTOR_INTERVAL_SECONDS)
        })
}

fn main() -> ExitCode {
    let args = Args::from_arg_matches(&command().get_matches()).unwrap_or_else(|e| e.exit());
    let run = || node_runtime()?.block_on(async { tokio::spawn(serve(args)).await? });
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> anyhow::Result<()> {
    args.node.write_logs(&args.ballista.log_level_setting, &logs(&args.ballista))?;
    let config = args.node.load_config()?;
    let registry = Arc::new(config.registry());
    let address = SocketAddr::new(parse_bind_host(&args.ballista.bind_host)?, args.ballista.bind_port);
    if args.ballista.external_host == "localhost" && !address.ip().is_loopback() {
        tracing::warn!(
            "executors on other machines would report their tasks to themselves: \
             give --external-host the name by which they reach this one"
        );
    }
    let audit = match &args.audit_log {
        Some(path) => {
            AuditLog::file(path).with_context(|| format!("--audit-log: cannot write {}", path.display()))?
        }
        None => AuditLog::log(),
    };
    let browsers = match args.ballista.cors_allowed_origins.trim().is_empty() {
        true => Browsers::Refused,
        false => Browsers::AsConfigured,
    };
    let (protection, listener) = Protection::of_scheduler(&config, address, args.allow_anyone)?;
    let options: SchedulerConfig = args.ballista.try_into()?;
    let server = server::Server { config, registry: Arc::clone(&registry), protection, audit, browsers };
    let served = tokio::select! {
        served = server.run(options, listener) => served,
        signal = shutdown_signal() => Ok(signal?),
    };
    // For clients that open no point in time it is opened here, where their job is admitted.
    registry.close().await;
    served
}

/// By Ballista's own options, in files with Ballista's own names.
fn logs(options: &Config) -> NodeLogs {
    NodeLogs {
        folder: options.log_dir.as_ref().map(PathBuf::from),
        rotation: rotation(options.log_rotation_policy),
        name: format!("scheduler_{}_{}_{}", options.namespace, options.external_host, options.bind_port),
        threads: options.print_thread_info && options.log_dir.is_some(),
    }
}

fn rotation(policy: LogRotationPolicy) -> LogRotation {
    match policy {
        LogRotationPolicy::Minutely => LogRotation::Minutely,
        LogRotationPolicy::Hourly => LogRotation::Hourly,
        LogRotationPolicy::Daily => LogRotation::Daily,
        LogRotationPolicy::Never => LogRotation::Never,
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
