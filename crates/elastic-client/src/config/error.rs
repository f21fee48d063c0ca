//! The errors of the settings of a connection. No message contains a secret, or a URL that may contain one.

use std::io;
use std::path::PathBuf;

/// Why the settings of a connection cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL that the user gave cannot be used.
    #[error("cannot use the given URL: {problem}")]
    Url {
        /// What is wrong with the URL.
        problem: UrlProblem,
    },
    /// No connection has this name.
    #[error(
        "unknown connection {name:?}{}{}",
        origin.as_ref().map(|origin| format!(": {origin}")).unwrap_or_default(),
        hint(nearest.as_deref(), known)
    )]
    UnknownConnection {
        /// The requested name.
        name: String,
        /// Where the connections come from, as set by [`ConnectionRegistry::with_origin`].
        ///
        /// [`ConnectionRegistry::with_origin`]: crate::ConnectionRegistry::with_origin
        origin: Option<String>,
        /// The connection that the user probably meant.
        nearest: Option<String>,
        /// The names of all connections.
        known: Vec<String>,
    },
    /// The environment variable of a secret is not set.
    #[error("environment variable {variable:?}, which should hold a secret, is not set")]
    VariableUnset {
        /// The name of the environment variable.
        variable: String,
    },
    /// The environment variable of a secret is empty, or is not valid UTF-8.
    #[error("environment variable {variable:?}, which should hold a secret, {problem}")]
    VariableUnusable {
        /// The name of the environment variable.
        variable: String,
        /// What is wrong with the value, as the end of a sentence.
        problem: &'static str,
    },
    /// The file of a secret cannot be read.
    #[error("cannot read secret file {path:?}: {source}")]
    SecretFileUnreadable {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file of a secret is empty.
    #[error("secret file {path:?} is empty")]
    SecretFileEmpty {
        /// The path of the file.
        path: PathBuf,
    },
}

/// Why a URL cannot be that of an Elasticsearch node. No message contains the URL, because it may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlProblem {
    /// The text is not a URL.
    #[error("not a URL ({0}), expected one like \"https://host:9200\"")]
    Malformed(url::ParseError),
    /// The scheme is neither `http` nor `https`.
    #[error("expected a URL that starts with http:// or https://")]
    Scheme,
    /// The URL contains a user name or a password.
    #[error("a URL must not hold credentials, which go into auth of the connection")]
    Credentials,
    /// The URL has a query (`?…`) or a fragment (`#…`).
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
