//! The text of a configuration file.

use std::path::Path;

use arbitrary::{Result, Unstructured};
use flowsigma_node::{Config, ConfigFileError};

use crate::json::one_of;

/// Stands only where a value stands, and so in no message.
const SECRET: &str = "hunter2";

const TABLES: &[&str] = &[
    "[connections]",
    "[connections.prod]",
    "[connections.\"a.b\"]",
    "[connections.prod.auth]",
    "[connections.prod.tls]",
    "[connections.prod.headers]",
    "[connections.prod.proxy_auth]",
    "[cluster]",
    "[cluster.tls]",
    "[[connections.prod]]",
    "[cluster.tls.x]",
];
const KEYS: &[&str] = &[
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
    "type",
    "username",
    "password",
    "password_env",
    "password_file",
    "key",
    "key_env",
    "key_file",
    "api_key",
    "token",
    "token_env",
    "token_file",
    "ca_file",
    "ca_fingerprint",
    "verify",
    "client_cert_file",
    "client_key_file",
    "cert_file",
    "env",
    "file",
    "x-opaque-id",
    "authorization",
    "x-token",
    "passwrd",
    "auth.type",
    "tls.verify",
    "\"\"",
    "\"a b\"",
];
const VALUES: &[&str] = &[
    "\"hunter2\"",
    "hunter2",
    "'hunter2'",
    "[\"hunter2\"]",
    "[\"https://u:hunter2@es1\"]",
    "\"https://u:hunter2@proxy\"",
    "\"hunter2 hunter2\"",
    "\"\"\"\nhunter2\n\"\"\"",
    "{ type = \"hunter2\" }",
    "{ type = \"basic\", password = \"hunter2\" }",
    "{ type = \"basic\", username = \"u\", password_env = \"hunter2!\" }",
    "{ env = \"hunter2$\" }",
    "\"name:hunter2\"",
    "[\"https://es1:9200\"]",
    "[]",
    "[1]",
    "{ type = \"bearer\", token_file = \"t\" }",
    "\"60s\"",
    "\"0s\"",
    "\"99999999999999999999h\"",
    "\"18446744073709551h\"",
    "\"basic\"",
    "true",
    "false",
    "8",
    "0",
    "-1",
    "+0x1_0",
    "0x_",
    "99999999999999999999",
    "1e400",
    "1979-05-27T07:32:00Z",
    "\"name:aG9zdCRlcw==\"",
    "\"name:aG9zdDo5OTk5OTkkZXM\"",
    "{}",
    "{ a = 1, a = 2 }",
    "[[[[]]]]",
    "\"\\u00e9\\uD800\"",
    "\"\u{e9}\"",
    "",
];

const RIGHT: &[&str] = &[
    "nodes = [\"https://es1:9200\"]",
    "cloud_id = \"name:aG9zdCRlcw==\"",
    "timeout = \"60s\"",
    "deadline = \"5m\"",
    "max_requests = 8",
    "auth = { type = \"basic\", username = \"u\", password_env = \"P\" }",
    "type = \"api_key\"",
    "tls = {}",
    "headers = { x-opaque-id = \"flows\" }",
    "proxy = \"http://proxy:3128\"",
    "key_file = \"k\"",
    "username = \"u\"",
];

/// A text as it is, and one of our keys and of values that all hold a secret.
pub fn config(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = check_text(text);
    }
    let mut u = Unstructured::new(data);
    let Ok(text) = make(&mut u) else { return };
    check_secret(&text);
    let cut = u.choose_index(text.len() + 1).unwrap_or_default();
    if let Some(text) = text.get(..cut) {
        check_secret(text);
    }
}

fn check_text(text: &str) -> std::result::Result<(), ConfigFileError> {
    let config = Config::parse(text, Path::new("/etc/flowsigma/flowsigma.toml"))?;
    for connection in config.connections.values() {
        assert!(!connection.nodes.is_empty(), "{text}");
        for node in connection.nodes.iter().chain(connection.proxy.as_ref().map(|proxy| &proxy.url)) {
            assert!(node.path().ends_with('/') && node.username().is_empty(), "{node} of {text}");
            assert!(node.host_str().is_some_and(|host| !host.is_empty()), "{node} of {text}");
            assert!(node.password().is_none() && node.query().is_none(), "{node} of {text}");
        }
    }
    Ok(())
}

fn check_secret(text: &str) {
    let Err(error) = check_text(text) else { return };
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(SECRET), "{shown}\nfor\n{text}");
}

/// A few lines, half of them right.
fn make(u: &mut Unstructured<'_>) -> Result<String> {
    let mut text = String::new();
    for _ in 0..u.int_in_range(1..=8)? {
        match u.int_in_range(0..=4)? {
            0 => text.push_str(one_of(u, TABLES)?),
            1 | 2 => text.push_str(one_of(u, RIGHT)?),
            _ => {
                text.push_str(one_of(u, KEYS)?);
                text.push_str(" = ");
                text.push_str(one_of(u, VALUES)?);
            }
        }
        text.push('\n');
    }
    Ok(if u.ratio(3, 4)? { format!("[connections.prod]\n{text}") } else { text })
}
