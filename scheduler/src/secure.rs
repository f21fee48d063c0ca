//! The scheduler's server over TLS.
//!
//! Owns: putting Ballista's services behind it, since its own server takes no certificate. Must not
//! know: what the services do.

use arrow_flight::flight_service_server::FlightServiceServer;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::middleware::map_request;
use axum::routing::get;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::flight_proxy_service::BallistaFlightProxyService;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpcServer;
use ballista_core::utils::{GrpcServerConfig, create_grpc_server};
use ballista_elasticsearch::{ClusterLinks, endpoint_override};
use ballista_scheduler::api::get_routes;
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::create_scheduler;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use std::net::SocketAddr;
use std::sync::Arc;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};

/// As [`ballista_scheduler::scheduler_process::start_server`], for callers with a certificate only:
/// gRPC, REST and probes alike.
pub(crate) async fn start_server(
    cluster: BallistaCluster,
    address: SocketAddr,
    config: Arc<SchedulerConfig>,
    links: &ClusterLinks,
) -> anyhow::Result<()> {
    config.validate()?;
    let scheduler =
        create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, Arc::clone(&config)).await?;
    let decoding = config.grpc_server_max_decoding_message_size as usize;
    let encoding = config.grpc_server_max_encoding_message_size as usize;
    let mut services = RoutesBuilder::default();
    services.add_service(
        SchedulerGrpcServer::new(scheduler.clone())
            .max_decoding_message_size(decoding)
            .max_encoding_message_size(encoding),
    );
    if config.enable_embedded_flight_proxy {
        let endpoint = Arc::new(BallistaConfigGrpcEndpoint::new(endpoint_override(Some(links))));
        services.add_service(
            FlightServiceServer::new(BallistaFlightProxyService::new(
                decoding,
                encoding,
                true,
                Some(endpoint),
            ))
            .max_decoding_message_size(decoding)
            .max_encoding_message_size(encoding),
        );
    }
    let scheduler = Arc::new(scheduler);
    let for_probe = Arc::clone(&scheduler);
    let ready = move || async move {
        if for_probe.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    };
    let mut router = services.routes().into_axum_router();
    if !config.disable_rest_api {
        router = router.merge(get_routes(scheduler));
    }
    let router = router
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .layer(map_request(with_remote_address));
    tracing::info!("listening on {address} with TLS, for callers with a certificate");
    create_grpc_server(&GrpcServerConfig::default())
        .tls_config(links.server_tls())?
        // For REST clients that speak nothing else.
        .accept_http1(true)
        .add_routes(Routes::from(router))
        .serve(address)
        .await?;
    Ok(())
}

/// Ballista looks for the caller's address where axum puts it: it is the host of an executor that
/// names none.
async fn with_remote_address(mut request: Request) -> Request {
    let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    if let Some(address) = info.and_then(|info| info.get_ref().remote_addr()) {
        request.extensions_mut().insert(ConnectInfo(address));
    }
    request
}
