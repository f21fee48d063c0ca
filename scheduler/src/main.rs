//! The scheduler process: Ballista's scheduler with our tables registered.
//!
//! Owns: the options that Ballista does not have, and closing search contexts at the end. Must not know: how a job is
//! admitted, planned or run. Every other option and the REST and metrics endpoints are Ballista's.

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
    /// Let anyone who reaches the port run jobs as this account, unencrypted. Without this flag, only
    /// this account can use a scheduler on a loopback address, and any other address needs [cluster] tls
    #[arg(long)]
    allow_anyone: bool,
    /// File to which one JSON line per job is appended: identity, origin, times, what was read, outcome;
    /// - is stdout [default: the log, target "audit"]
    #[arg(long, value_name = "PATH")]
    audit_log: Option<PathBuf>,
    #[command(flatten)]
    ballista: Config,
}

/// The default address, so that no other machine can reach the port. Ballista's own default is every address.
const LOOPBACK: &str = "127.0.0.1";

/// With these defaults the scheduler drops a dead executor within 35 s. Ballista's own take 180 to 195 s.
const EXECUTOR_TIMEOUT_SECONDS: &str = "30";
const EXPIRE_DEAD_EXECUTOR_INTERVAL_SECONDS: &str = "5";

/// Returns Ballista's options and ours, with our defaults.
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
            "--external-host is localhost, to which executors on other machines would report their tasks: \
             set it to the name by which they reach this machine"
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
    // The scheduler opens search contexts for clients that open none, when it admits their jobs.
    registry.close().await;
    served
}

/// Returns the settings of the log, from Ballista's options and with Ballista's file names.
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
