//! The configured headers of every request, and the proxy, with their secrets.
//!
//! Owns: reading these secrets, and marking them as sensitive so that no log shows them. Must not know: requests.

use crate::config::{Auth, ConnectionConfig, HeaderSource, Proxy, SecretSource};
use crate::error::Error;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

/// Adds the `Authorization` header and the configured `headers`.
pub(crate) fn add_configured(
    name: &str,
    config: &ConnectionConfig,
    headers: &mut HeaderMap,
) -> Result<(), Error> {
    if let Some(value) = authorization(name, &config.auth)? {
        headers.insert(AUTHORIZATION, value);
    }
    for (header, source) in &config.headers {
        let refused = || {
            Error::Refused(format!(
                "connection \"{name}\": the value of header \"{header}\" contains a character that a header \
                 must not contain"
            ))
        };
        let value = match source {
            HeaderSource::Text(text) => HeaderValue::try_from(text).map_err(|_| refused())?,
            HeaderSource::Secret(source) => {
                secret(read(name, source)?.expose_secret()).ok_or_else(refused)?
            }
        };
        headers.insert(HeaderName::try_from(header).map_err(|_| refused())?, value);
    }
    Ok(())
}

/// Returns the proxy in the type of the transport.
pub(crate) fn proxy(name: &str, proxy: &Proxy) -> Result<reqwest::Proxy, Error> {
    let made = reqwest::Proxy::all(proxy.url.clone())
        .map_err(|e| Error::Refused(format!("connection \"{name}\": proxy: {}", e.without_url())))?;
    match &proxy.auth {
        Some((username, password)) => Ok(made.basic_auth(username, read(name, password)?.expose_secret())),
        None => Ok(made),
    }
}

/// Returns the `Authorization` header of the configured credentials.
fn authorization(name: &str, auth: &Auth) -> Result<Option<HeaderValue>, Error> {
    let text = match auth {
        Auth::None => return Ok(None),
        Auth::Basic { username, password } => {
            let pair = format!("{username}:{}", read(name, password)?.expose_secret());
            format!("Basic {}", BASE64.encode(pair))
        }
        Auth::ApiKey { key } => format!("ApiKey {}", read(name, key)?.expose_secret()),
        Auth::Bearer { token } => format!("Bearer {}", read(name, token)?.expose_secret()),
    };
    match secret(&text) {
        Some(value) => Ok(Some(value)),
        None => Err(Error::Refused(format!(
            "connection \"{name}\": the secret of auth contains a character that a header must not contain"
        ))),
    }
}

fn read(connection: &str, source: &SecretSource) -> Result<SecretString, Error> {
    source.read().map_err(|e| Error::Refused(format!("connection \"{connection}\": {e}")))
}

/// Returns a header value that the transport does not log, or `None` if a header must not contain the text.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
