//! A scheduler and an executor embedded in this process.
//!
//! Owns: starting them, their files, and the socket by which they and the client connect. Must not know: what is
//! submitted to them.
//!
//! The socket is in a folder that only this account can enter, so no port is opened and no other account can
//! submit jobs. Ballista's own functions for an embedded cluster open ports, accept no execution engine and no
//! session settings, and leave the shuffle files of tasks on the disk.

use crate::embedded_service::EmbeddedService;
use crate::execution_engine::execution_engine;
use crate::file_access::FileAccess;
use crate::register::{function_registry, session_state};
use crate::task_guard::TaskGuard;
use crate::wake::Wake;
use crate::work_signal::WorkSignal;
use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::BALLISTA_PROTOCOL_VERSION;
use ballista_core::error::Result;
use ballista_core::extension::{EndpointOverrideFn, SessionConfigExt};
use ballista_core::ids::new_instance_id;
use ballista_core::serde::BallistaCodec;
use ballista_core::serde::protobuf::ExecutorRegistration;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpcServer;
use ballista_core::serde::scheduler::{ExecutorOperatingSystemSpecification, ExecutorSpecification};
use ballista_core::utils::{GrpcServerConfig, create_grpc_server};
use ballista_executor::execution_loop::poll_loop;
use ballista_executor::executor::Executor;
use ballista_executor::flight_service::BallistaFlightService;
use ballista_executor::health::ExecutorHealth;
use ballista_executor::metrics::LoggingMetricsCollector;
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::metrics::default_metrics_collector;
use ballista_scheduler::scheduler_server::SchedulerServer;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionConfig;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use elastic_client::ConnectionRegistry;
use flowsigma_node::{private_folder, private_folder_in};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Endpoint;

/// The address of the scheduler and the executor in plans. Every call goes to the socket instead.
pub(crate) const ADDRESS: &str = "http://localhost:50050";
/// How often the executor polls for work while a job runs, in addition to signals.
const WORK_INTERVAL: Duration = Duration::from_millis(5);
/// How many seconds the scheduler knows a job after its end. By default it is an hour, in which a process that runs
/// many statements would grow.
const FORGOTTEN_AFTER: u64 = 60;
const SOCKET: &str = "cluster.sock";
/// The system's limit for the path of a socket, in bytes.
const MAX_SOCKET_PATH: usize = 100;

/// The folder of an embedded cluster. It is deleted on drop.
pub(crate) struct PrivatePlace(TempDir);

impl PrivatePlace {
    /// Creates the folder in the system's folder of temporary files.
    pub(crate) fn new() -> std::io::Result<Self> {
        let folder = private_folder("flowsigma-")?;
        // `$TMPDIR` may be a path that is too long for a socket.
        let folder = match folder.path().join(SOCKET).as_os_str().as_bytes().len() {
            0..=MAX_SOCKET_PATH => folder,
            _ => private_folder_in(Path::new("/tmp"), "flowsigma-")?,
        };
        FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).push(folder.path().to_owned());
        Ok(Self(folder))
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join(SOCKET)
    }

    /// Returns an override that sends every call of a session to the socket.
    pub(crate) fn endpoint_override(&self) -> EndpointOverrideFn {
        let url = format!("unix://{}", self.socket().display());
        Arc::new(move |_| Ok(Endpoint::from_shared(url.clone())?))
    }
}

/// An embedded cluster. Its servers run until the process ends; dropping it only deletes its files.
pub(crate) struct Embedded {
    _place: PrivatePlace,
}

impl Embedded {
    /// Starts the scheduler, and an executor that runs so many `tasks` at a time on as many threads as `cores`. More
    /// threads would only keep more memory: each allocates from an arena of its own. `config` is the base of all
    /// sessions, and has the endpoint override of `place`.
    pub(crate) async fn start(
        place: PrivatePlace,
        registry: &Arc<ConnectionRegistry>,
        config: SessionConfig,
        runtime: Arc<RuntimeEnv>,
        cores: usize,
        tasks: usize,
    ) -> Result<Self> {
        let work_dir = place.0.path().to_string_lossy().into_owned();
        let listener = UnixListener::bind(place.socket())?;
        let wake = Wake::new(tasks);
        let codec = BallistaCodec::<LogicalPlanNode, PhysicalPlanNode>::new(
            config.ballista_logical_extension_codec(),
            config.ballista_physical_extension_codec(),
        );
        let scheduler = scheduler(registry, &config, codec.clone(), &wake).await?;
        let largest = config.ballista_grpc_client_max_message_size();
        let services = create_grpc_server(&GrpcServerConfig::default())
            .add_service(
                SchedulerGrpcServer::new(EmbeddedService::try_new(scheduler).await?)
                    .max_decoding_message_size(largest)
                    .max_encoding_message_size(largest),
            )
            .add_service(
                FlightServiceServer::new(BallistaFlightService::new(work_dir.clone()))
                    .max_decoding_message_size(largest)
                    .max_encoding_message_size(largest),
            );
        tokio::spawn(services.serve_with_incoming(UnixListenerStream::new(listener)));

        // Nothing is fetched from another process, so there are no connections to keep.
        let engine = execution_engine(Duration::ZERO, TaskGuard::new(FileAccess::Everything));
        engine.wake_by(wake.clone());
        let for_tasks = config.clone();
        let executor = Arc::new(Executor::new(
            registration(cores),
            &work_dir,
            Arc::new(move |_| Ok(Arc::clone(&runtime))),
            Arc::new(move || for_tasks.clone()),
            function_registry(),
            Arc::new(LoggingMetricsCollector::default()),
            tasks,
            Arc::clone(&engine) as _,
        ));
        let channel = (place.endpoint_override())(Endpoint::from_static(ADDRESS))
            .map_err(|e| ballista_core::error::BallistaError::Internal(e.to_string()))?
            .connect()
            .await?;
        let client = SchedulerGrpcClient::new(channel)
            .max_decoding_message_size(largest)
            .max_encoding_message_size(largest);
        let health = ExecutorHealth::new();
        tokio::spawn(poll_loop(client, executor, codec, Some(wake.ask()), Some(wake.free()), health));
        engine.watch_jobs(ADDRESS.into(), config);
        Ok(Self { _place: place })
    }
}

async fn scheduler(
    registry: &Arc<ConnectionRegistry>,
    config: &SessionConfig,
    codec: BallistaCodec,
    wake: &Wake,
) -> Result<SchedulerServer<LogicalPlanNode, PhysicalPlanNode>> {
    let (for_state, for_sessions) = (Arc::clone(registry), config.clone());
    let cluster = BallistaCluster::new_memory(
        ADDRESS,
        Arc::new(move |config| Ok(session_state(&for_state, config))),
        Arc::new(move || for_sessions.clone()),
    );
    let work = WorkSignal::default();
    let options = SchedulerConfig::default()
        .with_scheduler_policy(ballista_core::config::TaskSchedulingPolicy::PullStaged)
        .with_on_work_available(work.callback())
        .with_finished_job_state_clean_up_interval_seconds(FORGOTTEN_AFTER);
    let metrics = default_metrics_collector()?;
    let mut scheduler = SchedulerServer::new(ADDRESS.into(), cluster, codec, Arc::new(options), metrics);
    scheduler.init().await?;
    tokio::spawn(ask_while_jobs_run(scheduler.clone(), work, wake.clone()));
    Ok(scheduler)
}

/// Ballista signals most new work, but not all of it, so the executor also polls while a job runs.
async fn ask_while_jobs_run(
    scheduler: SchedulerServer<LogicalPlanNode, PhysicalPlanNode>,
    work: WorkSignal,
    wake: Wake,
) {
    let mut signal = work.subscribe();
    while signal.changed().await.is_ok() {
        wake.work_available();
        while scheduler.running_job_number() > 0 {
            tokio::time::timeout(WORK_INTERVAL, signal.changed()).await.ok();
            wake.work_available();
        }
    }
}

fn registration(vcores: usize) -> ExecutorRegistration {
    ExecutorRegistration {
        id: new_instance_id(),
        host: Some("localhost".into()),
        // Nothing listens on these ports: rows and tasks use the socket.
        port: 0,
        grpc_port: 0,
        specification: Some(ExecutorSpecification::default().with_vcores(vcores as u32).into()),
        os_info: Some(ExecutorOperatingSystemSpecification::default().into()),
        ballista_protocol_version: BALLISTA_PROTOCOL_VERSION,
    }
}

static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Deletes the files of embedded clusters. Call it at the end of the process: tasks that are being cancelled may
/// still write files, and statics are not dropped.
pub fn delete_embedded_files() {
    for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        std::fs::remove_dir_all(folder).ok();
    }
}
