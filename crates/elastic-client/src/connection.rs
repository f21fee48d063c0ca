//! A live connection: the nodes of one named configuration, their credentials and TLS.
//!
//! Owns: sending one request, on which node, how often and how long, and what its failure is called.
//! Must not know: what the request means, nor what a server means by an error.
//!
//! The transport is reqwest: the official client's follows redirects, by which a server would send requests to
//! hosts that no configuration names, bounds no response, and does not retry.

use crate::concurrency_limit::ConcurrencyLimit;
use crate::config::ConnectionConfig;
use crate::error::{ContextOwner, Error};
use crate::health::Health;
use crate::open_contexts::OpenContexts;
use crate::request::{Method, Repeat, Request, Response};
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
/// Over all tries of one request, where neither `deadline` nor a longer `timeout` is set.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(600);
/// A node that takes no connection within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// As much of a body as is kept where the whole is too large: in a search answer the scroll's id comes first.
const HEAD: usize = 64 << 10;
/// Memory that is taken on the word of a `content-length` alone.
const LARGEST_BELIEVED: usize = 128 << 20;

struct Node {
    url: Url,
}

impl Node {
    fn name(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }
}

/// A named set of nodes. Cheap to share: keep one a process, so that its limit on requests in
/// flight holds for all slices together.
pub struct Connection {
    name: String,
    declared_server: Option<String>,
    client: reqwest::Client,
    nodes: Vec<Node>,
    health: Health,
    in_flight: ConcurrencyLimit,
    retry: RetryPolicy,
    deadline: Duration,
    reached: AtomicBool,
    retries: AtomicU64,
    open_contexts: OpenContexts,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("name", &self.name).field("nodes", &self.node_list()).finish()
    }
}

/// Why one try came to nothing.
enum Failure {
    Transport(TransportError),
    TooLarge {
        most: usize,
        bytes: usize,
        head: Bytes,
    },
    Status {
        error: ServerError,
        retry_after: Option<Duration>,
        /// Whether the server called itself Elasticsearch.
        elastic: bool,
    },
    /// The try was ended by the deadline of all tries.
    Deadline,
}

impl Failure {
    fn is_unsent(&self) -> bool {
        matches!(self, Self::Transport(TransportError { kind: TransportErrorKind::Unsent, .. }))
    }

    /// Whether another try may go better.
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

    /// For the log and for errors, without anything of a body but an error's type.
    fn describe(&self) -> String {
        match self {
            Self::Transport(error) => error.reason.clone(),
            Self::TooLarge { bytes, .. } => format!("{bytes} bytes"),
            Self::Status { error, .. } => format!("{} {}", error.status, error.kind),
            Self::Deadline => "the last try got no whole response".into(),
        }
    }
}

/// The tries of one request so far.
#[derive(Default)]
struct Tries {
    count: u32,
    /// When the first was sent. Waiting for a turn before it does not count.
    first: Option<Instant>,
    /// Why the one before came to nothing.
    last: Option<String>,
}

impl Connection {
    /// Reads the secrets that the configuration names and prepares the client. Sends nothing.
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
            // reqwest could, by a feature that the official client asks for. Responses are taken as they are sent.
            .no_gzip()
            .default_headers(always)
            .user_agent(concat!("flowsigma/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .timeout(timeout);
        if config.nodes.iter().any(|node| node.scheme() == "https") {
            builder = builder.use_preconfigured_tls(tls::client_config(name, &config.tls)?);
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
            reached: AtomicBool::new(false),
            retries: AtomicU64::new(0),
            open_contexts: OpenContexts::default(),
        })
    }

    /// The name under which each node's configuration knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The addresses of its nodes, at least one, in the order of the configuration. They hold no credentials.
    pub fn nodes(&self) -> impl Iterator<Item = &Url> {
        self.nodes.iter().map(|node| &node.url)
    }

    /// What the configuration says the server is, for servers that do not tell.
    pub fn declared_server(&self) -> Option<&str> {
        self.declared_server.as_deref()
    }

    /// Retries on this connection since it was made.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// How many requests may be in flight now: fewer after the server had too many, and then more
    /// again up to `max_requests`.
    pub fn request_limit(&self) -> usize {
        self.in_flight.limit()
    }

    pub(crate) fn open_contexts(&self) -> &OpenContexts {
        &self.open_contexts
    }

    fn node_list(&self) -> String {
        self.nodes.iter().map(|n| n.name()).collect::<Vec<_>>().join(", ")
    }

    /// Sends a request and returns the whole body of a 2xx answer.
    ///
    /// 429, 502, 503, 504 and transport errors are tried again on the next node, with back-off, if
    /// the request may be repeated, and until the connection's deadline: from the first try to the last,
    /// with the waits between them. A node that could not be reached is left out for a while, if
    /// there are others. Cancelled by dropping the future.
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
            let place = self.health.pick(Instant::now(), request.repeat);
            let node = &self.nodes[place];
            let response = self.send_once(&urls[place], request, &mut tries).await;
            match &response {
                Err(Failure::Transport(_)) => self.health.failed(place, Instant::now()),
                Ok(_) | Err(Failure::Status { .. } | Failure::TooLarge { .. }) => self.health.answered(place),
                // It may have had a moment only.
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
            // A server that was never reached is more likely misspelt than busy: say so soon.
            let most = match &failure {
                Failure::Transport(_) if !self.reached.load(Ordering::Relaxed) => {
                    2.max(self.nodes.len() as u32)
                }
                _ => self.retry.max_retries,
            };
            let may = request.repeat == Repeat::Allowed || failure.is_unsent();
            if !may || !failure.is_retryable() || tries.count > most {
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

    /// How long this request may still take.
    fn left(&self, tries: &Tries) -> Duration {
        self.deadline.saturating_sub(tries.first.map_or(Duration::ZERO, |first| first.elapsed()))
    }

    fn too_late(&self, request: &Request, failure: &Failure, tries: &Tries) -> Error {
        let mut reason = failure.describe();
        if let (Failure::Deadline, Some(last)) = (failure, &tries.last) {
            reason = format!("{reason}, and the one before: {last}");
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
            Failure::TooLarge { most, bytes, head } => Error::TooLarge { operation, most, bytes, head },
            Failure::Transport(TransportError { kind, reason }) => match kind {
                TransportErrorKind::Untrusted => {
                    Error::Untrusted { operation, connection, node: node.name().to_owned(), reason }
                }
                TransportErrorKind::Unsent | TransportErrorKind::Interrupted => {
                    Error::Unreachable { operation, connection, nodes: self.node_list(), attempts, reason }
                }
            },
            Failure::Status { error, .. } if error.is_lost_node() => {
                let owner = match request.repeat {
                    Repeat::Never => ContextOwner::Slice,
                    Repeat::Allowed => ContextOwner::Query,
                };
                let reason = if error.reason.is_empty() { "it gives no reason".into() } else { error.reason };
                Error::NodeLost { operation, connection, reason, owner }
            }
            Failure::Status { error, elastic, .. } => {
                let hint = error.hint();
                let ServerError { status, kind, reason } = error;
                // Kept for the caller that only wants to know who answered.
                let kind = if kind.is_empty() && elastic { "elasticsearch".into() } else { kind };
                Error::Status { operation, connection, status, kind, reason, hint, attempts }
            }
        }
    }

    /// Whether the answer has the header `X-Elastic-Product`, whatever its status.
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

/// Into one buffer, of the announced length where that is believable: a page is held once. Of a body that is
/// too large no more is read than its head.
async fn read_body(response: &mut reqwest::Response, most: Option<usize>) -> Result<Bytes, Failure> {
    let announced = response.content_length().map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let mut body = BytesMut::with_capacity(announced.min(most.unwrap_or(LARGEST_BELIEVED)));
    while let Some(chunk) = response.chunk().await.map_err(|e| Failure::Transport(e.into()))? {
        body.extend_from_slice(&chunk);
        let bytes = announced.max(body.len());
        if let Some(most) = most.filter(|most| bytes > *most && body.len() >= HEAD) {
            return Err(Failure::TooLarge { most, bytes, head: Bytes::copy_from_slice(&body[..HEAD]) });
        }
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests;
