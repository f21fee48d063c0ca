//! What can be wrong with how a connection is described. No message holds a secret, or a URL that may hold one.

use std::io;
use std::path::PathBuf;

/// Why a connection cannot be made as it is described.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A URL given by hand that cannot be used.
    #[error("cannot use the given URL: {problem}")]
    Url {
        /// What is wrong with it.
        problem: UrlProblem,
    },
    /// A name that is none of the connections.
    #[error(
        "unknown connection {name:?}{}{}",
        origin.as_ref().map(|origin| format!(": {origin}")).unwrap_or_default(),
        hint(nearest.as_deref(), known)
    )]
    UnknownConnection {
        /// The name asked for.
        name: String,
        /// Where it was looked for, as [`ConnectionRegistry::with_origin`] was told.
        ///
        /// [`ConnectionRegistry::with_origin`]: crate::ConnectionRegistry::with_origin
        origin: Option<String>,
        /// The connection that was probably meant.
        nearest: Option<String>,
        /// All connections.
        known: Vec<String>,
    },
    /// A secret's environment variable is not there.
    #[error("environment variable {variable:?}, which should hold a secret, is not set")]
    VariableUnset {
        /// The variable.
        variable: String,
    },
    /// A secret's environment variable holds nothing, or something that is no text.
    #[error("environment variable {variable:?}, which should hold a secret, {problem}")]
    VariableUnusable {
        /// The variable.
        variable: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A secret's file cannot be read.
    #[error("cannot read secret file {path:?}: {source}")]
    SecretFileUnreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A secret's file holds nothing.
    #[error("secret file {path:?} is empty")]
    SecretFileEmpty {
        /// The file.
        path: PathBuf,
    },
}

/// Why a URL is no node. The URL itself is in no message: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlProblem {
    /// Not a URL at all.
    #[error("not a URL ({0}), expected one like \"https://host:9200\"")]
    Malformed(url::ParseError),
    /// Another protocol.
    #[error("expected a URL that starts with http:// or https://")]
    Scheme,
    /// A user name or a password in it.
    #[error("a URL must not hold credentials, which go into auth of the connection")]
    Credentials,
    /// `?…` or `#…` at its end.
    #[error("a node's URL must not have a query or a fragment")]
    QueryOrFragment,
}

fn hint(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(nearest) => format!(", did you mean {nearest:?}?"),
        None if known.is_empty() => String::new(),
        None => {
            let known: Vec<String> = known.iter().map(|name| format!("{name:?}")).collect();
            format!(", known are {}", known.join(", "))
        }
    }
}
