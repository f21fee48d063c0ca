//! Text of a configuration file → [`Config`]. Pure: no file is read here.
//!
//! Values are taken from the TOML tree by hand rather than by serde, whose errors quote the value they reject.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};
use url::Url;

use super::error::{UrlProblem, nearest};
use super::{Auth, Config, ConfigError, ConnectionConfig, SecretSource, Tls, Verify};

const ROOT_KEYS: &[&str] = &["connections"];
const CONNECTION_KEYS: &[&str] = &["nodes", "auth", "tls", "server", "max_requests", "timeout"];
const TLS_KEYS: &[&str] = &["ca_file", "verify"];
const BASIC_KEYS: &[&str] = &["type", "username", "password_env", "password_file"];
const API_KEY_KEYS: &[&str] = &["type", "key_env", "key_file"];
const BEARER_KEYS: &[&str] = &["type", "token_env", "token_file"];

const PASSWORD: (&str, &str) = ("password_env or password_file", "basic");
const API_KEY: (&str, &str) = ("key_env or key_file", "api_key");
const TOKEN: (&str, &str) = ("token_env or token_file", "bearer");
/// Keys under which people write a secret itself, and where it belongs instead.
const INLINE_SECRETS: &[(&str, (&str, &str))] = &[
    ("password", PASSWORD),
    ("passwd", PASSWORD),
    ("pass", PASSWORD),
    ("secret", PASSWORD),
    ("api_key", API_KEY),
    ("apikey", API_KEY),
    ("key", API_KEY),
    ("token", TOKEN),
    ("bearer", TOKEN),
];

pub(super) fn parse_config(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let root = DeTable::parse(text).map_err(|error| {
        let (line, column) = position(text, error.span().map_or(text.len(), |span| span.start));
        ConfigError::Syntax { file: path.to_owned(), line, column, expected: error.message().to_owned() }
    })?;
    let root = Table { file: path, text, name: String::new(), entries: root.get_ref() };
    root.check_keys(ROOT_KEYS)?;
    let mut connections = BTreeMap::new();
    if let Some(tables) = root.table("connections")? {
        for (name, value) in tables.entries.iter() {
            let name = name.get_ref().to_string();
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
                let expected = "a connection name of letters, digits, \"_\", \"-\" and \".\"".to_owned();
                return Err(tables.invalid_at(&name, value.span(), expected));
            }
            let connection = parse_connection(&tables.required_table(&name)?)?;
            connections.insert(name, connection);
        }
    }
    Ok(Config { connections, file: Some(path.to_owned()) })
}

/// Checks that `text` is a node, and makes its path end in `/`.
pub(super) fn parse_node(text: &str) -> Result<Url, UrlProblem> {
    let mut url = Url::parse(text).map_err(UrlProblem::Malformed)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlProblem::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlProblem::Credentials);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(UrlProblem::QueryOrFragment);
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

fn parse_connection(table: &Table<'_>) -> Result<ConnectionConfig, ConfigError> {
    table.check_keys(CONNECTION_KEYS)?;
    let auth = match table.table("auth")? {
        Some(auth) => parse_auth(&auth)?,
        None => Auth::None,
    };
    let tls = match table.table("tls")? {
        Some(tls) => parse_tls(&tls)?,
        None => Tls::default(),
    };
    let max_requests = table.take("max_requests", "a whole number from 1 up", |value| match value {
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            usize::from_str_radix(digits.trim_start_matches('+'), number.radix())
                .ok()
                .and_then(NonZeroUsize::new)
        }
        _ => None,
    })?;
    let timeout =
        table.take("timeout", "a duration above zero like \"500ms\", \"60s\" or \"2m\"", |value| {
            value.as_str().and_then(parse_duration)
        })?;
    Ok(ConnectionConfig {
        nodes: parse_nodes(table)?,
        auth,
        tls,
        server: table.text("server")?,
        max_requests,
        timeout,
    })
}

fn parse_nodes(table: &Table<'_>) -> Result<Vec<Url>, ConfigError> {
    let expected = "a list of one or more URLs like [\"https://host:9200\"]";
    let Some(value) = table.entries.get("nodes") else {
        return Err(table.missing("\"nodes\""));
    };
    let DeValue::Array(items) = value.get_ref() else {
        return Err(table.invalid_at("nodes", value.span(), expected.to_owned()));
    };
    let mut nodes = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let Some(text) = item.get_ref().as_str() else {
            return Err(table.invalid_at("nodes", item.span(), expected.to_owned()));
        };
        nodes.push(parse_node(text).map_err(|problem| ConfigError::Node {
            file: table.file.to_owned(),
            line: table.line(item.span()),
            index: index + 1,
            table: table.to_string(),
            problem,
        })?);
    }
    if nodes.is_empty() {
        return Err(table.invalid_at("nodes", value.span(), expected.to_owned()));
    }
    Ok(nodes)
}

fn parse_auth(table: &Table<'_>) -> Result<Auth, ConfigError> {
    table.refuse_inline_secrets()?;
    let Some(kind) = table.take("type", "\"basic\", \"api_key\" or \"bearer\"", |value| {
        value.as_str().filter(|kind| ["basic", "api_key", "bearer"].contains(kind)).map(str::to_owned)
    })?
    else {
        return Err(table.missing("\"type\", which is \"basic\", \"api_key\" or \"bearer\""));
    };
    match kind.as_str() {
        "basic" => {
            table.check_keys(BASIC_KEYS)?;
            let Some(username) = table.text("username")? else {
                return Err(table.missing("\"username\""));
            };
            Ok(Auth::Basic { username, password: table.secret("password_env", "password_file")? })
        }
        "api_key" => {
            table.check_keys(API_KEY_KEYS)?;
            Ok(Auth::ApiKey { key: table.secret("key_env", "key_file")? })
        }
        _ => {
            table.check_keys(BEARER_KEYS)?;
            Ok(Auth::Bearer { token: table.secret("token_env", "token_file")? })
        }
    }
}

fn parse_tls(table: &Table<'_>) -> Result<Tls, ConfigError> {
    table.check_keys(TLS_KEYS)?;
    let verify = table.take("verify", "true or false", |value| match value {
        DeValue::Boolean(true) => Some(Verify::Full),
        DeValue::Boolean(false) => Some(Verify::Off),
        _ => None,
    })?;
    Ok(Tls { ca_file: table.path("ca_file")?, verify: verify.unwrap_or_default() })
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit.trim_start() {
        "ms" => number,
        "s" => number.checked_mul(1_000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        _ => return None,
    };
    (millis > 0).then(|| Duration::from_millis(millis))
}

/// Line and column of a byte of `text`, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// One table of the file, and what a message about it needs.
struct Table<'a> {
    file: &'a Path,
    text: &'a str,
    /// The dotted path; empty for the file's top level.
    name: String,
    entries: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    fn check_keys(&self, known: &[&str]) -> Result<(), ConfigError> {
        if !std::ptr::eq(known, TLS_KEYS) {
            self.refuse_inline_secrets()?;
        }
        for key in self.entries.keys() {
            let key = key.get_ref().as_ref();
            if !known.contains(&key) {
                return Err(ConfigError::UnknownKey {
                    file: self.file.to_owned(),
                    key: key.to_owned(),
                    table: self.to_string(),
                    nearest: nearest(key, known.iter().copied()),
                    known: known.iter().map(|&known| known.to_owned()).collect(),
                });
            }
        }
        Ok(())
    }

    fn refuse_inline_secrets(&self) -> Result<(), ConfigError> {
        for (key, value) in self.entries.iter() {
            let lower = key.get_ref().to_lowercase().replace('-', "_");
            let Some((_, (instead, auth_type))) = INLINE_SECRETS.iter().find(|(name, _)| *name == lower)
            else {
                continue;
            };
            return Err(ConfigError::InlineSecret {
                file: self.file.to_owned(),
                line: self.line(value.span()),
                key: key.get_ref().to_string(),
                table: self.to_string(),
                instead,
                auth_type,
            });
        }
        Ok(())
    }

    /// The value under `key` as `read` understands it; `None` of `read` is an error that says what was expected.
    fn take<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a DeValue<'a>) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.entries.get(key) else {
            return Ok(None);
        };
        match read(value.get_ref()) {
            Some(taken) => Ok(Some(taken)),
            None => Err(self.invalid_at(key, value.span(), expected.to_owned())),
        }
    }

    fn text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        self.take(key, "a text that is not empty", |value| {
            value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned)
        })
    }

    /// A path, which starts at the file's own folder.
    fn path(&self, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        let folder = self.file.parent().unwrap_or(Path::new(""));
        Ok(self.text(key)?.map(|path| folder.join(path)))
    }

    fn table(&self, key: &str) -> Result<Option<Table<'a>>, ConfigError> {
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{}", self.name, bare(key)) };
        self.take(key, "a table", |value| {
            value.as_table().map(|entries| Table { file: self.file, text: self.text, name, entries })
        })
    }

    fn required_table(&self, key: &str) -> Result<Table<'a>, ConfigError> {
        self.table(key)?.ok_or_else(|| self.missing(&format!("{key:?}")))
    }

    fn secret(&self, env_key: &'static str, file_key: &'static str) -> Result<SecretSource, ConfigError> {
        // Whoever writes the secret itself here must not find it in a message about a variable that is not set.
        let variable = self.take(env_key, "the name of an environment variable", |value| {
            value.as_str().filter(|name| is_variable_name(name)).map(str::to_owned)
        })?;
        match (variable, self.path(file_key)?) {
            (Some(variable), None) => Ok(SecretSource::Env(variable)),
            (None, Some(path)) => Ok(SecretSource::File(path)),
            (None, None) => Err(self.missing(&format!("{env_key:?} or {file_key:?}"))),
            (Some(_), Some(_)) => Err(ConfigError::Conflict {
                file: self.file.to_owned(),
                table: self.to_string(),
                first: env_key,
                second: file_key,
            }),
        }
    }

    fn missing(&self, needed: &str) -> ConfigError {
        ConfigError::MissingKey {
            file: self.file.to_owned(),
            table: self.to_string(),
            needed: needed.to_owned(),
        }
    }

    fn invalid_at(&self, key: &str, span: Range<usize>, expected: String) -> ConfigError {
        ConfigError::InvalidValue {
            file: self.file.to_owned(),
            line: self.line(span),
            key: key.to_owned(),
            table: self.to_string(),
            expected,
        }
    }

    fn line(&self, span: Range<usize>) -> usize {
        position(self.text, span.start).0
    }
}

impl std::fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name.is_empty() { f.write_str("the top level") } else { write!(f, "[{}]", self.name) }
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A key as TOML wants it inside a dotted path.
fn bare(key: &str) -> String {
    if key.contains('.') { format!("{key:?}") } else { key.to_owned() }
}
