//! What can be wrong with a configuration. No message holds a value or a line of the file: either may be a secret.

use std::io;
use std::path::{Path, PathBuf};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file that was asked for is not there.
    #[error("configuration file {path:?} named by {required_by} does not exist")]
    FileMissing {
        /// The file.
        path: PathBuf,
        /// The option or variable that names it.
        required_by: &'static str,
    },
    /// A file is there and cannot be read.
    #[error("cannot read configuration file {path:?}: {source}")]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The text is not TOML.
    #[error("{}: line {line}, column {column}: not valid TOML: {expected}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the parser expected there.
        expected: String,
    },
    /// A key that means nothing.
    #[error("{}: unknown key {key:?} in {table}{}", file.display(), hint(nearest.as_deref(), known))]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// The table it stands in, as in `[connections.prod]`.
        table: String,
        /// The known key it was probably meant to be.
        nearest: Option<String>,
        /// All keys known there.
        known: Vec<String>,
    },
    /// A secret written into the file itself.
    #[error(
        "{}: line {line}: {key:?} in {table} puts a secret into the file itself, use {instead} (with auth.type = {auth_type:?}) instead",
        file.display()
    )]
    InlineSecret {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The table it stands in.
        table: String,
        /// The keys that say where a secret is.
        instead: &'static str,
        /// The kind of `auth` they belong to.
        auth_type: &'static str,
    },
    /// A value that does not fit its key.
    #[error("{}: line {line}: {key:?} in {table} must be {expected}", file.display())]
    InvalidValue {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The table it stands in.
        table: String,
        /// What was expected.
        expected: String,
    },
    /// A key without which a table means nothing.
    #[error("{}: {table} needs {needed}", file.display())]
    MissingKey {
        /// The file.
        file: PathBuf,
        /// The table.
        table: String,
        /// The key or keys, one of which is needed.
        needed: String,
    },
    /// Two keys of one table that exclude each other.
    #[error("{}: {table} has both {first:?} and {second:?}, only one of them can be", file.display())]
    Conflict {
        /// The file.
        file: PathBuf,
        /// The table.
        table: String,
        /// One key.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A node that cannot be used.
    #[error("{}: line {line}: node {index} of {table}: {problem}", file.display())]
    Node {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Which one of `nodes`, from 1.
        index: usize,
        /// The table.
        table: String,
        /// What is wrong with it.
        problem: UrlProblem,
    },
    /// A URL given by hand that cannot be used.
    #[error("cannot use the given URL: {problem}")]
    Url {
        /// What is wrong with it.
        problem: UrlProblem,
    },
    /// A connection nobody described.
    #[error(
        "unknown connection {name:?}: {}{}",
        place(file.as_deref()),
        connection_hint(nearest.as_deref(), known)
    )]
    UnknownConnection {
        /// The name asked for.
        name: String,
        /// The file that would have to describe it.
        file: Option<PathBuf>,
        /// The connection that was probably meant.
        nearest: Option<String>,
        /// All connections of the file.
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
    #[error(
        "a URL must not hold credentials, describe a connection in flowsigma.toml with auth (password_env or password_file) and use its name"
    )]
    Credentials,
    /// `?…` or `#…` at its end.
    #[error("a node's URL must not have a query or a fragment")]
    QueryOrFragment,
}

fn hint(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(nearest) => format!(", did you mean {nearest:?}?"),
        None => format!(", known are {}", quoted(known)),
    }
}

fn place(file: Option<&Path>) -> String {
    match file {
        Some(file) => format!("{} has no such connection", file.display()),
        None => "no configuration file was found (--config, $FLOWSIGMA_CONFIG, ./flowsigma.toml, the user's folder)".to_owned(),
    }
}

fn connection_hint(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(nearest) => format!(", did you mean {nearest:?}?"),
        None if known.is_empty() => String::new(),
        None => format!(", known are {}", quoted(known)),
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}
