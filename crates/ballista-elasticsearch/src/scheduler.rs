//! A client of the scheduler.
//!
//! Owns: connecting to it, with TLS if the session's settings say so. Must not know: which calls are made.

use ballista_core::extension::{BallistaGrpcMetadataInterceptor, SessionConfigExt};
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint};
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionConfig;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

pub(crate) type Scheduler = SchedulerGrpcClient<InterceptedService<Channel, BallistaGrpcMetadataInterceptor>>;

/// Connects to the scheduler at `url`.
pub(crate) async fn connect(url: &str, config: &SessionConfig) -> Result<Scheduler> {
    let ballista = config.ballista_config();
    let lost = |e: &(dyn std::error::Error + 'static)| {
        DataFusionError::Configuration(format!(
            "scheduler {url} cannot be reached: {}; is flowsigma-scheduler running there?",
            causes(e)
        ))
    };
    let grpc = GrpcClientConfig::from(&ballista);
    let mut endpoint = create_grpc_client_endpoint(url.to_owned(), Some(&grpc)).map_err(|e| lost(&e))?;
    if let Some(customize) = config.ballista_override_create_grpc_client_endpoint() {
        endpoint = customize.configure_endpoint(endpoint).map_err(|e| lost(e.as_ref()))?;
    }
    let channel = endpoint.connect().await.map_err(|e| lost(&e))?;
    let max = ballista.grpc_client_max_message_size();
    let interceptor = config.ballista_grpc_interceptor();
    Ok(SchedulerGrpcClient::with_interceptor(channel, interceptor.as_ref().clone())
        .max_encoding_message_size(max)
        .max_decoding_message_size(max))
}

/// Returns the deepest cause: a transport error itself says only that it is one.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
