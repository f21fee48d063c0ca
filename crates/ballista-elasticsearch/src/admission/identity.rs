//! Who asks.
//!
//! Owns: from what a connection and a request prove to a name, a role and grants. Must not know: what is asked.

use super::Admission;
use crate::caller::{Caller, Link};
use crate::cluster_tls::ClusterTls;
use elastic_client::Fingerprint;
use flowsigma_node::{Grants, Jobs, Role};
use http::Extensions;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use std::fmt;

/// What stands between a server and those who reach its port.
#[derive(Clone)]
pub enum Guard {
    /// TLS with certificates of the cluster's authority, or a bearer token over TLS.
    Certificates(ClusterTls),
    /// Nothing: whoever reaches the port may submit jobs.
    Open,
}

/// The name of everybody, where nothing is asked for, and of their grants in the configuration.
const ANYONE: &str = "anyone";
/// The name of the account that a cluster belongs to.
pub(crate) const OWNER: &str = "owner";

/// Who asks, and what is granted to it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name in `[access.NAME]`, or a certificate's common name.
    pub name: String,
    /// What it is in the cluster.
    pub role: Role,
    /// What it may read and write.
    pub grants: Grants,
    /// Whether a certificate says who it is, rather than a token.
    pub by_certificate: bool,
    /// Whether it may submit jobs: a client or an owner, and whom `[access]` lists.
    pub submits: bool,
}

impl Identity {
    /// Whether it may do what executors do.
    pub(crate) fn is_executor(&self) -> bool {
        matches!(self.role, Role::Executor | Role::Owner)
    }

    /// Whether it may submit jobs.
    pub(crate) fn is_client(&self) -> bool {
        self.submits
    }

    /// Whether it is a scheduler or an executor and nothing else.
    pub(crate) fn is_part(&self) -> bool {
        matches!(self.role, Role::Scheduler | Role::Executor)
    }

    /// Whether it may see, fetch and cancel jobs of `owner`.
    pub(crate) fn may_see_jobs_of(&self, owner: &str) -> bool {
        self.grants.jobs == Jobs::All || self.name == owner
    }
}

/// Why a caller or what it asks for is refused. It says what was asked for and who would have to grant it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The caller proves nothing.
    Unknown(String),
    /// The caller is known, and may not do this.
    Forbidden(String),
    /// What it asks for cannot be done by a cluster.
    Unsupported(String),
}

/// Whether a request came by TLS.
pub(super) fn is_over_tls(extensions: &Extensions) -> bool {
    extensions.get::<Caller>().is_some_and(|caller| matches!(caller.link, Link::Tls(_)))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(text) | Self::Forbidden(text) | Self::Unsupported(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown(text) => Self::unauthenticated(text),
            Refusal::Forbidden(text) => Self::permission_denied(text),
            Refusal::Unsupported(text) => Self::invalid_argument(text),
        }
    }
}

impl Admission {
    /// Who sent a request with these extensions and headers.
    pub(crate) fn identify(&self, extensions: &Extensions, headers: &HeaderMap) -> Result<Identity, Refusal> {
        let caller = extensions.get::<Caller>().cloned();
        match (&self.guard, caller.map(|caller| caller.link)) {
            (Guard::Open, Some(Link::Plain)) => Ok(Identity {
                name: ANYONE.into(),
                role: Role::Owner,
                grants: self.granted_to(ANYONE).unwrap_or_else(Grants::every_index),
                by_certificate: true,
                submits: true,
            }),
            (Guard::Certificates(tls), Some(Link::Tls(Some(subject)))) => {
                let role = tls.role(&subject);
                // What is listed under a name is that name's, whatever its certificate is called.
                let listed = self.access.iter().find(|(_, access)| access.certificate == subject.name);
                let submits = listed.is_some() || matches!(role, Role::Client | Role::Owner);
                let (name, grants) = match (role, listed) {
                    (Role::Owner, _) => {
                        (OWNER.to_owned(), self.granted_to(OWNER).unwrap_or_else(Grants::everything))
                    }
                    (_, Some((name, access))) => (name.clone(), access.grants.clone()),
                    // Not listed, so it is nobody who is, though another's name may be the same.
                    (_, None) if self.access.contains_key(&subject.name) => {
                        (format!("certificate {}", subject.name), Grants::default())
                    }
                    (_, None) => (subject.name.clone(), Grants::default()),
                };
                Ok(Identity { name, role, grants, by_certificate: true, submits })
            }
            (Guard::Certificates(_), Some(Link::Tls(None))) => self.identify_by_token(headers),
            (Guard::Certificates(_), Some(Link::Plain)) => Err(Refusal::Unknown(
                "this scheduler takes only callers with TLS and credentials: a client of the account that runs it \
                 finds them by itself, another one needs [cluster] tls in its flowsigma.toml"
                    .into(),
            )),
            _ => Err(Refusal::Unknown("the connection proves nothing about the caller".into())),
        }
    }

    /// A token is compared by its hash, so that how long it takes tells nothing of it.
    fn identify_by_token(&self, headers: &HeaderMap) -> Result<Identity, Refusal> {
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = header.and_then(|value| value.strip_prefix("Bearer ")) else {
            return Err(Refusal::Unknown(
                "the caller shows neither a certificate of the cluster's authority nor a bearer token".into(),
            ));
        };
        let hash = Fingerprint::of(token.trim().as_bytes());
        let known = self.access.iter().find(|(_, access)| access.token_sha256 == Some(hash));
        match known {
            Some((name, access)) => Ok(Identity {
                name: name.clone(),
                role: Role::Client,
                grants: access.grants.clone(),
                by_certificate: false,
                submits: true,
            }),
            None => Err(Refusal::Unknown("the bearer token is none that [access] lists".into())),
        }
    }

    fn granted_to(&self, name: &str) -> Option<Grants> {
        self.access.get(name).map(|access| access.grants.clone())
    }
}
