//! Parses the text of a configuration file to a [`Config`]. Pure: it reads no file. Owns: the known keys and the
//! form of their values.
//!
//! Values are taken from the TOML tree without serde, because its errors quote the rejected value.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use toml::de::{DeTable, DeValue};
use url::Url;

use super::access::{parse_access, parse_files, texts};
use super::table::{Table, position};
use super::{ClusterMembers, ClusterTls, ClusterToken, Config, ConfigFileError};
use elastic_client::{
    Access, Auth, ClientCertificate, ConnectionConfig, Fingerprint, HeaderSource, Proxy, Tls, Verify,
    parse_cloud_id, parse_node,
};

const ROOT_KEYS: &[&str] = &["connections", "cluster", "access", "files"];
const CLUSTER_KEYS: &[&str] = &["tls", "schedulers", "executors", "token_env", "token_file"];
const CLUSTER_TLS_KEYS: &[&str] = &["ca_file", "cert_file", "key_file"];
const CONNECTION_KEYS: &[&str] = &[
    "nodes",
    "cloud_id",
    "auth",
    "tls",
    "proxy",
    "proxy_auth",
    "headers",
    "server",
    "max_requests",
    "timeout",
    "deadline",
    "write",
];
const TLS_KEYS: &[&str] = &["ca_file", "ca_fingerprint", "client_cert_file", "client_key_file", "verify"];
const PROXY_AUTH_KEYS: &[&str] = &["username", "password_env", "password_file"];
const HEADER_KEYS: &[&str] = &["env", "file"];
/// Headers that the client sets itself.
const OUR_HEADERS: &[&str] = &[
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
];
/// Parts of header names whose values are secrets.
const SECRET_HEADERS: &[&str] = &["auth", "cookie", "key", "password", "secret", "token"];
const BASIC_KEYS: &[&str] = &["type", "username", "password_env", "password_file"];
const API_KEY_KEYS: &[&str] = &["type", "key_env", "key_file"];
const BEARER_KEYS: &[&str] = &["type", "token_env", "token_file"];

pub(super) fn parse_config(text: &str, path: &Path) -> Result<Config, ConfigFileError> {
    let root = DeTable::parse(text).map_err(|error| {
        let (line, column) = position(text, error.span().map_or(text.len(), |span| span.start));
        ConfigFileError::Syntax { file: path.to_owned(), line, column, expected: error.message().to_owned() }
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
    let cluster = match root.table("cluster")? {
        Some(cluster) => parse_cluster(&cluster)?,
        None => Cluster { tls: None, token: None, members: ClusterMembers::default() },
    };
    let mut access = BTreeMap::new();
    if let Some(tables) = root.table("access")? {
        for name in tables.entries.keys() {
            let name = name.get_ref().as_ref();
            access.insert(name.to_owned(), parse_access(&tables.required_table(name)?, name)?);
        }
    }
    let files = root.table("files")?.map(|files| parse_files(&files)).transpose()?;
    let Cluster { tls: cluster_tls, token: cluster_token, members } = cluster;
    let file = Some(path.to_owned());
    Ok(Config { connections, cluster_tls, cluster_token, members, access, files, file })
}

fn parse_connection(table: &Table<'_>) -> Result<ConnectionConfig, ConfigFileError> {
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
    let writes = table.take("write", "true or false", DeValue::as_bool)?;
    let access = if writes == Some(true) { Access::Write } else { Access::Read };
    let duration = |key: &str| {
        table.take(key, "a duration above zero like \"500ms\", \"60s\" or \"2m\"", |value| {
            value.as_str().and_then(parse_duration)
        })
    };
    Ok(ConnectionConfig {
        nodes: parse_nodes(table)?,
        auth,
        tls,
        proxy: parse_proxy(table)?,
        headers: parse_headers(table)?,
        server: table.text("server")?,
        max_requests,
        access,
        timeout: duration("timeout")?,
        deadline: duration("deadline")?,
    })
}

fn parse_nodes(table: &Table<'_>) -> Result<Vec<Url>, ConfigFileError> {
    let expected = "a list of one or more URLs like [\"https://host:9200\"]";
    let cloud_id =
        table.take("cloud_id", "an id like \"name:…\", as the cloud's console shows it", |value| {
            value.as_str().and_then(parse_cloud_id)
        })?;
    let value = match (table.entries.get("nodes"), cloud_id) {
        (Some(value), None) => value,
        (None, Some(node)) => return Ok(vec![node]),
        (Some(_), Some(_)) => return Err(table.conflict("nodes", "cloud_id")),
        (None, None) => return Err(table.missing("\"nodes\" or \"cloud_id\"")),
    };
    let DeValue::Array(items) = value.get_ref() else {
        return Err(table.invalid_at("nodes", value.span(), expected.to_owned()));
    };
    let mut nodes = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let Some(text) = item.get_ref().as_str() else {
            return Err(table.invalid_at("nodes", item.span(), expected.to_owned()));
        };
        nodes.push(parse_node(text).map_err(|problem| ConfigFileError::Node {
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

fn parse_auth(table: &Table<'_>) -> Result<Auth, ConfigFileError> {
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

fn parse_tls(table: &Table<'_>) -> Result<Tls, ConfigFileError> {
    table.check_plain_keys(TLS_KEYS)?;
    let checked = table.take("verify", "true or false", |value| match value {
        DeValue::Boolean(checked) => Some(*checked),
        _ => None,
    })?;
    let fingerprint =
        table.take("ca_fingerprint", "a SHA-256 in 64 hexadecimal digits, colons allowed", |value| {
            value.as_str().and_then(Fingerprint::parse)
        })?;
    let ca_file = table.path("ca_file")?;
    let verify = match (checked, fingerprint) {
        (Some(false), Some(_)) => return Err(table.conflict("verify", "ca_fingerprint")),
        (_, Some(_)) if ca_file.is_some() => return Err(table.conflict("ca_file", "ca_fingerprint")),
        (_, Some(fingerprint)) => Verify::Fingerprint(fingerprint),
        (Some(false), None) => Verify::Off,
        (Some(true) | None, None) => Verify::Full,
    };
    let client = match (table.path("client_cert_file")?, table.path("client_key_file")?) {
        (Some(cert_file), Some(key_file)) => Some(ClientCertificate { cert_file, key_file }),
        (None, None) => None,
        (Some(_), None) => return Err(table.missing("\"client_key_file\" beside \"client_cert_file\"")),
        (None, Some(_)) => return Err(table.missing("\"client_cert_file\" beside \"client_key_file\"")),
    };
    Ok(Tls { ca_file, verify, client })
}

fn parse_proxy(table: &Table<'_>) -> Result<Option<Proxy>, ConfigFileError> {
    let auth = match table.table("proxy_auth")? {
        Some(auth) => {
            auth.check_keys(PROXY_AUTH_KEYS)?;
            let Some(username) = auth.text("username")? else {
                return Err(auth.missing("\"username\""));
            };
            Some((username, auth.secret("password_env", "password_file")?))
        }
        None => None,
    };
    let expected = "a URL like \"http://proxy:3128\" without credentials, which go into proxy_auth";
    let url = table.take("proxy", expected, |value| value.as_str().and_then(|text| parse_node(text).ok()))?;
    match (url, auth) {
        (Some(url), auth) => Ok(Some(Proxy { url, auth })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(table.missing("\"proxy\" beside \"proxy_auth\"")),
    }
}

fn parse_headers(table: &Table<'_>) -> Result<BTreeMap<String, HeaderSource>, ConfigFileError> {
    let mut headers = BTreeMap::new();
    let Some(table) = table.table("headers")? else { return Ok(headers) };
    for (name, value) in table.entries.iter() {
        let name = name.get_ref().as_ref();
        let lower = name.to_ascii_lowercase();
        let invalid = |expected: &str| table.invalid_at(name, value.span(), expected.to_owned());
        if lower == "authorization" || OUR_HEADERS.contains(&lower.as_str()) {
            return Err(invalid("left out: the client sets it, from auth or for each request"));
        }
        if http::HeaderName::try_from(name).is_err() {
            return Err(invalid("under the name of a header"));
        }
        let source = if let Some(secret) = table.inner(name, value.get_ref()) {
            secret.check_plain_keys(HEADER_KEYS)?;
            HeaderSource::Secret(secret.secret("env", "file")?)
        } else if SECRET_HEADERS.iter().any(|part| lower.contains(part)) {
            return Err(invalid("{ env = … } or { file = … }: by its name it is a secret"));
        } else {
            let text = value.get_ref().as_str().filter(|text| http::HeaderValue::from_str(text).is_ok());
            let expected = "a text that a header may hold, or for a secret { env = … } or { file = … }";
            HeaderSource::Text(text.ok_or_else(|| invalid(expected))?.to_owned())
        };
        headers.insert(lower, source);
    }
    Ok(headers)
}

/// The values of `[cluster]`.
struct Cluster {
    tls: Option<ClusterTls>,
    token: Option<ClusterToken>,
    members: ClusterMembers,
}

fn parse_cluster(table: &Table<'_>) -> Result<Cluster, ConfigFileError> {
    table.check_keys(CLUSTER_KEYS)?;
    let members =
        ClusterMembers { schedulers: texts(table, "schedulers")?, executors: texts(table, "executors")? };
    let has_token = ["token_env", "token_file"].iter().any(|key| table.entries.contains_key(*key));
    let Some(tls) = table.table("tls")? else {
        if has_token {
            return Err(table.missing("\"tls = { ca_file = … }\" beside the token"));
        }
        return Ok(Cluster { tls: None, token: None, members });
    };
    tls.check_plain_keys(CLUSTER_TLS_KEYS)?;
    let file = |key: &str| tls.path(key)?.ok_or_else(|| tls.missing(&format!("{key:?}")));
    let ca_file = file("ca_file")?;
    if has_token {
        if let Some(key) = ["cert_file", "key_file"].into_iter().find(|key| tls.entries.contains_key(*key)) {
            return Err(tls.missing(&format!("either {key:?} or a token")));
        }
        let token = Some(ClusterToken { ca_file, token: table.secret("token_env", "token_file")? });
        return Ok(Cluster { tls: None, token, members });
    }
    let tls = ClusterTls { ca_file, cert_file: file("cert_file")?, key_file: file("key_file")? };
    Ok(Cluster { tls: Some(tls), token: None, members })
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
