//! The executor's Flight server over TLS.
//!
//! Owns: putting Ballista's service behind it, since its own server takes no certificate. Must not
//! know: what is served.

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::error::BallistaError;
use ballista_core::utils::create_grpc_server;
use ballista_elasticsearch::ClusterLinks;
use ballista_executor::ArrowFlightServerProvider;
use ballista_executor::flight_service::BallistaFlightService;
use std::sync::Arc;

/// Serves shuffle files to callers with a certificate only.
pub(crate) fn flight_server(
    links: &ClusterLinks,
    max_decoding: usize,
    max_encoding: usize,
) -> Arc<ArrowFlightServerProvider> {
    let tls = links.server_tls();
    Arc::new(move |work_dir, address, mut shutdown, grpc| {
        let tls = tls.clone();
        tokio::spawn(async move {
            create_grpc_server(&grpc)
                .tls_config(tls)
                .map_err(BallistaError::TonicError)?
                .add_service(
                    FlightServiceServer::new(BallistaFlightService::new(work_dir))
                        .max_decoding_message_size(max_decoding)
                        .max_encoding_message_size(max_encoding),
                )
                .serve_with_shutdown(address, shutdown.recv())
                .await
                .map_err(BallistaError::TonicError)
        })
    })
}
