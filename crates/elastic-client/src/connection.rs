//! A live connection: the Elasticsearch nodes of one named configuration, with credentials and TLS.
//!
//! Owns: how one request is sent: to which node, how often, for how long, and the error of its failure.
//! Must not know: what the request means, nor what a server's error means.
//!
//! The transport is reqwest. The official client's transport follows redirects, so a server could send requests to
//! hosts that no configuration names. It also has no limit on the size of a response, and does not retry.

use crate::concurrency_limit::ConcurrencyLimit;
use crate::config::{Access, ConnectionConfig};
use crate::error::{ContextOwner, Error};
use crate::health::Health;
use crate::open_contexts::OpenContexts;
use crate::product::KnownServer;
use crate::request::{Idempotence, Method, Request, Response};
use crate::retry::RetryPolicy;
use crate::server_error::ServerError;
use crate::transport_error::{TransportError, TransportErrorKind, causes};
use crate::{headers, tls};
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use url::Url;

const DEFAULT_MAX_REQUESTS: usize = 32;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest time for all attempts of one request, if neither `deadline` nor a longer `timeout` is set.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(600);
/// An Elasticsearch node that accepts no connection within this time counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The bytes that are kept of a body that is too large. A search response begins with the scroll's id.
const HEAD: usize = 64 << 10;
/// The most memory that is allocated because of a `content-length` header alone, in bytes.
const LARGEST_BELIEVED: usize = 128 << 20;

struct Node {
    url: Url,
}

impl Node {
    fn name(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }
}

/// A connection to the Elasticsearch nodes of one server.
///
/// Share one connection in each process, so that its limit on requests in flight holds for all slices together.
pub struct Connection {
    name: String,
    declared_server: Option<String>,
    client: reqwest::Client,
    nodes: Vec<Node>,
    health: Health,
    in_flight: ConcurrencyLimit,
    retry: RetryPolicy,
    deadline: Duration,
    access: Access,
    reached: AtomicBool,
    retries: AtomicU64,
    open_contexts: OpenContexts,
    known_server: KnownServer,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("name", &self.name).field("nodes", &self.node_list()).finish()
    }
}

/// Why one attempt failed.
enum Failure {
    Transport(TransportError),
    TooLarge {
        max: usize,
        bytes: usize,
        head: Bytes,
    },
    Status {
        error: ServerError,
        retry_after: Option<Duration>,
        /// Whether the response has the header `X-Elastic-Product: Elasticsearch`.
        elastic: bool,
    },
    /// The deadline of all attempts ended this attempt.
    Deadline,
}

impl Failure {
    fn is_unsent(&self) -> bool {
        matches!(self, Self::Transport(TransportError { kind: TransportErrorKind::Unsent, .. }))
    }

    /// Returns whether another attempt may succeed.
    fn is_retryable(&self) -> bool {
        match self {
            Self::Transport(error) => error.kind != TransportErrorKind::Untrusted,
            Self::TooLarge { .. } | Self::Deadline => false,
            Self::Status { error, .. } => error.is_retryable(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Transport(_) | Self::TooLarge { .. } | Self::Deadline => None,
        }
    }

    /// Returns a description for logs and errors. Of a body it contains only the type of the error.
    fn describe(&self) -> String {
        match self {
            Self::Transport(error) => error.reason.clone(),
            Self::TooLarge { bytes, .. } => format!("{bytes} bytes"),
            Self::Status { error, .. } => format!("{} {}", error.status, error.kind),
            Self::Deadline => "the last attempt got no complete response".into(),
        }
    }
}

/// The attempts of one request so far.
#[derive(Default)]
struct Tries {
    count: u32,
    /// When the first attempt was sent. The wait for the concurrency limit before it does not count.
    first: Option<Instant>,
    /// Why the previous attempt failed.
    last: Option<String>,
}

impl Connection {
    /// Reads the secrets that the configuration names, and builds the HTTP client. Sends no request.
    ///
    /// # Errors
    ///
    /// If a secret or a certificate cannot be read, or if a header or the proxy is invalid.
    pub fn try_new(name: &str, config: &ConnectionConfig) -> Result<Self, Error> {
        let timeout = config.timeout.unwrap_or(DEFAULT_TIMEOUT);
        let deadline = config.deadline.unwrap_or(DEFAULT_DEADLINE.max(timeout));
        let mut always = HeaderMap::new();
        always.insert(ACCEPT, HeaderValue::from_static("application/json"));
        always.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers::add_configured(name, config, &mut always)?;
        let mut builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            // The official client enables this feature of reqwest. Responses are requested without compression.
            .no_gzip()
            .default_headers(always)
            .user_agent(concat!("flowsigma/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .timeout(timeout);
        if config.nodes.iter().any(|node| node.scheme() == "https") {
            builder = builder.use_preconfigured_tls(tls::client_config(name, &config.tls)?);
        } else if config.proxy.is_none() {
            // Without TLS, reading the certificate authorities of the system would only take time.
            builder = builder.tls_built_in_root_certs(false);
        }
        if let Some(proxy) = &config.proxy {
            builder = builder.proxy(headers::proxy(name, proxy)?);
        }
        let client =
            builder.build().map_err(|e| Error::Refused(format!("connection \"{name}\": {}", causes(&e))))?;
        Ok(Self {
            name: name.to_owned(),
            declared_server: config.server.clone(),
            client,
            nodes: config.nodes.iter().map(|url| Node { url: url.clone() }).collect(),
            health: Health::new(config.nodes.len()),
            in_flight: ConcurrencyLimit::new(config.max_requests.map_or(DEFAULT_MAX_REQUESTS, |n| n.get())),
            retry: RetryPolicy::default(),
            deadline,
            access: config.access,
            reached: AtomicBool::new(false),
            retries: AtomicU64::new(0),
            open_contexts: OpenContexts::default(),
            known_server: KnownServer::default(),
        })
    }

    /// Returns the name of the connection, which is the same in the configuration of every process.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what may be done by this connection.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Returns the URLs of the Elasticsearch nodes, at least one, in the order of the configuration. They contain no
    /// credentials.
    pub fn nodes(&self) -> impl Iterator<Item = &Url> {
        self.nodes.iter().map(|node| &node.url)
    }

    /// Returns the server's product and version as the configuration declares them, for servers that do not reveal
    /// them.
    pub fn declared_server(&self) -> Option<&str> {
        self.declared_server.as_deref()
    }

    /// Returns the number of retries on this connection since it was created.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Returns how many requests may be in flight now. The limit falls when the server responds with status 429, and
    /// rises again up to `max_requests`.
    pub fn request_limit(&self) -> usize {
        self.in_flight.limit()
    }

    pub(crate) fn open_contexts(&self) -> &OpenContexts {
        &self.open_contexts
    }

    pub(crate) fn known_server(&self) -> &KnownServer {
        &self.known_server
    }

    fn node_list(&self) -> String {
        self.nodes.iter().map(|n| n.name()).collect::<Vec<_>>().join(", ")
    }

    /// Sends a request and returns the complete body of a 2xx response.
    ///
    /// An idempotent request is retried on the next Elasticsearch node, with back-off, after status 429, 502, 503, 504
    /// and transport errors. The connection's deadline limits all attempts together, with the waits between them. An
    /// unreachable node is ejected for a while if there are others. Dropping the future cancels the request.
    ///
    /// # Errors
    ///
    /// If no node responds before the deadline, if the server responds with another status, or if the response is too
    /// large. Also if the connection is closed.
    pub async fn send(&self, request: &Request) -> Result<Response, Error> {
        if self.open_contexts.closing() && request.method != Method::Delete {
            return Err(Error::Closed {
                operation: request.operation.clone(),
                connection: self.name.clone(),
            });
        }
        let urls = self.nodes.iter().map(|node| request.url(&node.url)).collect::<Result<Vec<_>, _>>()?;
        let mut tries = Tries::default();
        loop {
            let place = self.health.pick(Instant::now(), request.idempotence);
            let node = &self.nodes[place];
            let response = self.send_once(&urls[place], request, &mut tries).await;
            match &response {
                Err(Failure::Transport(_)) => self.health.failed(place, Instant::now()),
                Ok(_) | Err(Failure::Status { .. } | Failure::TooLarge { .. }) => self.health.answered(place),
                // The node may have had only a moment to respond.
                Err(Failure::Deadline) => {}
            }
            let failure = match response {
                Ok(mut response) => {
                    self.reached.store(true, Ordering::Relaxed);
                    response.retries = tries.count - 1;
                    return Ok(response);
                }
                Err(failure) => failure,
            };
            // The URL of a server that was never reached is probably wrong, so the error comes after few attempts.
            let max = match &failure {
                Failure::Transport(_) if !self.reached.load(Ordering::Relaxed) => {
                    2.max(self.nodes.len() as u32)
                }
                _ => self.retry.max_retries,
            };
            let may = request.idempotence == Idempotence::Idempotent || failure.is_unsent();
            if !may || !failure.is_retryable() || tries.count > max {
                return Err(self.error(node, request, failure, &tries));
            }
            let wait = self.retry.delay(tries.count - 1, failure.retry_after(), &mut rand::rng());
            if wait >= self.left(&tries) {
                return Err(self.too_late(request, &failure, &tries));
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            let reason = failure.describe();
            tracing::warn!(
                connection = self.name,
                operation = request.operation,
                reason,
                ?wait,
                "request retried"
            );
            tries.last = Some(reason);
            tokio::time::sleep(wait).await;
        }
    }

    /// Returns how long this request may still take.
    fn left(&self, tries: &Tries) -> Duration {
        self.deadline.saturating_sub(tries.first.map_or(Duration::ZERO, |first| first.elapsed()))
    }

    fn too_late(&self, request: &Request, failure: &Failure, tries: &Tries) -> Error {
        let mut reason = failure.describe();
        if let (Failure::Deadline, Some(last)) = (failure, &tries.last) {
            reason = format!("{reason}, and the attempt before it: {last}");
        }
        Error::DeadlineExceeded {
            operation: request.operation.clone(),
            connection: self.name.clone(),
            nodes: self.node_list(),
            deadline: self.deadline,
            attempts: tries.count,
            reason,
        }
    }

    async fn send_once(&self, url: &Url, request: &Request, tries: &mut Tries) -> Result<Response, Failure> {
        let permit = self.in_flight.acquire().await;
        tries.first.get_or_insert_with(Instant::now);
        tries.count += 1;
        let response = match tokio::time::timeout(self.left(tries), self.exchange(url, request)).await {
            Ok(response) => response,
            Err(_) => Err(Failure::Deadline),
        };
        match &response {
            Ok(_) => permit.good(),
            Err(Failure::Status { error, .. }) if error.status == 429 => permit.too_many(),
            Err(
                Failure::Status { .. } | Failure::Transport(_) | Failure::TooLarge { .. } | Failure::Deadline,
            ) => {}
        }
        response
    }

    async fn exchange(&self, url: &Url, request: &Request) -> Result<Response, Failure> {
        let mut sent = self.client.request(request.method.into(), url.clone());
        if !request.params.is_empty() {
            sent = sent.query(&request.params);
        }
        if let Some(body) = &request.body {
            sent = sent.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let mut response = sent.send().await.map_err(|e| Failure::Transport(e.into()))?;
        let status = response.status().as_u16();
        let header =
            |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let elastic = header("x-elastic-product").is_some_and(|v| v == "Elasticsearch");
        let retry_after = header("retry-after").and_then(|v| v.parse().ok()).map(Duration::from_secs);
        if (300..400).contains(&status) {
            let to = header(LOCATION.as_str()).and_then(|to| url.join(&to).ok());
            let to = to.map_or_else(|| "nowhere".into(), |to| to.origin().ascii_serialization());
            return Err(Failure::Status { error: ServerError::redirect(status, &to), retry_after, elastic });
        }
        let body = read_body(&mut response, request.max_bytes).await?;
        if (200..300).contains(&status) {
            return Ok(Response { body, elastic_product: elastic, retries: 0 });
        }
        Err(Failure::Status { error: ServerError::parse(status, &body), retry_after, elastic })
    }

    fn error(&self, node: &Node, request: &Request, failure: Failure, tries: &Tries) -> Error {
        let attempts = tries.count;
        let (operation, connection) = (request.operation.clone(), self.name.clone());
        match failure {
            Failure::Deadline => self.too_late(request, &failure, tries),
            Failure::TooLarge { max, bytes, head } => Error::TooLarge { operation, max, bytes, head },
            Failure::Transport(TransportError { kind, reason }) => match kind {
                TransportErrorKind::Untrusted => {
                    Error::Untrusted { operation, connection, node: node.name().to_owned(), reason }
                }
                TransportErrorKind::Unsent | TransportErrorKind::Interrupted => {
                    Error::Unreachable { operation, connection, nodes: self.node_list(), attempts, reason }
                }
            },
            Failure::Status { error, .. } if error.is_lost_node() => {
                let owner = match request.idempotence {
                    Idempotence::NotIdempotent => ContextOwner::Slice,
                    Idempotence::Idempotent => ContextOwner::Query,
                };
                let reason = if error.reason.is_empty() { "no reason given".into() } else { error.reason };
                Error::NodeLost { operation, connection, reason, owner }
            }
            Failure::Status { error, elastic, .. } => {
                let hint = error.hint();
                let ServerError { status, kind, reason } = error;
                // An error without a type names the product, so that it differs from the error of a proxy.
                let kind = if kind.is_empty() && elastic { "elasticsearch".into() } else { kind };
                Error::Status { operation, connection, status, kind, reason, hint, attempts }
            }
        }
    }

    /// Returns whether the response has the header `X-Elastic-Product`, with any status.
    pub(crate) async fn is_elasticsearch(&self, request: &Request) -> bool {
        for node in &self.nodes {
            let Ok(url) = request.url(&node.url) else { continue };
            match self.send_once(&url, request, &mut Tries::default()).await {
                Ok(response) => return response.elastic_product,
                Err(Failure::Status { elastic, .. }) => return elastic,
                Err(Failure::Transport(_) | Failure::TooLarge { .. } | Failure::Deadline) => {}
            }
        }
        false
    }
}

/// Reads a body into one buffer of the announced length, so that a page is in memory once. Of a body that is too large,
/// only the first [`HEAD`] bytes are kept.
async fn read_body(response: &mut reqwest::Response, max: Option<usize>) -> Result<Bytes, Failure> {
    let announced = response.content_length().map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let mut body = BytesMut::with_capacity(announced.unwrap_or(0).min(max.unwrap_or(LARGEST_BELIEVED)));
    while let Some(chunk) = response.chunk().await.map_err(|e| Failure::Transport(e.into()))? {
        body.extend_from_slice(&chunk);
        let known = announced.unwrap_or(0).max(body.len());
        if let Some(max) = max.filter(|max| known > *max && body.len() >= HEAD) {
            // Elasticsearch 9 announces no length. The rest, which is not received, may be as large as the part before.
            let bytes = announced.map_or(known.saturating_mul(2), |_| known);
            return Err(Failure::TooLarge { max, bytes, head: Bytes::copy_from_slice(&body[..HEAD]) });
        }
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests;
