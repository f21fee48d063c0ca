//! A cluster to submit to: a scheduler of its own in this process, or one elsewhere.
//!
//! Owns: starting it, or finding out that it is there. Must not know: jobs.

use crate::client_planner::{ClientPlanner, refuse_unsendable};
use crate::embedded::Embedded;
use crate::links::ClusterLinks;
use crate::register::{session_config, session_state, with_functions};
use crate::scheduler::{self, Scheduler};
use ballista_core::extension::SessionStateExt;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use elastic_client::ConnectionRegistry;
use std::sync::Arc;

/// The scheduler's port, where a URL names none.
const DEFAULT_PORT: u16 = 50050;

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

    fn over(state: SessionState, scheduler_url: String) -> Result<Self> {
        let planner = ClientPlanner { ballista: Arc::clone(state.query_planner()) };
        let state =
            SessionStateBuilder::new_from_existing(state).with_query_planner(Arc::new(planner)).build();
        let context = with_functions(SessionContext::new_with_state(state));
        Ok(Self { context, scheduler_url, _embedded: None })
    }

    /// The session: tables are registered and statements planned in it.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// `plan` as it is submitted. What has no serialized form is an error before anything is opened for it.
    pub fn prepare(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        refuse_unsendable(&plan)?;
        Ok(plan)
    }

    pub(crate) fn scheduler_url(&self) -> &str {
        &self.scheduler_url
    }

    /// A client of the scheduler, reached with the session's own settings.
    pub(crate) async fn scheduler(&self) -> Result<Scheduler> {
        scheduler::connect(&self.scheduler_url, &self.context.copied_config()).await
    }
}

fn in_process(error: impl std::fmt::Display) -> DataFusionError {
    DataFusionError::Execution(format!("the embedded cluster did not start: {error}"))
}
