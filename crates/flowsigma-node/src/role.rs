//! The role and the name in a certificate.
//!
//! Owns: two entries of a certificate's subject, the common name and the organizational unit. Must not know:
//! whether the certificate is valid, which TLS decides.

use x509_parser::prelude::{FromDer, X509Certificate};

/// The role of a certificate's holder in a cluster. It is the organizational unit of the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Plans jobs and assigns their tasks to executors.
    Scheduler,
    /// Runs tasks, and serves their rows to schedulers and executors.
    Executor,
    /// Submits jobs.
    Client,
    /// The account that started a cluster on its own machine. It is scheduler, executor and client in one.
    Owner,
}

impl Role {
    const ALL: [Self; 4] = [Self::Scheduler, Self::Executor, Self::Client, Self::Owner];

    /// Returns the organizational unit of certificates with this role.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Scheduler => "flowsigma scheduler",
            Self::Executor => "flowsigma executor",
            Self::Client => "flowsigma client",
            Self::Owner => "flowsigma owner",
        }
    }

    /// Whether other processes connect to the holder.
    pub fn serves(self) -> bool {
        !matches!(self, Self::Client)
    }

    fn of_unit(unit: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.unit() == unit)
    }
}

/// The subject of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The common name.
    pub name: String,
    /// The role that the organizational unit names; `None` if it names no role.
    pub role: Option<Role>,
}

/// Reads the subject of a certificate in DER. Returns `None` if it is not a certificate or has no common name.
pub fn subject_of(certificate: &[u8]) -> Option<Subject> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut units = subject.iter_organizational_unit().filter_map(|unit| unit.as_str().ok());
    let role = units.find_map(Role::of_unit);
    (!name.is_empty()).then_some(Subject { name, role })
}
