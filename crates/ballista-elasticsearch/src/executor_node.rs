//! An executor process that pulls its tasks from the scheduler.
//!
//! Owns: assembling Ballista's parts, the memory of tasks, and the shutdown. Must not know: what tasks do.
//!
//! This replaces Ballista's own executor process. That one has no hook to end the pause between two requests for
//! tasks. In push mode it opens a port that accepts tasks from anyone.

use crate::cluster_tls::ClusterTls;
use crate::execution_engine::StoppingEngine;
use crate::message::one_line;
use crate::server::{executor_router, serve};
use crate::wake::Wake;
use ballista_core::RuntimeProducer;
use ballista_core::error::{BallistaError, Result};
use ballista_core::serde::BallistaCodec;
use ballista_core::serde::protobuf::executor_status::Status;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{ExecutorStatus, ExecutorStoppedParams, HeartBeatParams};
use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint};
use ballista_executor::execution_loop::poll_loop;
use ballista_executor::executor::{Executor, TasksDrainedFuture};
use ballista_executor::executor_process::{
    ExecutorProcessConfig, satisfy_dir_ttl, structure_executor_metadata,
};
use ballista_executor::health::ExecutorHealth;
use ballista_executor::metrics::LoggingMetricsCollector;
use ballista_executor::runtime_cache::{DefaultSessionRuntimeCache, MemoryPoolPolicy};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;

/// The pause between two attempts to connect to the scheduler.
const CONNECT_INTERVAL: Duration = Duration::from_millis(200);
/// The interval at which the executor's readiness is updated.
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);

/// The configuration of an executor process.
pub struct ExecutorNode {
    /// Ballista's options, with the codecs, functions, session settings and endpoint override of this crate.
    pub config: ExecutorProcessConfig,
    /// The engine that runs the tasks.
    pub engine: Arc<StoppingEngine>,
    /// The certificates of the process; `None` if anyone may use the cluster.
    pub tls: Option<ClusterTls>,
    /// The listener of the port that serves rows.
    pub listener: TcpListener,
}

impl ExecutorNode {
    /// Runs until the shutdown signal `ended`, and then until all tasks have ended. It serves rows until the
    /// process ends.
    ///
    /// # Errors
    ///
    /// Returns an error if an option is wrong, the scheduler cannot be reached, or a server fails.
    pub async fn run(self, ended: impl Future<Output = io::Result<()>>) -> Result<()> {
        let Self { config, engine, tls, listener } = self;
        let config = Arc::new(config);
        config.validate()?;
        let work_dir = required(config.work_dir.clone(), "work_dir")?;
        let vcores = match config.vcores {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            vcores => vcores,
        };
        tracing::info!(vcores, work_dir, "the executor pulls tasks");
        let wake = Wake::new(vcores);
        engine.wake_by(wake.clone());
        let executor = Arc::new(executor(&config, &engine, &work_dir, vcores)?);
        let mut scheduler = connect(&config, &executor).await?;
        let codec = BallistaCodec::<LogicalPlanNode, PhysicalPlanNode>::new(
            required(config.override_logical_codec.clone(), "logical codec")?,
            required(config.override_physical_codec.clone(), "physical codec")?,
        );
        tokio::spawn(clean(
            work_dir.clone(),
            config.job_data_clean_up_interval_seconds,
            config.job_data_ttl_seconds,
        ));
        let polled = ExecutorHealth::new();
        tokio::spawn(wake.clone().while_answered(polled.clone()));
        let polls = poll_loop(
            scheduler.clone(),
            Arc::clone(&executor),
            codec,
            Some(wake.ask()),
            Some(wake.free()),
            polled.clone(),
        );
        let polls = tokio::spawn(polls);
        let mirror = AbortOnDropHandle::new(tokio::spawn(mirror(polled, config.health.clone())));
        let decoding = config.grpc_max_decoding_message_size as usize;
        let encoding = config.grpc_max_encoding_message_size as usize;
        let router = executor_router(work_dir, decoding, encoding, tls.as_ref());
        let serving = tokio::spawn(async move { serve(listener, router, tls.as_ref()).await });
        let stopped = tokio::select! {
            polled = polls => polled.map_err(BallistaError::TokioError)?,
            served = serving => Ok(served.map_err(BallistaError::TokioError)??),
            ended = ended => Ok(ended?),
        };
        // The executor is not ready from now on, but still reports its tasks.
        drop(mirror);
        config.health.mark_heartbeat_failed();
        say_goodbye(&mut scheduler, &executor, stopped.is_ok()).await;
        TasksDrainedFuture(executor).await;
        stopped
    }
}

/// Copies to `to` whether the last request for tasks got a response.
async fn mirror(from: ExecutorHealth, to: ExecutorHealth) {
    let mut every = tokio::time::interval(HEALTH_INTERVAL);
    loop {
        every.tick().await;
        match from.is_ready() {
            true => to.mark_heartbeat_ok(),
            false => to.mark_heartbeat_failed(),
        }
    }
}

fn required<T>(value: Option<T>, operation: &str) -> Result<T> {
    value.ok_or_else(|| BallistaError::Configuration(format!("an executor needs a {operation}")))
}

fn executor(
    config: &Arc<ExecutorProcessConfig>,
    engine: &Arc<StoppingEngine>,
    work_dir: &str,
    vcores: usize,
) -> Result<Executor> {
    let temporary = work_dir.to_owned();
    let base: RuntimeProducer = config.override_runtime_producer.clone().unwrap_or_else(|| {
        Arc::new(move |_| RuntimeEnvBuilder::new().with_temp_file_path(temporary.clone()).build_arc())
    });
    let policy = memory_policy(config, vcores)?;
    let (for_session, by_policy) = (Arc::clone(&base), Arc::clone(&policy));
    let executor = Executor::new(
        structure_executor_metadata(config, vcores as u32),
        work_dir,
        Arc::new(move |session| by_policy(for_session(session)?, session, 1)),
        required(config.override_config_producer.clone(), "session configuration")?,
        config.override_function_registry.clone().unwrap_or_default(),
        Arc::new(LoggingMetricsCollector::default()),
        vcores,
        Arc::clone(engine) as _,
    );
    let cache = DefaultSessionRuntimeCache::new(base, policy, config.session_runtime_cache_capacity);
    Ok(executor.with_session_runtime_cache(Some(Arc::new(cache))))
}

/// Gives each task the share of memory of its vcores. A task above it spills to disk.
fn memory_policy(config: &ExecutorProcessConfig, vcores: usize) -> Result<MemoryPoolPolicy> {
    let bytes = match config.memory_pool_size {
        Some(0) => None,
        Some(bytes) => Some(bytes),
        None => available_memory().map(|bytes| (bytes as f64 * config.memory_pool_fraction) as u64),
    };
    let Some(bytes) = bytes else {
        tracing::warn!("tasks have no memory limit: set --memory-pool-size so that they spill to disk");
        return Ok(Arc::new(|base, _, _| Ok(base)));
    };
    let share = (bytes / vcores as u64) as usize;
    if share == 0 {
        return Err(BallistaError::Configuration(format!(
            "--memory-pool-size: {bytes} bytes are less than one for each of {vcores} vcores"
        )));
    }
    tracing::info!(bytes, share, "memory for tasks, and for each vcore");
    Ok(Arc::new(move |base, _, consumed| {
        let pool = FairSpillPool::new(share.saturating_mul(consumed.max(1) as usize));
        RuntimeEnvBuilder::from_runtime_env(&base).with_memory_pool(Arc::new(pool)).build_arc()
    }))
}

/// Returns the memory of the machine, or the limit of its control group, in bytes; `None` if both are unknown.
fn available_memory() -> Option<u64> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let of_group = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory);
    Some(system.total_memory().min(of_group)).filter(|bytes| *bytes > 0)
}

/// Connects to the scheduler, with attempts until `--scheduler-connect-timeout-seconds` have passed; one attempt
/// if that is 0.
async fn connect(
    config: &ExecutorProcessConfig,
    executor: &Executor,
) -> Result<SchedulerGrpcClient<Channel>> {
    let url = format!("http://{}:{}", config.scheduler_host, config.scheduler_port);
    let session = executor.produce_config();
    let grpc = GrpcClientConfig::from(&ballista_core::extension::SessionConfigExt::ballista_config(&session));
    let mut endpoint = create_grpc_client_endpoint(url.clone(), Some(&grpc))
        .map_err(|e| BallistaError::GrpcConnectionError(format!("scheduler {url}: {e}")))?;
    if let Some(change) = &config.override_create_grpc_client_endpoint {
        endpoint = change(endpoint)
            .map_err(|e| BallistaError::GrpcConnectionError(format!("scheduler {url}: {e}")))?;
    }
    let give_up =
        std::time::Instant::now() + Duration::from_secs(config.scheduler_connect_timeout_seconds.into());
    loop {
        match endpoint.connect().await {
            Ok(channel) => {
                return Ok(SchedulerGrpcClient::new(channel)
                    .max_encoding_message_size(config.grpc_max_encoding_message_size as usize)
                    .max_decoding_message_size(config.grpc_max_decoding_message_size as usize));
            }
            Err(error) if std::time::Instant::now() >= give_up => {
                return Err(BallistaError::GrpcConnectionError(format!(
                    "scheduler {}:{} cannot be reached: {}; start flowsigma-scheduler there first, or correct \
                     --scheduler-host and --scheduler-port",
                    config.scheduler_host,
                    config.scheduler_port,
                    one_line(&error)
                )));
            }
            Err(_) => tokio::time::sleep(CONNECT_INTERVAL).await,
        }
    }
}

/// Tells the scheduler that this executor accepts no more tasks.
async fn say_goodbye(scheduler: &mut SchedulerGrpcClient<Channel>, executor: &Executor, asked: bool) {
    let executor_id = executor.metadata.id.clone();
    let status = ExecutorStatus { status: Some(Status::Terminating(String::new())) };
    let last = HeartBeatParams {
        executor_id: executor_id.clone(),
        metrics: Vec::new(),
        status: Some(status),
        metadata: Some(executor.metadata.clone()),
    };
    let reason = if asked { "the executor got a shutdown signal" } else { "a server of the executor failed" };
    let told = async {
        scheduler.heart_beat_from_executor(last).await?;
        scheduler.executor_stopped(ExecutorStoppedParams { executor_id, reason: reason.into() }).await
    };
    if let Err(error) = told.await {
        tracing::warn!(%error, "the scheduler did not get the shutdown notice of this executor");
    }
}

/// Deletes the rows of jobs that were not modified for `ttl` seconds, every `interval` seconds; never if that is
/// zero.
async fn clean(work_dir: String, interval: u64, ttl: u64) {
    if interval == 0 {
        return;
    }
    let mut every = tokio::time::interval(Duration::from_secs(interval));
    loop {
        every.tick().await;
        if let Err(error) = clean_once(&work_dir, ttl).await {
            tracing::warn!(%error, "old rows of jobs could not be deleted");
        }
    }
}

async fn clean_once(work_dir: &str, ttl: u64) -> Result<()> {
    let mut entries = tokio::fs::read_dir(work_dir).await?;
    while let Some(entry) = entries.next_entry().await? {
        let path = entry.path();
        if entry.metadata().await?.is_dir() && !satisfy_dir_ttl(entry, ttl).await? {
            tokio::fs::remove_dir_all(path).await?;
        }
    }
    Ok(())
}
