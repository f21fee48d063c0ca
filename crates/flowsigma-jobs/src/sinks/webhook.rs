//! Findings sent to an HTTP endpoint.
//!
//! Owns: the request, its signature and its retries. Must not know: what the endpoint does with findings.
//!
//! No redirect is followed and no proxy of the environment is used, so that findings go only to the host that the job
//! file names. An error names only the origin of the URL: credentials are often in the path or the query.

use super::{failed, signature};
use crate::alert::Alert;
use crate::error::Result;
use crate::manifest::{Manifest, WindowTimes};
use crate::sink::Sink;
use async_trait::async_trait;
use bytes::Bytes;
use elastic_client::{RetryPolicy, SecretSource};
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use secrecy::SecretString;
use serde::Serialize;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// An endpoint that accepts no connection within this time counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time for one attempt.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Sends the findings of a window as one POST with a JSON object: `job`, `window`, `revision` and `alerts`.
///
/// After a connection error, status 429 or a status from 500 the request is repeated with exponential back-off and
/// jitter, at most five times. The endpoint may get the same findings several times, always with the same header
/// `Idempotency-Key: JOB/START/REVISION`. With a secret, the header `X-Flowsigma-Signature: sha256=HEX` has the
/// HMAC-SHA256 of the body.
pub struct WebhookSink {
    name: String,
    url: Url,
    secret: Option<SecretString>,
    client: reqwest::Client,
    retry: RetryPolicy,
}

impl std::fmt::Debug for WebhookSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookSink").field("name", &self.name).field("origin", &origin(&self.url)).finish()
    }
}

/// The body of a request.
#[derive(Serialize)]
struct Body<'a> {
    job: &'a str,
    window: WindowTimes,
    revision: u32,
    alerts: &'a [Alert],
}

/// Why an attempt failed.
enum Failure {
    /// Another attempt may succeed.
    Temporary { problem: String, retry_after: Option<Duration> },
    /// No attempt can succeed.
    Permanent(String),
}

impl WebhookSink {
    /// Creates a sink for a URL: https, or http on a loopback address. Reads the secret from its environment variable, and
    /// the system's certificate authorities. Sends no request.
    ///
    /// # Errors
    ///
    /// If the URL is another, if the variable is unset or empty, or if the system has no certificate authorities.
    pub fn try_new(job: &str, name: &str, url: &str, secret_env: Option<&str>) -> Result<Self> {
        let error = |problem| failed(job, name, problem);
        let url = parse_url(url).map_err(error)?;
        let secret = secret_env.map(|variable| SecretSource::Env(variable.into()).read());
        let secret = secret.transpose().map_err(|e| error(format!("secret_env: {e}")))?;
        let roots =
            if url.scheme() == "https" { system_roots().map_err(error)? } else { RootCertStore::empty() };
        let client = client(roots).map_err(error)?;
        Ok(Self { name: name.into(), url, secret, client, retry: RetryPolicy::default() })
    }

    async fn post(
        &self,
        key: &str,
        body: &Bytes,
        signature: Option<&str>,
    ) -> std::result::Result<(), Failure> {
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", key)
            .body(body.clone());
        if let Some(signature) = signature {
            request = request.header("X-Flowsigma-Signature", signature);
        }
        let response = request.send().await.map_err(|e| {
            let problem = format!("{}: {}", origin(&self.url), causes(&e.without_url()));
            Failure::Temporary { problem, retry_after: None }
        })?;
        let status = response.status();
        let problem = format!("{}: status {}", origin(&self.url), status.as_u16());
        match status.as_u16() {
            200..=299 => Ok(()),
            300..=399 => Err(Failure::Permanent(format!(
                "{problem}: the endpoint redirects to {}; redirects are not followed, name the endpoint itself in url",
                self.target(response.headers())
            ))),
            429 | 500.. => Err(Failure::Temporary { problem, retry_after: retry_after(response.headers()) }),
            401 | 403 => Err(Failure::Permanent(format!("{problem}; check url and secret_env of this sink"))),
            _ => Err(Failure::Permanent(format!("{problem}; check url of this sink"))),
        }
    }

    /// Returns the origin of a redirect's target.
    fn target(&self, headers: &HeaderMap) -> String {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let target = location.and_then(|location| self.url.join(location).ok());
        target.map_or_else(|| "nowhere".into(), |target| origin(&target))
    }
}

#[async_trait]
impl Sink for WebhookSink {
    fn name(&self) -> &str {
        &self.name
    }

    /// Sends the findings until the endpoint accepts them.
    ///
    /// # Errors
    ///
    /// If the endpoint refuses them, or if no attempt succeeds. The error has the status.
    async fn deliver(&self, manifest: &Manifest, alerts: &[Alert]) -> Result<()> {
        if alerts.is_empty() {
            return Ok(());
        }
        let error = |problem| failed(&manifest.job, &self.name, problem);
        let Manifest { job, window, revision, .. } = manifest;
        let body = Body { job, window: *window, revision: *revision, alerts };
        let body = serde_json::to_vec(&body)
            .map_err(|e| error(format!("the findings cannot be written as JSON: {e}")))?;
        let body = Bytes::from(body);
        let signature = self.secret.as_ref().map(|secret| signature::sign(secret, &body));
        let signature = signature.transpose().map_err(error)?;
        let key = format!("{job}/{}/{revision}", window.start);
        let mut retries = 0;
        loop {
            let (problem, retry_after) = match self.post(&key, &body, signature.as_deref()).await {
                Ok(()) => return Ok(()),
                Err(Failure::Permanent(problem)) => return Err(error(problem)),
                Err(Failure::Temporary { problem, retry_after }) => (problem, retry_after),
            };
            if retries == self.retry.max_retries {
                return Err(error(format!("{problem} (after {} attempts)", retries + 1)));
            }
            let wait = self.retry.delay(retries, retry_after, &mut rand::rng());
            tracing::warn!(job, sink = self.name, problem, ?wait, "webhook retried");
            tokio::time::sleep(wait).await;
            retries += 1;
        }
    }
}

fn parse_url(text: &str) -> std::result::Result<Url, String> {
    // The text may contain a secret, so it is not shown.
    let url = Url::parse(text).map_err(|e| format!("url is not a URL: {e}; use https://HOST/PATH"))?;
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback => Ok(url),
        "http" => Err(format!(
            "url {} would send findings unencrypted; use https, or http on a loopback address",
            origin(&url)
        )),
        other => Err(format!("url has the scheme {other:?}; use https, or http on a loopback address")),
    }
}

/// Returns scheme, host and port of a URL.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Returns the certificate authorities of the system. Some may be unreadable: what they signed is not trusted.
fn system_roots() -> std::result::Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(
            "the system has no certificate authorities to verify the endpoint; install ca-certificates"
                .into(),
        );
    }
    Ok(roots)
}

fn client(roots: RootCertStore) -> std::result::Result<reqwest::Client, String> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .user_agent(concat!("flowsigma/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .use_preconfigured_tls(tls)
        .build()
        .map_err(|e| causes(&e))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Returns an error with its causes, on one line.
fn causes(error: &(dyn StdError + 'static)) -> String {
    let parts = std::iter::successors(Some(error), |error| (*error).source());
    parts.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
