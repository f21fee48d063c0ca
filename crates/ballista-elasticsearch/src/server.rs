//! The servers of a scheduler and of an executor.
//!
//! Owns: which services a port has, and which callers reach them. Must not know: what the services do, or what a
//! job may read.

use crate::admission::{Admission, Admitted, BallistaScheduler, Browsers, ProxiedResults, admit_http};
use crate::caller::{Caller, Link};
use crate::cluster_tls::ClusterTls;
use crate::listener::accept;
use crate::register::endpoint_override;
use crate::work_signal::WorkSignal;
use arrow_flight::flight_service_server::FlightServiceServer;
use async_trait::async_trait;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{Next, from_fn_with_state, map_request};
use axum::response::{IntoResponse, Response};
use ballista_core::error::BallistaError;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::flight_proxy_service::BallistaFlightProxyService;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpcServer;
use ballista_core::utils::{GrpcServerConfig, create_grpc_server};
use ballista_executor::ArrowFlightServerProvider;
use ballista_executor::executor_process::ExecutorProcessConfig;
use ballista_executor::flight_service::BallistaFlightService;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_server::JobIdGenerator;
use flowsigma_node::Role;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tonic::Status;
use tonic::service::{Routes, RoutesBuilder};

/// Generates job ids that cannot be guessed. Knowing the id is enough to fetch the rows of a job that was
/// submitted with a token.
#[derive(Debug, Default)]
pub struct RandomJobIds;

#[async_trait]
impl JobIdGenerator for RandomJobIds {
    async fn next_id(&self) -> String {
        format!("{:032x}", rand::random::<u128>())
    }
}

/// The services on the port of a scheduler.
pub struct SchedulerServices {
    /// Ballista's scheduler.
    pub scheduler: BallistaScheduler,
    /// Ballista's HTTP routes.
    pub routes: Router,
    /// The admission of callers and plans.
    pub admission: Arc<Admission>,
    /// The signal that there may be work.
    pub work: WorkSignal,
    /// Whether pages of other origins may use the HTTP routes.
    pub browsers: Browsers,
}

impl SchedulerServices {
    /// Returns a router of all services behind admission. `tls` is for connections to executors, from which it
    /// fetches rows of jobs.
    pub fn router(self, config: &SchedulerConfig, tls: Option<&ClusterTls>) -> Router {
        let Self { scheduler, routes, admission, work, browsers } = self;
        let decoding = config.grpc_server_max_decoding_message_size as usize;
        let encoding = config.grpc_server_max_encoding_message_size as usize;
        let endpoint = Arc::new(BallistaConfigGrpcEndpoint::new(endpoint_override(tls)));
        let proxy = BallistaFlightProxyService::new(decoding, encoding, tls.is_some(), Some(endpoint));
        let results = ProxiedResults::new(proxy, Arc::clone(&admission));
        let admitted = Admitted::new(scheduler, Arc::clone(&admission), work);
        let mut services = RoutesBuilder::default();
        services.add_service(
            SchedulerGrpcServer::new(admitted)
                .max_decoding_message_size(decoding)
                .max_encoding_message_size(encoding),
        );
        services.add_service(
            FlightServiceServer::new(results)
                .max_decoding_message_size(decoding)
                .max_encoding_message_size(encoding),
        );
        services
            .routes()
            .into_axum_router()
            .merge(routes)
            .layer(from_fn_with_state((admission, browsers), admit_http))
    }
}

/// Returns a router that serves the rows of an executor. With `tls`, only to schedulers and executors of its
/// cluster.
pub(crate) fn executor_router(
    work_dir: String,
    max_decoding: usize,
    max_encoding: usize,
    tls: Option<&ClusterTls>,
) -> Router {
    let mut services = RoutesBuilder::default();
    services.add_service(
        FlightServiceServer::new(BallistaFlightService::new(work_dir))
            .max_decoding_message_size(max_decoding)
            .max_encoding_message_size(max_encoding),
    );
    let router = services.routes().into_axum_router();
    match tls {
        Some(tls) => router.layer(from_fn_with_state(tls.clone(), only_parts)),
        None => router,
    }
}

/// Returns a service that serves rows to anyone. It replaces the one of Ballista's own executor process, and
/// continues after that process's shutdown signal.
pub fn open_rows_service(
    listener: TcpListener,
    config: &ExecutorProcessConfig,
) -> Arc<ArrowFlightServerProvider> {
    let listener = Mutex::new(Some(listener));
    let decoding = config.grpc_max_decoding_message_size as usize;
    let encoding = config.grpc_max_encoding_message_size as usize;
    Arc::new(move |work_dir, _address, _shutdown, _config| {
        let listener = listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let router = executor_router(work_dir, decoding, encoding, None);
        tokio::spawn(async move {
            match listener {
                Some(listener) => Ok(serve(listener, router, None).await?),
                None => Err(BallistaError::Internal("rows are served already".into())),
            }
        })
    })
}

const NOT_A_PART: &str = "an executor serves rows to the schedulers and executors of its cluster: fetch them from \
                          the scheduler";

/// Whether a caller expects errors in the form of gRPC.
pub(crate) fn is_grpc(request: &Request) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Admits callers with the certificate of a scheduler, an executor, or the owner of a cluster on this machine.
async fn only_parts(State(tls): State<ClusterTls>, request: Request, next: Next) -> Response {
    let role = request.extensions().get::<Caller>().and_then(|caller| match &caller.link {
        Link::Tls(Some(subject)) => Some(tls.role(subject)),
        Link::Tls(None) | Link::Plain => None,
    });
    match role {
        Some(Role::Scheduler | Role::Executor | Role::Owner) => next.run(request).await,
        Some(Role::Client) | None if is_grpc(&request) => {
            Status::permission_denied(NOT_A_PART).into_http::<axum::body::Body>().into_response()
        }
        Some(Role::Client) | None => (StatusCode::FORBIDDEN, NOT_A_PART).into_response(),
    }
}

/// Serves `router` until the process ends, over HTTP/2 and HTTP/1. With `tls`, callers may use TLS.
///
/// # Errors
///
/// Returns an error if the server fails.
pub async fn serve(listener: TcpListener, router: Router, tls: Option<&ClusterTls>) -> io::Result<()> {
    let router = router.layer(map_request(with_remote_address));
    create_grpc_server(&GrpcServerConfig::default())
        // Some callers of the HTTP routes speak only HTTP/1.
        .accept_http1(true)
        .add_routes(Routes::from(router))
        .serve_with_incoming(accept(listener, tls.and_then(ClusterTls::server)))
        .await
        .map_err(io::Error::other)
}

/// Ballista reads the caller's address from axum's extension. It is the host of an executor that declares none.
async fn with_remote_address(mut request: Request) -> Request {
    if let Some(address) = request.extensions().get::<Caller>().map(|caller| caller.address) {
        request.extensions_mut().insert(ConnectInfo(address));
    }
    request
}
