//! A client of the scheduler.
//!
//! Owns: connecting to it, with TLS if the session's settings say so, and requests for the status of a job. Must not
//! know: when they are sent.

use ballista_core::extension::{BallistaGrpcMetadataInterceptor, SessionConfigExt};
use ballista_core::serde::protobuf::GetJobStatusParams;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint};
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionConfig;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

pub(crate) type Scheduler = SchedulerGrpcClient<InterceptedService<Channel, BallistaGrpcMetadataInterceptor>>;

/// The header of a request for the status of a job that must not wait for the job's end.
const AT_ONCE: &str = "flowsigma-at-once";

/// Returns a request for the status of a job to which the scheduler responds at once. Ballista's own request for a
/// running job waits for the end of the job.
pub(crate) fn status_now(job_id: String) -> Request<GetJobStatusParams> {
    let mut request = Request::new(GetJobStatusParams { job_id });
    request.metadata_mut().insert(AT_ONCE, MetadataValue::from_static("true"));
    request
}

/// Whether the request is of [`status_now`].
pub(crate) fn is_at_once(request: &Request<GetJobStatusParams>) -> bool {
    request.metadata().contains_key(AT_ONCE)
}

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
