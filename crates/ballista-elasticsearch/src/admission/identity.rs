//! The identity of a caller.
//!
//! Owns: deriving a name, a role and grants from what a connection and a request prove. Must not know: what is
//! requested.

use super::Admission;
use crate::caller::{Caller, Link};
use crate::cluster_tls::ClusterTls;
use elastic_client::Fingerprint;
use flowsigma_node::{Grants, Jobs, Role};
use http::Extensions;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use std::fmt;

/// The authentication that a server requires of its callers.
#[derive(Clone)]
pub enum Guard {
    /// TLS with a certificate that the cluster's authority signed, or with a bearer token.
    Certificates(ClusterTls),
    /// None: anyone who can reach the port may submit jobs.
    Open,
}

/// The name of all callers if no authentication is required. `[access.anyone]` has their grants.
const ANYONE: &str = "anyone";
/// The name of the account that runs a cluster on one machine.
pub(crate) const OWNER: &str = "owner";

/// The identity of a caller, and its grants.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name in `[access.NAME]`, or the common name of the certificate.
    pub name: String,
    /// The role in the cluster.
    pub role: Role,
    /// What the identity may read and write.
    pub grants: Grants,
    /// Whether a certificate proves the identity, and not a token.
    pub by_certificate: bool,
    /// Whether the identity may submit jobs: a client, an owner, or an identity that `[access]` lists.
    pub submits: bool,
}

impl Identity {
    /// Whether the identity may make the calls of an executor.
    pub(crate) fn is_executor(&self) -> bool {
        matches!(self.role, Role::Executor | Role::Owner)
    }

    /// Whether the identity may submit jobs.
    pub(crate) fn is_client(&self) -> bool {
        self.submits
    }

    /// Whether the identity is only a scheduler or an executor.
    pub(crate) fn is_part(&self) -> bool {
        matches!(self.role, Role::Scheduler | Role::Executor)
    }

    /// Whether the identity may see, fetch and cancel jobs of `owner`.
    pub(crate) fn may_see_jobs_of(&self, owner: &str) -> bool {
        self.grants.jobs == Jobs::All || self.name == owner
    }
}

/// The reason why a request is rejected. The message names the request, and the setting that would allow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The caller is not authenticated.
    Unknown(String),
    /// The caller is authenticated, but may not do this.
    Forbidden(String),
    /// A cluster does not support the request.
    Unsupported(String),
}

/// Whether a request came over TLS.
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
    /// Returns the identity that sent a request with these extensions and headers.
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
                // An `[access]` entry matches by its `certificate`, even if another entry has this common name as
                // its own name.
                let listed = self.access.iter().find(|(_, access)| access.certificate == subject.name);
                let submits = listed.is_some() || matches!(role, Role::Client | Role::Owner);
                let (name, grants) = match (role, listed) {
                    (Role::Owner, _) => {
                        (OWNER.to_owned(), self.granted_to(OWNER).unwrap_or_else(Grants::everything))
                    }
                    (_, Some((name, access))) => (name.clone(), access.grants.clone()),
                    // The certificate is not listed, so it must not get the name of an entry that has the same
                    // name by chance.
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

    /// Finds the identity of a bearer token. It compares hashes, so that the time of the comparison reveals
    /// nothing about the token.
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
            None => Err(Refusal::Unknown("[access] lists no such bearer token".into())),
        }
    }

    fn granted_to(&self, name: &str) -> Option<Grants> {
        self.access.get(name).map(|access| access.grants.clone())
    }
}
