//! A live connection: the nodes of one named configuration, their credentials and TLS.
//!
//! Owns: sending one request, on which node, how often, and what its failure is called.
//! Must not know: what the request means.
//!
//! The official client is used as a transport only: one single-node transport a node, with the
//! rotation and the retries here, since its own pools neither retry nor take credentials.

use crate::config::{Auth, ConnectionConfig, Verify};
use crate::error::{Error, is_retryable_status};
use crate::retry::RetryPolicy;
use bytes::Bytes;
use elasticsearch::auth::Credentials;
use elasticsearch::cert::{Certificate, CertificateValidation};
pub use elasticsearch::http::Method;
use elasticsearch::http::headers::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use secrecy::ExposeSecret;
use serde_json::Value;
use std::error::Error as StdError;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

const DEFAULT_MAX_REQUESTS: usize = 32;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether the same request may be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Yes: the server's state is the same after one or two.
    Allowed,
    /// No: a scroll page moves on whether or not its answer arrived.
    Never,
}

/// One request, on whichever node.
#[derive(Clone, Debug)]
pub struct Request {
    /// HTTP method.
    pub method: Method,
    /// Absolute path, percent-encoded.
    pub path: String,
    /// Query string parameters.
    pub params: Vec<(&'static str, String)>,
    /// JSON (or NDJSON) body.
    pub body: Option<Bytes>,
    /// Whether it may be repeated.
    pub repeat: Repeat,
    /// What it is for, as errors say it: `search: index "flows" slice 3/8`.
    pub what: String,
}

impl Request {
    /// A request without body or parameters, that may be repeated.
    pub fn new(method: Method, path: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            params: Vec::new(),
            body: None,
            repeat: Repeat::Allowed,
            what: what.into(),
        }
    }

    /// Adds a query string parameter.
    pub fn with_param(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.params.push((key, value.into()));
        self
    }

    /// Sets the JSON body.
    pub fn with_body(mut self, body: &Value) -> Self {
        self.body = Some(Bytes::from(body.to_string()));
        self
    }

    /// Forbids or allows a second sending.
    pub fn with_repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }
}

/// A successful answer.
#[derive(Debug)]
pub struct Answer {
    /// The body, whole.
    pub body: Bytes,
    /// Whether the server called itself Elasticsearch in `X-Elastic-Product`.
    pub elastic_product: bool,
    /// How many retries it took.
    pub retries: u32,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self, what: &str) -> Result<Value, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|e| Error::Protocol { what: what.into(), detail: format!("not JSON: {e}") })
    }
}

struct Node {
    url: String,
    transport: Transport,
}

/// A named set of nodes. Cheap to share: keep one a process, so that its limit on requests in
/// flight holds for all slices together.
pub struct Connection {
    name: String,
    declared_server: Option<String>,
    nodes: Vec<Node>,
    next: AtomicUsize,
    in_flight: Semaphore,
    retry: RetryPolicy,
    timeout: Duration,
    reached: AtomicBool,
    retries: AtomicU64,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("name", &self.name).field("nodes", &self.node_list()).finish()
    }
}

enum Failure {
    Transport(String),
    Status { status: u16, retry_after: Option<Duration>, kind: String, reason: String, elastic: bool },
}

impl Connection {
    /// Reads the secrets that the configuration names and prepares a transport for each node.
    /// Sends nothing.
    pub fn try_new(name: &str, config: &ConnectionConfig) -> Result<Self, Error> {
        let credentials = match &config.auth {
            Auth::None => None,
            Auth::Basic { username, password } => {
                Some(Credentials::Basic(username.clone(), password.read()?.expose_secret().to_owned()))
            }
            Auth::ApiKey { key } => Some(Credentials::EncodedApiKey(key.read()?.expose_secret().to_owned())),
            Auth::Bearer { token } => Some(Credentials::Bearer(token.read()?.expose_secret().to_owned())),
        };
        let ca = match &config.tls.ca_file {
            Some(path) => Some(std::fs::read(path).map_err(|e| {
                Error::Refused(format!(
                    "connection \"{name}\": cannot read tls.ca_file {}: {e}",
                    path.display()
                ))
            })?),
            None => None,
        };
        if config.tls.verify == Verify::Off {
            tracing::warn!(connection = name, "tls.verify = false: the server's certificate is not checked");
        }
        let mut nodes = Vec::with_capacity(config.nodes.len());
        for url in &config.nodes {
            let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url.clone()))
                .enable_meta_header(false)
                .disable_proxy();
            if let Some(credentials) = &credentials {
                builder = builder.auth(credentials.clone());
            }
            match (&config.tls.verify, &ca) {
                (Verify::Off, _) => builder = builder.cert_validation(CertificateValidation::None),
                (Verify::Full, Some(pem)) => {
                    let chain = Certificate::from_pem(pem).map_err(|e| {
                        Error::Refused(format!("connection \"{name}\": tls.ca_file is not a PEM file: {e}"))
                    })?;
                    builder = builder.cert_validation(CertificateValidation::Full(chain));
                }
                (Verify::Full, None) => {}
            }
            let transport =
                builder.build().map_err(|e| Error::Refused(format!("connection \"{name}\": {e}")))?;
            nodes.push(Node { url: url.as_str().trim_end_matches('/').to_owned(), transport });
        }
        Ok(Self {
            name: name.to_owned(),
            declared_server: config.server.clone(),
            nodes,
            next: AtomicUsize::new(0),
            in_flight: Semaphore::new(config.max_requests.map_or(DEFAULT_MAX_REQUESTS, |n| n.get())),
            retry: RetryPolicy::default(),
            timeout: config.timeout.unwrap_or(DEFAULT_TIMEOUT),
            reached: AtomicBool::new(false),
            retries: AtomicU64::new(0),
        })
    }

    /// The name under which each node's configuration knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the configuration says the server is, for servers that do not tell.
    pub fn declared_server(&self) -> Option<&str> {
        self.declared_server.as_deref()
    }

    /// Retries on this connection since it was made.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    fn node_list(&self) -> String {
        self.nodes.iter().map(|n| n.url.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Sends a request and returns the whole body of a 2xx answer.
    ///
    /// 429, 502, 503, 504 and transport errors are tried again on the next node, with back-off, if
    /// the request may be repeated. Cancelled by dropping the future.
    pub async fn send(&self, request: &Request) -> Result<Answer, Error> {
        let mut attempt = 0;
        loop {
            let node = &self.nodes[self.next.fetch_add(1, Ordering::Relaxed) % self.nodes.len()];
            let failure = match self.send_once(node, request).await {
                Ok(mut answer) => {
                    self.reached.store(true, Ordering::Relaxed);
                    answer.retries = attempt;
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            attempt += 1;
            let (again, retry_after) = match &failure {
                Failure::Transport(reason) => (!is_untrusted(reason), None),
                Failure::Status { status, retry_after, .. } => (is_retryable_status(*status), *retry_after),
            };
            // A server that was never reached is more likely misspelt than busy: say so soon.
            let most = match &failure {
                Failure::Transport(_) if !self.reached.load(Ordering::Relaxed) => {
                    2.max(self.nodes.len() as u32)
                }
                _ => self.retry.max_retries,
            };
            if request.repeat == Repeat::Never || !again || attempt > most {
                return Err(self.error(node, request, failure, attempt));
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            let wait = self.retry.delay(attempt - 1, retry_after, &mut rand::rng());
            let reason = match &failure {
                Failure::Transport(reason) => reason.clone(),
                Failure::Status { status, kind, .. } => format!("{status} {kind}"),
            };
            tracing::warn!(connection = self.name, what = request.what, reason, ?wait, "request retried");
            tokio::time::sleep(wait).await;
        }
    }

    async fn send_once(&self, node: &Node, request: &Request) -> Result<Answer, Failure> {
        let _permit = self.in_flight.acquire().await.expect("the semaphore is never closed");
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if request.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let params = (!request.params.is_empty()).then_some(&request.params);
        let response = node
            .transport
            .send(request.method, &request.path, headers, params, request.body.clone(), Some(self.timeout))
            .await
            .map_err(|e| Failure::Transport(causes(&e)))?;
        let status = response.status_code().as_u16();
        let header =
            |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let elastic = header("x-elastic-product").is_some_and(|v| v == "Elasticsearch");
        let retry_after = header("retry-after").and_then(|v| v.parse().ok()).map(Duration::from_secs);
        let body = response.bytes().await.map_err(|e| Failure::Transport(causes(&e)))?;
        if (200..300).contains(&status) {
            return Ok(Answer { body, elastic_product: elastic, retries: 0 });
        }
        let (kind, reason) = error_in_body(&body);
        Err(Failure::Status { status, retry_after, kind, reason, elastic })
    }

    fn error(&self, node: &Node, request: &Request, failure: Failure, attempts: u32) -> Error {
        let (what, connection) = (request.what.clone(), self.name.clone());
        match failure {
            Failure::Transport(reason) if is_untrusted(&reason) => {
                Error::Untrusted { what, connection, node: node.url.clone(), reason }
            }
            Failure::Transport(reason) => {
                Error::Unreachable { what, connection, nodes: self.node_list(), attempts, reason }
            }
            Failure::Status { status, kind, reason, elastic, .. } => {
                let hint = match status {
                    401 => "; check the credentials of this connection",
                    403 => "; this user needs read and view_index_metadata on the index",
                    404 if kind == "search_context_missing_exception" => {
                        "; the snapshot expired, raise keep_alive"
                    }
                    _ => "",
                };
                // Kept for the caller that only wants to know who answered.
                let kind = if kind.is_empty() && elastic { "elasticsearch".into() } else { kind };
                Error::Status { what, connection, status, kind, reason, hint, attempts }
            }
        }
    }

    /// Asks who answers, whatever the status: the header `X-Elastic-Product` comes with refusals too.
    pub(crate) async fn is_elasticsearch(&self, request: &Request) -> bool {
        for node in &self.nodes {
            match self.send_once(node, request).await {
                Ok(answer) => return answer.elastic_product,
                Err(Failure::Status { elastic, .. }) => return elastic,
                Err(Failure::Transport(_)) => {}
            }
        }
        false
    }
}

fn is_untrusted(reason: &str) -> bool {
    reason.contains("certificate")
}

/// An error with its causes, on one line, without the URL (it is said elsewhere, and could hold more).
fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut current = Some(error);
    while let Some(e) = current {
        let text = e.to_string();
        let text = match (text.find(" for url ("), text.rfind(')')) {
            (Some(start), Some(end)) if end > start => format!("{}{}", &text[..start], &text[end + 1..]),
            _ => text,
        };
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
        current = e.source();
    }
    parts.join(": ")
}

/// `error.type` and the most telling reason of an error body; a body that is no JSON is not quoted.
fn error_in_body(body: &[u8]) -> (String, String) {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return (String::new(), "the answer is not JSON".into());
    };
    let error = &value["error"];
    if let Some(text) = error.as_str() {
        return (String::new(), text.to_owned());
    }
    let deepest = [
        &error["failed_shards"][0]["reason"]["caused_by"],
        &error["failed_shards"][0]["reason"],
        &error["root_cause"][0],
        error,
    ]
    .into_iter()
    .find(|e| e["reason"].is_string());
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    match deepest {
        Some(e) => (text(&e["type"]), text(&e["reason"])),
        None => (text(&error["type"]), "no reason given".into()),
    }
}

/// Percent-encodes an index expression for a path: everything but what the servers give a meaning.
pub fn encode_index(index: &str) -> String {
    let mut out = String::with_capacity(index.len());
    for byte in index.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b',' | b'*' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
