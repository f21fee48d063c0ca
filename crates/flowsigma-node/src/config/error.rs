//! What can be wrong with a configuration file. No message holds a value or a line of the file: either may be a secret.

use elastic_client::UrlProblem;
use std::io;
use std::path::PathBuf;

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigFileError {
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
    #[error("{}: line {line}: node {index} of {table}: {problem}{}", file.display(), secret_keys(*problem))]
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

/// The keys of the file that take what a URL must not hold.
fn secret_keys(problem: UrlProblem) -> &'static str {
    match problem {
        UrlProblem::Credentials => " (username with password_env or password_file)",
        _ => "",
    }
}
