//! A cluster to submit to: a scheduler of its own in this process, or one elsewhere.
//!
//! Owns: starting or reaching it, and asking it about jobs. Must not know: what a job computes.

use crate::embedded::Embedded;
use crate::job::Job;
use crate::links::ClusterLinks;
use crate::register::{session_config, session_state, with_functions};
use ballista_core::extension::{BallistaGrpcMetadataInterceptor, SessionConfigExt, SessionStateExt};
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use elastic_client::ConnectionRegistry;
use std::sync::Arc;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

/// The scheduler's port, where a URL names none.
const DEFAULT_PORT: u16 = 50050;

pub(crate) type Scheduler = SchedulerGrpcClient<InterceptedService<Channel, BallistaGrpcMetadataInterceptor>>;

/// A session, and the scheduler that its statements are submitted to.
#[derive(Clone)]
pub struct Cluster {
    context: SessionContext,
    scheduler_url: String,
    _embedded: Option<Arc<Embedded>>,
}

impl Cluster {
    /// A scheduler and an executor in this process, on loopback, with a vcore for each core.
    pub async fn embedded(registry: Arc<ConnectionRegistry>) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        // All in this process, which no certificate need prove to itself.
        let config = session_config(&registry, None).with_target_partitions(cores);
        let state = session_state(&registry, config);
        let embedded = Embedded::start(&state, cores).await.map_err(in_process)?;
        let scheduler_url = embedded.scheduler_url.clone();
        let cluster = Self::over(state.upgrade_for_ballista(scheduler_url.clone())?, scheduler_url)?;
        Ok(Self { _embedded: Some(Arc::new(embedded)), ..cluster })
    }

    /// Submits to a scheduler elsewhere, such as `http://scheduler.example:50050`, and asks it first
    /// whether it is there; by TLS, whatever the URL says, if the configuration has `[cluster] tls`.
    pub async fn remote(registry: Arc<ConnectionRegistry>, scheduler_url: &str) -> Result<Self> {
        let refuse = |reason: &str| {
            DataFusionError::Configuration(format!(
                "scheduler \"{scheduler_url}\" {reason}; write it as http://HOST:{DEFAULT_PORT}"
            ))
        };
        let url = url::Url::parse(scheduler_url).map_err(|e| refuse(&format!("is not a URL: {e}")))?;
        let Some(host) = url.host_str().filter(|h| !h.is_empty()) else {
            return Err(refuse("names no host"));
        };
        if !matches!(url.scheme(), "http" | "https" | "df") {
            return Err(refuse("is none of http://, https:// and df://"));
        }
        let scheduler_url = format!("http://{host}:{}", url.port().unwrap_or(DEFAULT_PORT));
        let config = session_config(&registry, ClusterLinks::of(&registry)?.as_ref());
        let state = session_state(&registry, config);
        let cluster = Self::over(state.upgrade_for_ballista(scheduler_url.clone())?, scheduler_url)?;
        cluster.scheduler().await?;
        Ok(cluster)
    }

    fn over(state: datafusion::execution::SessionState, scheduler_url: String) -> Result<Self> {
        let context = with_functions(SessionContext::new_with_state(state));
        Ok(Self { context, scheduler_url, _embedded: None })
    }

    /// The session: tables are registered and statements planned in it.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    pub(crate) fn scheduler_url(&self) -> &str {
        &self.scheduler_url
    }

    /// Submits a plan.
    pub async fn submit(&self, plan: LogicalPlan) -> Result<(Job, SendableRecordBatchStream)> {
        Job::submit(self.clone(), plan).await
    }

    /// A client of the scheduler, reached with the session's own settings.
    pub(crate) async fn scheduler(&self) -> Result<Scheduler> {
        connect(&self.scheduler_url, &self.context.copied_config()).await
    }
}

/// A client of the scheduler at `url`, by these settings.
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
    let most = ballista.grpc_client_max_message_size();
    let interceptor = config.ballista_grpc_interceptor();
    Ok(SchedulerGrpcClient::with_interceptor(channel, interceptor.as_ref().clone())
        .max_encoding_message_size(most)
        .max_decoding_message_size(most))
}

fn in_process(error: impl std::fmt::Display) -> DataFusionError {
    DataFusionError::Execution(format!("the embedded cluster did not start: {error}"))
}

/// What went wrong at the bottom: a transport error says no more than that there was one.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
