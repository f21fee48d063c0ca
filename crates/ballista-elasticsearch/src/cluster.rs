//! The cluster that jobs are submitted to: one embedded in this process, or a remote scheduler.
//!
//! Owns: starting the embedded cluster, or connecting to the remote scheduler. Must not know: jobs.

use crate::client_planner::{ClientPlanner, refuse_unsendable};
use crate::cluster_tls::ClusterTls;
use crate::copy::{CopyRule, check_target};
use crate::embedded::{ADDRESS, Embedded, PrivatePlace};
use crate::register::{session_config, session_state, with_functions};
use crate::scheduler::{self, Scheduler};
use ballista_core::extension::{SessionConfigExt, SessionStateExt};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::AnalyzerRule;
use datafusion::prelude::SessionContext;
use elastic_client::ConnectionRegistry;
use flowsigma_node::{Config, Protection};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use std::sync::Arc;

/// The port of a scheduler whose URL has none.
const DEFAULT_PORT: u16 = 50050;

/// A session, and the scheduler that runs its statements.
#[derive(Clone)]
pub struct Cluster {
    context: SessionContext,
    scheduler_url: String,
    protection: Protection,
    _embedded: Option<Arc<Embedded>>,
}

impl Cluster {
    /// Starts a scheduler and an executor in this process. No other process can connect to them. Most of the time a
    /// scan waits for the server, so there are two tasks at a time for each core, and at least four.
    ///
    /// The servers run until the process ends. Call [`delete_embedded_files`](crate::delete_embedded_files) before
    /// that.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder for their files cannot be created, or a server does not start.
    pub async fn embedded(registry: Arc<ConnectionRegistry>) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let place = PrivatePlace::new()?;
        let config = session_config(&registry, None)
            .with_ballista_override_create_grpc_client_endpoint(place.endpoint_override())
            .with_target_partitions(cores);
        let state = session_state(&registry, config.clone());
        let runtime = Arc::clone(state.runtime_env());
        let tasks = (2 * cores).max(4);
        let embedded =
            Embedded::start(place, &registry, config, runtime, cores, tasks).await.map_err(in_process)?;
        let cluster =
            Self::over(state.upgrade_for_ballista(ADDRESS.into())?, ADDRESS.into(), Protection::None)?;
        Ok(Self { _embedded: Some(Arc::new(embedded)), ..cluster })
    }

    /// Connects to a remote scheduler, such as `http://scheduler.example:50050`. It uses TLS, even for `http://`,
    /// if `config` has `[cluster] tls`, or if this account runs the scheduler on this machine.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL is not that of a scheduler, certificates or credentials cannot be read, or the
    /// scheduler does not respond.
    pub async fn remote(
        registry: Arc<ConnectionRegistry>,
        config: &Config,
        scheduler_url: &str,
    ) -> Result<Self> {
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
        let port = url.port().unwrap_or(DEFAULT_PORT);
        let protection = Protection::of_client(config, host, port)
            .map_err(|e| DataFusionError::Configuration(e.to_string()))?;
        let tls = ClusterTls::of(&protection);
        if url.scheme() == "https" && tls.is_none() {
            return Err(DataFusionError::Configuration(format!(
                "scheduler \"{scheduler_url}\" needs TLS, and this configuration has no certificates: set \
                 [cluster] tls in flowsigma.toml"
            )));
        }
        let scheduler_url = format!("http://{host}:{port}");
        let mut session = session_config(&registry, tls.as_ref());
        if let Some(bearer) = protection.bearer() {
            session = session.with_ballista_grpc_metadata([(AUTHORIZATION.to_string(), bearer)].into());
        }
        let state = session_state(&registry, session);
        let cluster =
            Self::over(state.upgrade_for_ballista(scheduler_url.clone())?, scheduler_url, protection)?;
        cluster.scheduler().await?;
        Ok(cluster)
    }

    pub(crate) fn over(state: SessionState, scheduler_url: String, protection: Protection) -> Result<Self> {
        let planner = ClientPlanner { ballista: Arc::clone(state.query_planner()) };
        let config = state.config().clone();
        let mut state =
            SessionStateBuilder::new_from_existing(state).with_query_planner(Arc::new(planner)).build();
        // The builder changes catalog options. They would be sent as session settings, which no scheduler accepts.
        state.config_mut().options_mut().catalog = config.options().catalog.clone();
        let context = with_functions(SessionContext::new_with_state(state));
        Ok(Self { context, scheduler_url, protection, _embedded: None })
    }

    /// Returns the session, in which tables are registered and statements are planned.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// Returns `plan` in the form in which it is submitted. Call it before a search context is opened for the
    /// plan.
    ///
    /// # Errors
    ///
    /// Returns an error if a part of the plan has no serialized form, or the options of a COPY are wrong. If the
    /// cluster is embedded, it also fails if the target of a COPY is not free.
    pub fn prepare(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        refuse_unsendable(&plan)?;
        let plan = CopyRule.analyze(plan, self.context.state().config_options())?;
        if self._embedded.is_some() {
            check_target(&plan)?;
        }
        Ok(plan)
    }

    pub(crate) fn scheduler_url(&self) -> &str {
        &self.scheduler_url
    }

    /// Returns the URL of the scheduler's HTTP endpoints, and a client builder with credentials for them.
    pub(crate) fn rest(&self) -> Result<(String, reqwest::ClientBuilder)> {
        // Uses no proxy and no redirect: these requests must reach the scheduler that has the job.
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        match ClusterTls::of(&self.protection) {
            // Without TLS, reading the certificate authorities of the system would only take time.
            None => Ok((self.scheduler_url.clone(), client.tls_built_in_root_certs(false))),
            Some(tls) => {
                let mut client = tls.for_http(client).map_err(|e| DataFusionError::External(Box::new(e)))?;
                if let Some(bearer) = self.protection.bearer() {
                    let mut value =
                        HeaderValue::try_from(bearer).map_err(|e| DataFusionError::External(Box::new(e)))?;
                    value.set_sensitive(true);
                    client = client.default_headers([(AUTHORIZATION, value)].into_iter().collect());
                }
                Ok((self.scheduler_url.replacen("http://", "https://", 1), client))
            }
        }
    }

    /// Returns a client of the scheduler with the settings of the session.
    pub(crate) async fn scheduler(&self) -> Result<Scheduler> {
        scheduler::connect(&self.scheduler_url, &self.context.copied_config()).await
    }
}

fn in_process(error: impl std::fmt::Display) -> DataFusionError {
    DataFusionError::Execution(format!("the embedded cluster did not start: {error}"))
}
