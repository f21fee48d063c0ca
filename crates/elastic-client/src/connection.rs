//! A live connection: the nodes of one named configuration, their credentials and TLS.
//!
//! Owns: sending one request, on which node, how often, and what its failure is called.
//! Must not know: what the request means.
//!
//! The transport is reqwest: the official client's can neither be told to follow no redirect, by
//! which a server would send requests to hosts that no configuration names, nor does it retry.

use crate::budget::Budget;
use crate::config::ConnectionConfig;
use crate::error::{Error, HeldBy, is_retryable_status};
use crate::health::Health;
use crate::held::Holdings;
use crate::request::{Answer, Method, Repeat, Request};
use crate::retry::RetryPolicy;
use crate::{headers, tls};
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use serde_json::Value;
use std::error::Error as StdError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use url::Url;

const DEFAULT_MAX_REQUESTS: usize = 32;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
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
    in_flight: Budget,
    retry: RetryPolicy,
    reached: AtomicBool,
    retries: AtomicU64,
    held: Holdings,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("name", &self.name).field("nodes", &self.node_list()).finish()
    }
}

enum Failure {
    /// The node was not reached, so that it cannot have done anything.
    Unsent(String),
    /// Something was sent, and nothing whole came back.
    Transport(String),
    TooLarge {
        most: usize,
        bytes: usize,
        head: Bytes,
    },
    Status {
        status: u16,
        retry_after: Option<Duration>,
        kind: String,
        reason: String,
        elastic: bool,
    },
}

impl Connection {
    /// Reads the secrets that the configuration names and prepares the client. Sends nothing.
    pub fn try_new(name: &str, config: &ConnectionConfig) -> Result<Self, Error> {
        let timeout = config.timeout.unwrap_or(DEFAULT_TIMEOUT);
        let mut always = HeaderMap::new();
        always.insert(ACCEPT, HeaderValue::from_static("application/json"));
        always.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers::add_configured(name, config, &mut always)?;
        let mut builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
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
            in_flight: Budget::new(config.max_requests.map_or(DEFAULT_MAX_REQUESTS, |n| n.get())),
            retry: RetryPolicy::default(),
            reached: AtomicBool::new(false),
            retries: AtomicU64::new(0),
            held: Holdings::default(),
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

    /// How many requests may be in flight now: fewer after the server had too many, and then more
    /// again up to `max_requests`.
    pub fn request_limit(&self) -> usize {
        self.in_flight.limit()
    }

    pub(crate) fn held(&self) -> &Holdings {
        &self.held
    }

    fn node_list(&self) -> String {
        self.nodes.iter().map(|n| n.name()).collect::<Vec<_>>().join(", ")
    }

    /// Sends a request and returns the whole body of a 2xx answer.
    ///
    /// 429, 502, 503, 504 and transport errors are tried again on the next node, with back-off, if
    /// the request may be repeated. A node that could not be reached is left out for a while, if
    /// there are others. Cancelled by dropping the future.
    pub async fn send(&self, request: &Request) -> Result<Answer, Error> {
        if self.held.closing() && request.method != Method::Delete {
            return Err(Error::Closed { what: request.what.clone(), connection: self.name.clone() });
        }
        let urls = self.nodes.iter().map(|node| request.url(&node.url)).collect::<Result<Vec<_>, _>>()?;
        let mut attempt = 0;
        loop {
            let place = self.health.pick(Instant::now(), request.repeat);
            let node = &self.nodes[place];
            let answer = self.send_once(&urls[place], request).await;
            match &answer {
                Err(Failure::Unsent(_) | Failure::Transport(_)) => self.health.failed(place, Instant::now()),
                Ok(_) | Err(Failure::Status { .. } | Failure::TooLarge { .. }) => self.health.answered(place),
            }
            let failure = match answer {
                Ok(mut answer) => {
                    self.reached.store(true, Ordering::Relaxed);
                    answer.retries = attempt;
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            attempt += 1;
            let (again, retry_after) = match &failure {
                Failure::Unsent(reason) | Failure::Transport(reason) => (!is_untrusted(reason), None),
                Failure::TooLarge { .. } => (false, None),
                Failure::Status { status, retry_after, .. } => (is_retryable_status(*status), *retry_after),
            };
            // A server that was never reached is more likely misspelt than busy: say so soon.
            let most = match &failure {
                Failure::Unsent(_) | Failure::Transport(_) if !self.reached.load(Ordering::Relaxed) => {
                    2.max(self.nodes.len() as u32)
                }
                _ => self.retry.max_retries,
            };
            let may = request.repeat == Repeat::Allowed || matches!(failure, Failure::Unsent(_));
            if !may || !again || attempt > most {
                return Err(self.error(node, request, failure, attempt));
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            let wait = self.retry.delay(attempt - 1, retry_after, &mut rand::rng());
            let reason = match &failure {
                Failure::Unsent(reason) | Failure::Transport(reason) => reason.clone(),
                Failure::TooLarge { bytes, .. } => format!("{bytes} bytes"),
                Failure::Status { status, kind, .. } => format!("{status} {kind}"),
            };
            tracing::warn!(connection = self.name, what = request.what, reason, ?wait, "request retried");
            tokio::time::sleep(wait).await;
        }
    }

    async fn send_once(&self, url: &Url, request: &Request) -> Result<Answer, Failure> {
        let permit = self.in_flight.acquire().await;
        let answer = self.exchange(url, request).await;
        match &answer {
            Ok(_) => permit.good(),
            Err(Failure::Status { status: 429, .. }) => permit.too_many(),
            Err(
                Failure::Status { .. }
                | Failure::Unsent(_)
                | Failure::Transport(_)
                | Failure::TooLarge { .. },
            ) => {}
        }
        answer
    }

    async fn exchange(&self, url: &Url, request: &Request) -> Result<Answer, Failure> {
        let mut sent = self.client.request(request.method.into(), url.clone());
        if !request.params.is_empty() {
            sent = sent.query(&request.params);
        }
        if let Some(body) = &request.body {
            sent = sent.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let mut response = sent.send().await.map_err(|e| match e.is_connect() {
            true => Failure::Unsent(causes(&e.without_url())),
            false => Failure::Transport(causes(&e.without_url())),
        })?;
        let status = response.status().as_u16();
        let header =
            |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let elastic = header("x-elastic-product").is_some_and(|v| v == "Elasticsearch");
        let retry_after = header("retry-after").and_then(|v| v.parse().ok()).map(Duration::from_secs);
        if (300..400).contains(&status) {
            let to = header(LOCATION.as_str()).and_then(|to| url.join(&to).ok());
            let to = to.map_or_else(|| "nowhere".into(), |to| to.origin().ascii_serialization());
            let reason = format!("the server points to {to}");
            return Err(Failure::Status { status, retry_after, kind: "redirect".into(), reason, elastic });
        }
        let body = read_body(&mut response, request.most_bytes).await?;
        if (200..300).contains(&status) {
            return Ok(Answer { body, elastic_product: elastic, retries: 0 });
        }
        let (kind, reason) = error_in_body(&body);
        Err(Failure::Status { status, retry_after, kind, reason, elastic })
    }

    fn error(&self, node: &Node, request: &Request, failure: Failure, attempts: u32) -> Error {
        let (what, connection) = (request.what.clone(), self.name.clone());
        match failure {
            Failure::TooLarge { most, bytes, head } => Error::TooLarge { what, most, bytes, head },
            Failure::Unsent(reason) | Failure::Transport(reason) if is_untrusted(&reason) => {
                Error::Untrusted { what, connection, node: node.name().to_owned(), reason }
            }
            Failure::Unsent(reason) | Failure::Transport(reason) => {
                Error::Unreachable { what, connection, nodes: self.node_list(), attempts, reason }
            }
            Failure::Status { status, kind, reason, .. } if is_lost_node(status, &kind, &reason) => {
                let held = match request.repeat {
                    Repeat::Never => HeldBy::Slice,
                    Repeat::Allowed => HeldBy::Query,
                };
                let reason = if reason.is_empty() { "it gives no reason".into() } else { reason };
                Error::NodeLost { what, connection, reason, held }
            }
            Failure::Status { status, kind, reason, elastic, .. } => {
                let hint = match status {
                    300..=399 => "; redirects are not followed, name the node itself in this connection",
                    401 => "; check the credentials of this connection",
                    403 => {
                        "; this user needs read and view_index_metadata on the index, and on OpenSearch what \
                         opens points in time, which read = \"scroll\" does without"
                    }
                    404 if kind == "search_context_missing_exception" => {
                        "; the snapshot expired, raise keep_alive, or its node was started again, run it again"
                    }
                    404 if kind == "index_not_found_exception" => "; check the index name",
                    _ => "",
                };
                // Kept for the caller that only wants to know who answered.
                let kind = if kind.is_empty() && elastic { "elasticsearch".into() } else { kind };
                Error::Status { what, connection, status, kind, reason, hint, attempts }
            }
        }
    }

    /// Whether the answer has the header `X-Elastic-Product`, whatever its status.
    pub(crate) async fn is_elasticsearch(&self, request: &Request) -> bool {
        for node in &self.nodes {
            let Ok(url) = request.url(&node.url) else { continue };
            match self.send_once(&url, request).await {
                Ok(answer) => return answer.elastic_product,
                Err(Failure::Status { elastic, .. }) => return elastic,
                Err(Failure::Unsent(_) | Failure::Transport(_) | Failure::TooLarge { .. }) => {}
            }
        }
        false
    }
}

/// As a server says that it has lost one of its own nodes: with the connection to it, and then, once
/// it is given up, for a point in time and for a scroll.
fn is_lost_node(status: u16, kind: &str, reason: &str) -> bool {
    match kind {
        "node_disconnected_exception" | "node_not_connected_exception" => true,
        // While the last copy of a shard goes, it fails without the reason of any shard.
        "search_phase_execution_exception" => {
            status == 500 && ["", "all shards failed", "Partial shards failure"].contains(&reason)
        }
        "illegal_state_exception" => {
            reason.starts_with("no node found for id")
                || (reason.starts_with("node [") && reason.ends_with("is not available"))
        }
        _ => false,
    }
}

fn is_untrusted(reason: &str) -> bool {
    reason.contains("certificate")
}

/// Into one buffer, of the announced length where that is believable: a page is held once. Of a body that is
/// too large no more is read than its head.
async fn read_body(response: &mut reqwest::Response, most: Option<usize>) -> Result<Bytes, Failure> {
    let announced = response.content_length().map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let mut body = BytesMut::with_capacity(announced.min(most.unwrap_or(LARGEST_BELIEVED)));
    while let Some(chunk) =
        response.chunk().await.map_err(|e| Failure::Transport(causes(&e.without_url())))?
    {
        body.extend_from_slice(&chunk);
        let bytes = announced.max(body.len());
        if let Some(most) = most.filter(|most| bytes > *most && body.len() >= HEAD) {
            return Err(Failure::TooLarge { most, bytes, head: Bytes::copy_from_slice(&body[..HEAD]) });
        }
    }
    Ok(body.freeze())
}

/// An error with its causes, on one line.
fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut current = Some(error);
    while let Some(e) = current {
        let text = e.to_string();
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
    .find(|e| e["reason"].is_string() || e["type"].is_string());
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    match deepest {
        Some(e) => (text(&e["type"]), e["reason"].as_str().unwrap_or("no reason given").to_owned()),
        None => (text(&error["type"]), "no reason given".into()),
    }
}
