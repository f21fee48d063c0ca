//! A scheduler and an executor in this process.
//!
//! Owns: starting them, and their files. Must not know: what is submitted to them.
//!
//! Ballista's own functions for this take no execution engine, and leave the files in which tasks hand
//! rows to each other in the folder for temporary files for ever.

use crate::execution_engine::execution_engine;
use crate::register::function_registry;
use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::BALLISTA_PROTOCOL_VERSION;
use ballista_core::error::Result;
use ballista_core::extension::SessionConfigExt;
use ballista_core::ids::new_instance_id;
use ballista_core::serde::BallistaCodec;
use ballista_core::serde::protobuf::ExecutorRegistration;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::scheduler::{ExecutorOperatingSystemSpecification, ExecutorSpecification};
use ballista_core::utils::{GrpcServerConfig, create_grpc_server};
use ballista_executor::execution_loop::poll_loop;
use ballista_executor::executor::Executor;
use ballista_executor::flight_service::BallistaFlightService;
use ballista_executor::health::ExecutorHealth;
use ballista_executor::metrics::LoggingMetricsCollector;
use ballista_scheduler::standalone::new_standalone_scheduler_with_builder;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;

/// Runs as long as the process; its files are deleted when it is dropped.
pub(crate) struct Embedded {
    pub(crate) scheduler_url: String,
    _work_dir: TempDir,
}

impl Embedded {
    /// On loopback, with so many vcores.
    pub(crate) async fn start(state: &SessionState, vcores: usize) -> Result<Self> {
        let address = start_scheduler(state).await?;
        let scheduler_url = format!("http://localhost:{}", address.port());
        let work_dir = private_folder("flowsigma-")?;
        FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).push(work_dir.path().to_owned());
        start_executor(&scheduler_url, state, vcores, &work_dir.path().to_string_lossy()).await?;
        Ok(Self { scheduler_url, _work_dir: work_dir })
    }
}

static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Deletes what embedded clusters have on disk: for the end of the process, where tasks that are being
/// cancelled may have written again, or what is dropped is not.
pub fn delete_embedded_files() {
    for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        std::fs::remove_dir_all(folder).ok();
    }
}

/// Among the temporary ones, for this user alone; deleted when it is dropped.
pub fn private_folder(prefix: &str) -> std::io::Result<TempDir> {
    let private = Permissions::from_mode(0o700);
    tempfile::Builder::new().prefix(prefix).permissions(private).tempdir()
}

/// Ballista's function for a session's state builds each session from that state alone, and so loses what
/// a client has `SET`.
async fn start_scheduler(state: &SessionState) -> Result<SocketAddr> {
    let (config, for_sessions) = (state.config().clone(), state.clone());
    let codec = BallistaCodec::new(
        config.ballista_logical_extension_codec(),
        config.ballista_physical_extension_codec(),
    );
    let session = move |config| {
        Ok(SessionStateBuilder::new_from_existing(for_sessions.clone()).with_config(config).build())
    };
    new_standalone_scheduler_with_builder(Arc::new(session), Arc::new(move || config.clone()), codec).await
}

async fn start_executor(
    scheduler_url: &str,
    state: &SessionState,
    vcores: usize,
    work_dir: &str,
) -> Result<()> {
    let config = state.config().clone();
    let listener = TcpListener::bind("localhost:0").await?;
    let metadata = ExecutorRegistration {
        id: new_instance_id(),
        host: Some("localhost".into()),
        port: listener.local_addr()?.port().into(),
        // Nothing listens: tasks are pulled.
        grpc_port: 0,
        specification: Some(ExecutorSpecification::default().with_vcores(vcores as u32).into()),
        os_info: Some(ExecutorOperatingSystemSpecification::default().into()),
        ballista_protocol_version: BALLISTA_PROTOCOL_VERSION,
    };
    // All in this process: nothing is fetched from elsewhere, so there are no connections to keep.
    let engine = execution_engine(Duration::ZERO);
    let (for_tasks, runtime) = (config.clone(), Arc::clone(state.runtime_env()));
    let executor = Arc::new(Executor::new(
        metadata,
        work_dir,
        Arc::new(move |_| Ok(Arc::clone(&runtime))),
        Arc::new(move || for_tasks.clone()),
        function_registry(),
        Arc::new(LoggingMetricsCollector::default()),
        vcores,
        Arc::clone(&engine) as _,
    ));
    let most = config.ballista_grpc_client_max_message_size();
    let flight = FlightServiceServer::new(BallistaFlightService::new(work_dir.into()))
        .max_decoding_message_size(most)
        .max_encoding_message_size(most);
    let serve = create_grpc_server(&GrpcServerConfig::default()).add_service(flight);
    tokio::spawn(serve.serve_with_incoming(TcpIncoming::from(listener)));
    let codec = BallistaCodec::<LogicalPlanNode, PhysicalPlanNode>::new(
        config.ballista_logical_extension_codec(),
        config.ballista_physical_extension_codec(),
    );
    let scheduler = SchedulerGrpcClient::connect(scheduler_url.to_owned()).await?;
    tokio::spawn(poll_loop(scheduler, executor, codec, None, None, ExecutorHealth::new()));
    engine.watch_jobs(scheduler_url.into(), config);
    Ok(())
}
