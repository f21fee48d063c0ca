//! Admission: which calls a scheduler accepts, from which callers, and for which data.
//!
//! Owns: everything between a caller and Ballista's scheduler. Each part has its file: `identity` authenticates
//! the caller, `plan` finds what a plan reads and writes, `paths` resolves paths, `settings` lists the allowed
//! session settings, `jobs` records the owners of jobs, and `audit` writes the audit log. `service`, `rest` and
//! `flight` apply them to the scheduler's gRPC, HTTP and Flight endpoints. Must not know: how a job is planned or
//! run.
//!
//! A plan is decoded only once, so the plan that is checked is the plan that runs.

mod audit;
mod flight;
mod identity;
mod jobs;
mod opening;
mod paths;
mod plan;
mod rest;
mod service;
mod settings;

pub use audit::AuditLog;
pub(crate) use flight::ProxiedResults;
pub(crate) use identity::OWNER;
pub use identity::{Guard, Identity, Refusal};
pub use paths::Protected;
pub(crate) use paths::{Roots, resolve};
pub use plan::{Reach, decode_plan, reach_of};
pub use rest::Browsers;
pub(crate) use rest::admit_http;
pub(crate) use service::{Admitted, BallistaScheduler};

use crate::codec::EsLogicalCodec;
use ballista_core::config::BALLISTA_CLIENT_PULL;
use datafusion::prelude::SessionConfig;
use elastic_client::ConnectionRegistry;
use flowsigma_node::{Access, Config};
use jobs::{Job, Jobs};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::Request;

/// The admission of a scheduler: its rules, and the jobs that it has admitted.
pub struct Admission {
    guard: Guard,
    access: BTreeMap<String, Access>,
    protected: Protected,
    /// The session settings before those of a caller are applied.
    defaults: SessionConfig,
    codec: Arc<EsLogicalCodec>,
    jobs: Jobs,
    audit: AuditLog,
}

impl Admission {
    /// Creates an admission by `[access]` of the configuration. `guard` authenticates callers, and `registry`
    /// resolves the connections of plans.
    pub fn new(
        config: &Config,
        registry: &Arc<ConnectionRegistry>,
        guard: Guard,
        defaults: SessionConfig,
        audit: AuditLog,
    ) -> Self {
        Self {
            guard,
            access: config.access.clone(),
            protected: Protected::by(config),
            defaults: defaults.set_bool(BALLISTA_CLIENT_PULL, true),
            codec: Arc::new(EsLogicalCodec::new(Arc::clone(registry))),
            jobs: Jobs::default(),
            audit,
        }
    }

    /// Returns the job whose rows a request fetches.
    ///
    /// Ballista's client fetches rows without the token that it submitted the job with. So anyone who knows the id
    /// may fetch the rows of a job that was submitted with a token. The id has 128 random bits, and only the owner
    /// gets it.
    fn rows_of<T>(&self, request: &Request<T>, id: &str) -> Result<Arc<Job>, Refusal> {
        let unknown = || Refusal::Forbidden(format!("there is no job {id} whose rows the caller may fetch"));
        let job = self.jobs.get(id).ok_or_else(unknown)?;
        match self.identify(request.extensions(), request.metadata().as_ref()) {
            Ok(identity) if identity.may_see_jobs_of(&job.owner) => Ok(job),
            Err(Refusal::Unknown(_))
                if !job.by_certificate && identity::is_over_tls(request.extensions()) =>
            {
                Ok(job)
            }
            Err(refusal) => Err(refusal),
            Ok(_) => Err(unknown()),
        }
    }

    /// Returns the running jobs whose search contexts this scheduler opened, with the number of slices of each.
    fn open_contexts(&self, identity: &Identity) -> Value {
        let running = self.jobs.running();
        let seen = running.iter().filter(|(_, job)| job.contexts > 0 && identity.may_see_jobs_of(&job.owner));
        seen.map(|(id, job)| json!({ "job_id": id, "contexts": job.contexts })).collect()
    }
}
