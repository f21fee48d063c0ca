//! Admission: which calls a scheduler takes, from whom, and what for.
//!
//! Owns: everything between a caller and Ballista's scheduler. Each part has its file:
//! `identity` finds out who asks, `plan` what a plan reads and writes, `paths` where a path leads, `settings` which
//! session settings may be sent, `jobs` whose a job is, `audit` what is written down; `service`, `rest` and `flight`
//! put them in front of the scheduler's gRPC, HTTP and Flight endpoints.
//! Must not know: how a job is planned or run.
//!
//! A plan is decoded once: what is judged here is what runs.

mod audit;
mod flight;
mod identity;
mod jobs;
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

/// What a scheduler admits, and the jobs that it has admitted.
pub struct Admission {
    guard: Guard,
    access: BTreeMap<String, Access>,
    protected: Protected,
    /// Settings as a session has them before a caller's.
    defaults: SessionConfig,
    codec: Arc<EsLogicalCodec>,
    jobs: Jobs,
    audit: AuditLog,
}

impl Admission {
    /// Admits by `[access]` of the configuration, behind `guard`.
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

    /// The job whose rows a request asks for.
    ///
    /// Ballista's client fetches rows without the token by which it submitted. So the rows of a job that was submitted
    /// by a token are for those who know the job's id, which has 128 random bits and is told to its owner alone.
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

    /// The running jobs whose search contexts this scheduler opened, with how many each has.
    fn open_contexts(&self, identity: &Identity) -> Value {
        let running = self.jobs.running();
        let seen = running.iter().filter(|(_, job)| job.contexts > 0 && identity.may_see_jobs_of(&job.owner));
        seen.map(|(id, job)| json!({ "job_id": id, "contexts": job.contexts })).collect()
    }
}
