//! The errors of a configuration file.
//!
//! Owns: the causes and their messages. No message contains a value or a line of the file, because either may be a
//! secret.

use elastic_client::UrlProblem;
use std::io;
use std::path::PathBuf;

/// The reason why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigFileError {
    /// A file that an option or a variable names is missing.
    #[error("configuration file {path:?} named by {required_by} does not exist")]
    FileMissing {
        /// The path of the file.
        path: PathBuf,
        /// The option or variable that names it.
        required_by: &'static str,
    },
    /// A file exists but cannot be read.
    #[error("cannot read configuration file {path:?}: {source}")]
    FileUnreadable {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The text is not TOML.
    #[error("{}: line {line}, column {column}: not valid TOML: {expected}", file.display())]
    Syntax {
        /// The path of the file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the parser expected.
        expected: String,
    },
    /// A key is unknown.
    #[error("{}: unknown key {key:?} in {table}{}", file.display(), hint(nearest.as_deref(), known))]
    UnknownKey {
        /// The path of the file.
        file: PathBuf,
        /// The key.
        key: String,
        /// The table that contains the key, such as `[connections.prod]`.
        table: String,
        /// The known key with the most similar name.
        nearest: Option<String>,
        /// All known keys of the table.
        known: Vec<String>,
    },
    /// A secret is in the file itself.
    #[error(
        "{}: line {line}: {key:?} in {table} puts a secret into the file itself, use {instead} (with auth.type = {auth_type:?}) instead",
        file.display()
    )]
    InlineSecret {
        /// The path of the file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The table that contains the key.
        table: String,
        /// The keys that name the source of a secret instead.
        instead: &'static str,
        /// The `type` of `auth` that these keys belong to.
        auth_type: &'static str,
    },
    /// A value is invalid for its key.
    #[error("{}: line {line}: {key:?} in {table} must be {expected}", file.display())]
    InvalidValue {
        /// The path of the file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The table that contains the key.
        table: String,
        /// The expected value.
        expected: String,
    },
    /// A required key is missing.
    #[error("{}: {table} needs {needed}", file.display())]
    MissingKey {
        /// The path of the file.
        file: PathBuf,
        /// The table in which the key is missing.
        table: String,
        /// The missing key, or keys of which one is required.
        needed: String,
    },
    /// Two keys of one table exclude each other.
    #[error("{}: {table} has both {first:?} and {second:?}, set only one of them", file.display())]
    Conflict {
        /// The path of the file.
        file: PathBuf,
        /// The table that contains the keys.
        table: String,
        /// The first key.
        first: &'static str,
        /// The second key.
        second: &'static str,
    },
    /// A URL in `nodes` is invalid.
    #[error("{}: line {line}: node {index} of {table}: {problem}{}", file.display(), secret_keys(*problem))]
    Node {
        /// The path of the file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The position in `nodes`, from 1.
        index: usize,
        /// The table that contains `nodes`.
        table: String,
        /// What is wrong with the URL.
        problem: UrlProblem,
    },
}

fn hint(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(nearest) => format!(", did you mean {nearest:?}?"),
        None => {
            let known: Vec<String> = known.iter().map(|key| format!("{key:?}")).collect();
            format!(", known are {}", known.join(", "))
        }
    }
}

/// Returns the keys for a part that a URL must not contain.
fn secret_keys(problem: UrlProblem) -> &'static str {
    match problem {
        UrlProblem::Credentials => " (username with password_env or password_file)",
        _ => "",
    }
}
