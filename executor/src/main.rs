//! The executor process: Ballista's executor with our tables registered.
//!
//! Owns: the registration, the choice of cluster TLS, draining, and freeing scrolls at the end. Must not know: what a
//! task does. Every other option and the health endpoints are Ballista's.

use anyhow::Context;
use ballista_core::config::{LogRotationPolicy, TaskSchedulingPolicy};
use ballista_elasticsearch::{
    ClusterTls, EsLogicalCodec, ExecutorNode, FileAccess, LastRows, TaskGuard, delete_staged_files,
    execution_engine, executor_endpoint_override, function_registry, one_line, open_rows_service,
    physical_codec, session_config,
};
use ballista_executor::config::Config;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_executor::health::{ExecutorHealth, spawn_health_server};
use clap::{CommandFactory, FromArgMatches, Parser};
use elastic_client::ConnectionRegistry;
use flowsigma_node::{
    LogRotation, NodeArgs, NodeLogs, Protection, listen, listen_by, node_runtime, parse_bind_host,
    private_folder, shutdown_signal,
};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Flowsigma's executor: a Ballista executor that reads Elasticsearch and OpenSearch.
#[derive(Parser)]
#[command(name = "flowsigma-executor", version)]
struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// How long after SIGTERM or Ctrl-C tasks may still run, and jobs may still read rows of this executor.
    /// Other executors run the tasks again that have not ended by then. 0 is 1, so that the scheduler hears of the end
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    drain_timeout_seconds: u64,
    /// Take tasks from anyone who reaches the ports, unencrypted; for a scheduler with the same flag
    #[arg(long)]
    allow_anyone: bool,
    #[command(flatten)]
    ballista: Config,
}

/// The default heartbeat interval. The scheduler drops an executor after 30 s without a heartbeat, so Ballista's 60 s
/// are too long.
const HEARTBEAT_INTERVAL_SECONDS: &str = "10";

/// The default address, so that no other machine can reach the ports. Ballista's own default is every address.
const LOOPBACK: &str = "127.0.0.1";

/// The time within which a scheduler of this account has to write its credentials.
const CREDENTIALS_WAIT: Duration = Duration::from_secs(5);

/// The interval at which a draining executor is marked as not ready.
const READINESS_INTERVAL: Duration = Duration::from_millis(200);

/// The shortest drain, in which the executor tells the scheduler that it ends. A read that failed before that would be
/// begun again here, fail at once, and soon fail the job.
const SHUTDOWN_NOTICE: Duration = Duration::from_secs(1);

/// The time for reporting cancelled tasks to the scheduler.
const LAST_REPORTS: Duration = Duration::from_secs(3);

/// Returns Ballista's options and ours, with our defaults.
fn command() -> clap::Command {
    Args::command()
        .mut_arg("bind_host", |arg| arg.default_value(LOOPBACK))
        .mut_arg("executor_heartbeat_interval_seconds", |arg| arg.default_value(HEARTBEAT_INTERVAL_SECONDS))
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
    let node = args.node.load_config()?;
    let registry = Arc::new(node.registry());
    let options = &args.ballista;
    let host = parse_bind_host(&options.bind_host)?;
    let rows = SocketAddr::new(host, options.bind_port);
    let health = SocketAddr::new(host, options.bind_health_port);
    let drain = Duration::from_secs(args.drain_timeout_seconds);
    let wait = Duration::from_secs(options.scheduler_connect_timeout_seconds.into()).max(CREDENTIALS_WAIT);
    let scheduler = (options.scheduler_host.as_str(), options.scheduler_port);
    let protection =
        Protection::of_executor(&node, scheduler, &options.bind_host, args.allow_anyone, wait).await?;
    let tls = ClusterTls::of(&protection);
    let mut config: ExecutorProcessConfig = args.ballista.try_into()?;
    let own_work_dir = config.work_dir.is_none().then(work_dir).transpose()?;
    if let Some(folder) = &own_work_dir {
        config.work_dir = Some(folder.path().to_string_lossy().into_owned());
    }
    config.override_create_grpc_client_endpoint = Some(executor_endpoint_override(tls.as_ref()));
    let session = session_config(&registry, tls.as_ref());
    let access = FileAccess::of(&node, protection.is_of_one_account());
    config.override_runtime_producer =
        config.work_dir.as_deref().map(|work_dir| access.runtime_producer(work_dir));
    let engine = execution_engine(Duration::from_secs(config.client_ttl), TaskGuard::new(access));
    let scheduler_url = format!("http://{}:{}", config.scheduler_host, config.scheduler_port);
    engine.watch_jobs(scheduler_url.clone(), session.clone());
    let last_rows =
        config.work_dir.as_ref().map(|work_dir| LastRows::new(scheduler_url, session, work_dir.into()));
    config.override_execution_engine = Some(Arc::clone(&engine) as _);
    let (for_config, for_tls) = (Arc::clone(&registry), tls.clone());
    config.override_config_producer = Some(Arc::new(move || session_config(&for_config, for_tls.as_ref())));
    config.override_function_registry = Some(function_registry());
    config.override_logical_codec = Some(Arc::new(EsLogicalCodec::new(Arc::clone(&registry))));
    config.override_physical_codec = Some(physical_codec(&registry));

    let (stop, stopped) = tokio::sync::oneshot::channel();
    // Ballista reports only at the end that it could not listen there, so the port is tried here.
    drop(listen_by("--bind-health-port", health, "executor's health server")?);
    let readiness = config.health.clone();
    let health = spawn_health_server(health, readiness.clone(), stopped);
    // Pushed tasks need a port that nothing protects.
    let pushed = matches!(config.task_scheduling_policy, TaskSchedulingPolicy::PushStaged);
    let listener = listen(rows, "executor")?;
    let process = async {
        let ended = if tls.is_none() && pushed {
            config.override_arrow_flight_service = Some(open_rows_service(listener, &config));
            start_executor_process(Arc::new(config)).await
        } else {
            config.task_scheduling_policy = TaskSchedulingPolicy::PullStaged;
            ExecutorNode { config, engine, tls, listener }.run(shutdown_signal()).await
        };
        // Rows are served for as long as the process lives, so it waits for their readers.
        if let (Ok(()), Some(last_rows)) = (&ended, last_rows) {
            tokio::time::timeout(drain, last_rows.until_read()).await.ok();
        }
        ended
    };
    let result = run_until_drained(pin!(process), drain, &readiness, &registry).await;
    // Scrolls are freed in the background, which ends with this process.
    registry.close().await;
    delete_staged_files();
    stop.send(()).ok();
    health.await.context("the health server failed")??;
    Ok(result?)
}

/// Creates the default work folder, which is deleted at the end. Ballista's own would stay, readable for every account.
fn work_dir() -> anyhow::Result<TempDir> {
    private_folder("flowsigma-executor-")
        .context("cannot create a temporary folder for the rows of tasks; set --work-dir")
}

/// Runs the executor until it has drained. On SIGTERM, Ballista's executor waits for its tasks without a limit, and its
/// scheduler does not, so this ends them after `drain`, or after [`SHUTDOWN_NOTICE`] if that is longer.
async fn run_until_drained<E>(
    mut process: Pin<&mut impl Future<Output = Result<(), E>>>,
    drain: Duration,
    readiness: &ExecutorHealth,
    registry: &ConnectionRegistry,
) -> Result<(), E> {
    let overdue = async {
        match shutdown_signal().await {
            Ok(()) => {
                tokio::time::timeout(drain.max(SHUTDOWN_NOTICE), never_ready(readiness)).await.ok();
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = &mut process => return ended,
        () = overdue => {}
    }
    tracing::warn!(
        ?drain,
        "the drain timeout has passed: other executors run the remaining tasks again, and jobs that still need rows of \
         this executor fail"
    );
    // Reads fail at their next request. The process reports that to the scheduler while scrolls are freed.
    let ((), ended) = tokio::join!(registry.close(), tokio::time::timeout(LAST_REPORTS, process));
    ended.unwrap_or(Ok(()))
}

/// Keeps the executor marked as not ready. A heartbeat under way at the shutdown signal would mark it as ready again.
async fn never_ready(readiness: &ExecutorHealth) {
    let mut every = tokio::time::interval(READINESS_INTERVAL);
    loop {
        every.tick().await;
        readiness.mark_heartbeat_failed();
    }
}

/// Returns the settings of the log, from Ballista's options and with Ballista's file names.
fn logs(options: &Config) -> NodeLogs {
    NodeLogs {
        folder: options.log_dir.as_ref().map(PathBuf::from),
        rotation: rotation(options.log_rotation_policy),
        name: format!(
            "executor_{}_{}",
            options.external_host.as_deref().unwrap_or("localhost"),
            options.bind_port
        ),
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
        Args::from_arg_matches(&command().try_get_matches_from([&["flowsigma-executor"], args].concat())?)
    }

    #[test]
    fn the_scheduler_hears_from_it_every_10_seconds_unless_asked_otherwise() -> Result<()> {
        assert_eq!(parse(&[])?.ballista.executor_heartbeat_interval_seconds, 10);
        let asked = parse(&["--executor-heartbeat-interval-seconds", "60"])?;
        assert_eq!(asked.ballista.executor_heartbeat_interval_seconds, 60);
        Ok(())
    }
}
