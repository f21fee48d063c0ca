//! The identities that may submit jobs to a cluster, and their grants.
//!
//! Owns: `[access.NAME]` and `[files]`, and matching connections and index expressions with them. Pure. Must not
//! know: how a caller authenticates, or the target of a path.

use super::ConfigFileError;
use super::table::Table;
use elastic_client::Fingerprint;
use std::path::PathBuf;
use toml::de::DeValue;

const ACCESS_KEYS: &[&str] =
    &["certificate", "token_sha256", "connections", "indices", "read", "write", "jobs"];
const FILES_KEYS: &[&str] = &["read", "write"];

/// The pattern for everything, in a list of names or patterns.
const ALL: &str = "*";

/// An identity, with its credentials and grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The common name of its certificate.
    pub certificate: String,
    /// The SHA-256 of its bearer token; `None` if it has no token.
    pub token_sha256: Option<Fingerprint>,
    /// The grants of the identity.
    pub grants: Grants,
}

/// What an identity may read and write. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// The names of granted connections; `*` grants every connection.
    pub connections: Vec<String>,
    /// The patterns of granted index names; `*` stands for any text.
    pub indices: Vec<String>,
    /// The folders and files that may be read.
    pub read: Vec<PathBuf>,
    /// The folders that may be written to.
    pub write: Vec<PathBuf>,
    /// Whose jobs the identity may see, fetch and cancel.
    pub jobs: Jobs,
}

/// Whose jobs an identity may see, fetch and cancel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Jobs {
    /// Jobs that the identity submitted.
    #[default]
    Own,
    /// Jobs of all identities.
    All,
}

/// The files that tasks in this process may read and write, for jobs of all identities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileRoots {
    /// The folders and files that may be read.
    pub read: Vec<PathBuf>,
    /// The folders that may be written to.
    pub write: Vec<PathBuf>,
}

impl Grants {
    /// Grants every connection, index and file, and all jobs: for the account that runs the cluster.
    pub fn everything() -> Self {
        let root = || vec![PathBuf::from("/")];
        Self { read: root(), write: root(), ..Self::every_index() }
    }

    /// Grants every connection and index, and all jobs, but no file.
    pub fn every_index() -> Self {
        let all = || vec![ALL.to_owned()];
        Self { connections: all(), indices: all(), jobs: Jobs::All, ..Self::default() }
    }

    /// Whether the connection with this name is granted.
    pub fn covers_connection(&self, name: &str) -> bool {
        self.connections.iter().any(|granted| granted == ALL || granted == name)
    }

    /// Whether all indices are granted.
    pub fn covers_every_index(&self) -> bool {
        self.indices.iter().any(|granted| granted == ALL)
    }

    /// Whether an index expression can only reach granted indices. The expression is a name, a pattern, an alias,
    /// or several of them separated by commas.
    ///
    /// A pattern is granted if a granted pattern matches its text, including its stars: it then matches every name
    /// that the pattern matches. An excluded part (`-name`) only removes names.
    pub fn covers_index(&self, expression: &str) -> bool {
        if self.covers_every_index() {
            return true;
        }
        expression.split(',').enumerate().all(|(place, part)| {
            let part = part.trim();
            let excluded = place > 0 && part.starts_with('-');
            // The server resolves date math, and `_all` means every index.
            let named = !part.is_empty() && part != "_all" && !part.contains(['<', '>', '%', '/', ':']);
            excluded || (named && self.indices.iter().any(|granted| matches(granted, part)))
        })
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

pub(super) fn parse_access(table: &Table<'_>, name: &str) -> Result<Access, ConfigFileError> {
    table.check_plain_keys(ACCESS_KEYS)?;
    let jobs = table.take("jobs", "\"own\" or \"all\"", |value| match value.as_str() {
        Some("own") => Some(Jobs::Own),
        Some("all") => Some(Jobs::All),
        _ => None,
    })?;
    let token = "the SHA-256 of a token, in 64 hexadecimal digits (printf %s TOKEN | sha256sum)";
    Ok(Access {
        certificate: table.text("certificate")?.unwrap_or_else(|| name.to_owned()),
        token_sha256: table
            .take("token_sha256", token, |value| value.as_str().and_then(Fingerprint::parse))?,
        grants: Grants {
            connections: texts(table, "connections")?,
            indices: texts(table, "indices")?,
            read: roots(table, "read")?,
            write: roots(table, "write")?,
            jobs: jobs.unwrap_or_default(),
        },
    })
}

pub(super) fn parse_files(table: &Table<'_>) -> Result<FileRoots, ConfigFileError> {
    table.check_plain_keys(FILES_KEYS)?;
    Ok(FileRoots { read: roots(table, "read")?, write: roots(table, "write")? })
}

/// Returns the texts of a list; empty if the key is missing.
pub(super) fn texts(table: &Table<'_>, key: &str) -> Result<Vec<String>, ConfigFileError> {
    let list = table.take(key, "a list of texts, none of them empty", |value| match value {
        DeValue::Array(items) => items
            .iter()
            .map(|item| item.get_ref().as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned))
            .collect::<Option<Vec<_>>>(),
        _ => None,
    })?;
    Ok(list.unwrap_or_default())
}

/// Parses a list of absolute paths. A relative path would mean a different folder in each process.
fn roots(table: &Table<'_>, key: &str) -> Result<Vec<PathBuf>, ConfigFileError> {
    let list = table.take(key, "a list of absolute paths", |value| match value {
        DeValue::Array(items) => items
            .iter()
            .map(|item| item.get_ref().as_str().map(PathBuf::from).filter(|path| path.is_absolute()))
            .collect::<Option<Vec<_>>>(),
        _ => None,
    })?;
    Ok(list.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(granted: &[&str]) -> Grants {
        Grants { indices: granted.iter().map(|&name| name.to_owned()).collect(), ..Grants::default() }
    }

    #[test]
    fn an_expression_reaches_only_what_is_granted() {
        let grants = indices(&["flows-*", "dns", "*-public", "a*b*c"]);
        for expression in [
            "flows-2026",
            "flows-*",
            "flows-2026*",
            "dns",
            "dns,flows-1",
            "x-public",
            "*-public",
            "flows-*,-flows-2025",
            "abc",
            "a*bc",
            "aXXbYYc",
        ] {
            assert!(grants.covers_index(expression), "{expression}");
        }
        for expression in [
            "",
            "*",
            "_all",
            "flows",
            "f*",
            "flows-1,secret",
            "dns*",
            "dn?",
            "secret",
            "-flows-1",
            "flows-1,",
            "<flows-{now/d}>",
            "other:flows-1",
            "flows-1%2C%2Fsecret",
            "flows-/../_cat",
            "ab",
            "ac",
            "acb",
        ] {
            assert!(!grants.covers_index(expression), "{expression}");
        }
        assert!(indices(&["*"]).covers_index("<flows-{now/d}>"));
        assert!(!Grants::default().covers_index("flows"));
    }

    #[test]
    fn a_connection_is_granted_by_its_name() {
        let grants = Grants { connections: vec!["prod".into()], ..Grants::default() };
        assert!(grants.covers_connection("prod"));
        assert!(!grants.covers_connection("lab"));
        assert!(Grants::everything().covers_connection("lab"));
        assert!(!Grants::default().covers_connection("prod"));
    }
}
