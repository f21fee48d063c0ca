//! A proxy before a real server that breaks chosen answers, each as a network or a server would.
//!
//! Owns: forwarding, the faults, and the record of what was asked. Must not know: what a test
//! expects of a client.

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing: it is forwarded, and so is its answer.
    None,
    /// The server is not asked; this is the answer.
    Response {
        /// Status.
        status: u16,
        /// A header beside `content-type`.
        header: Option<(&'static str, String)>,
        /// Body.
        body: String,
    },
    /// The server is not asked, and the connection is reset (RST).
    Reset,
    /// The server is not asked, and the connection ends in order (FIN).
    Close,
    /// The server has answered, but the connection is reset before the answer.
    ResetAnswer,
    /// Half of the body arrives, less than its `content-length`, and the connection ends.
    Truncate,
    /// Half of the body arrives as if it were the whole.
    CutBody,
    /// Half of the body arrives, and then nothing, on an open connection.
    Stall,
    /// The answer is held back until [`Proxy::release`].
    Hold,
    /// The JSON body arrives changed, of which only what `filter_path` asks for.
    Rewrite(fn(&mut Value)),
}

impl Fault {
    /// A status with an error body as the servers write it.
    pub fn status(status: u16, kind: &str) -> Self {
        Self::Response { status, header: None, body: error_body(status, kind) }
    }

    /// A status with one header more.
    pub fn status_with(status: u16, kind: &str, header: (&'static str, String)) -> Self {
        Self::Response { status, header: Some(header), body: error_body(status, kind) }
    }
}

fn error_body(status: u16, kind: &str) -> String {
    let error = serde_json::json!({ "type": kind, "reason": "made by the proxy" });
    serde_json::json!({ "error": { "root_cause": [error], "type": kind, "reason": "made by the proxy" },
        "status": status })
    .to_string()
}

/// One request, as the proxy saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path without parameters.
    pub path: String,
    /// Parameters.
    pub query: String,
    /// Body.
    pub body: Bytes,
    /// How many pages were asked for before, if it asks for one.
    pub page: Option<usize>,
    /// How many requests were here at that moment, this one included.
    pub in_flight: usize,
}

type Rule = Box<dyn FnMut(&Seen) -> Fault + Send>;

struct Shared {
    upstream: String,
    client: reqwest::Client,
    rule: Mutex<Rule>,
    seen: Mutex<Vec<Seen>>,
    pages: AtomicUsize,
    in_flight: AtomicUsize,
    released: watch::Sender<bool>,
    held: watch::Sender<usize>,
}

/// A running proxy; gone when dropped.
pub struct Proxy {
    /// Where clients connect.
    pub url: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    /// Before the server at `upstream`, breaking what `rule` says.
    pub async fn start(upstream: &str, rule: impl FnMut(&Seen) -> Fault + Send + 'static) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address: SocketAddr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: upstream.trim_end_matches('/').to_owned(),
            client: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .build()?,
            rule: Mutex::new(Box::new(rule)),
            seen: Mutex::default(),
            pages: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            released: watch::Sender::new(false),
            held: watch::Sender::new(0),
        });
        let accepting = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&shared)));
                }
            }
        });
        Ok(Self { url: format!("http://{address}"), shared, accepting })
    }

    /// Breaks the `nth` page that is asked for, from 0, and nothing else.
    pub async fn break_page(upstream: &str, nth: usize, fault: Fault) -> Result<Self> {
        Self::start(upstream, move |seen| if seen.page == Some(nth) { fault.clone() } else { Fault::None })
            .await
    }

    /// Changes what is broken from now on.
    pub fn set_rule(&self, rule: impl FnMut(&Seen) -> Fault + Send + 'static) {
        *self.shared.rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(rule);
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many pages were asked for so far.
    pub fn pages(&self) -> usize {
        self.shared.pages.load(Ordering::SeqCst)
    }

    /// Waits until `count` answers are held back.
    pub async fn wait_for_held(&self, count: usize) -> Result<()> {
        let mut held = self.shared.held.subscribe();
        let held = tokio::time::timeout(HELD_WITHIN, held.wait_for(|held| *held >= count)).await;
        held.with_context(|| format!("{count} answers are not held within {HELD_WITHIN:?}"))?
            .context("the proxy is gone")?;
        Ok(())
    }

    /// Lets all held answers go, and all later ones.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }
}

/// What waits longer for an answer to be held waits for one that does not come.
const HELD_WITHIN: Duration = Duration::from_secs(90);

/// Scroll pages and searches; freeing a scroll is none.
fn asks_for_page(method: &str, path: &str) -> bool {
    method == "POST" && (path.ends_with("/_search") || path == "/_search/scroll")
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let reset = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let reset = Arc::clone(&reset);
        move |request| {
            let (shared, reset) = (Arc::clone(&shared), Arc::clone(&reset));
            Box::pin(async move { response(request, &shared, &reset).await })
        }
    });
    let mut connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A service that failed leaves the socket here, to be ended in one of two ways.
    std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await.ok();
    let stream = connection.into_parts().io.into_inner();
    if reset.load(Ordering::SeqCst) {
        stream.set_zero_linger().ok();
    }
}

struct InFlight<'a>(&'a Shared);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn response(
    request: Request<Incoming>,
    shared: &Shared,
    reset: &AtomicBool,
) -> Result<Response<BoxBody<Bytes, anyhow::Error>>> {
    let in_flight = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
    let _leaves = InFlight(shared);
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let (method, path) = (head.method.to_string(), head.uri.path().to_owned());
    let page = asks_for_page(&method, &path).then(|| shared.pages.fetch_add(1, Ordering::SeqCst));
    let query = head.uri.query().unwrap_or_default().to_owned();
    let seen = Seen { method, path, query: query.clone(), body: body.clone(), page, in_flight };
    let fault = shared.rule.lock().unwrap_or_else(PoisonError::into_inner)(&seen);
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    match fault {
        Fault::Reset => {
            reset.store(true, Ordering::SeqCst);
            anyhow::bail!("reset");
        }
        Fault::Close => anyhow::bail!("closed"),
        Fault::Response { status, header, body } => {
            let mut response = Response::builder().status(status).header("content-type", "application/json");
            if let Some((name, value)) = header {
                response = response.header(name, value);
            }
            return Ok(response.body(whole(Bytes::from(body)))?);
        }
        Fault::None
        | Fault::ResetAnswer
        | Fault::Truncate
        | Fault::CutBody
        | Fault::Stall
        | Fault::Hold
        | Fault::Rewrite(_) => {}
    }
    let url = format!("{}{}", shared.upstream, head.uri.path_and_query().map_or("/", |p| p.as_str()));
    let mut headers = head.headers;
    headers.remove("host");
    let upstream = shared.client.request(head.method, url).headers(headers).body(body).send().await?;
    let (status, mut headers) = (upstream.status(), upstream.headers().clone());
    let body = upstream.bytes().await?;
    headers.remove("transfer-encoding");
    headers.remove("content-length");
    let mut response = Response::builder().status(StatusCode::from_u16(status.as_u16())?);
    if let Some(all) = response.headers_mut() {
        *all = headers;
    }
    let half = body.slice(..body.len() / 2);
    let body = match fault {
        Fault::Hold => {
            shared.held.send_modify(|held| *held += 1);
            shared.released.subscribe().wait_for(|released| *released).await?;
            whole(body)
        }
        Fault::ResetAnswer => {
            reset.store(true, Ordering::SeqCst);
            anyhow::bail!("reset");
        }
        Fault::Truncate => {
            response = response.header("content-length", body.len());
            let end = futures::stream::iter([Ok(Frame::data(half)), Err(anyhow::anyhow!("truncated"))]);
            BodyExt::boxed(StreamBody::new(end))
        }
        Fault::Stall => {
            response = response.header("content-length", body.len());
            let never = futures::stream::iter([Ok(Frame::data(half))]).chain(futures::stream::pending());
            BodyExt::boxed(StreamBody::new(never))
        }
        Fault::CutBody => whole(half),
        Fault::Rewrite(change) => {
            let mut json: Value = serde_json::from_slice(&body)?;
            change(&mut json);
            keep_asked(&mut json, &query);
            whole(Bytes::from(json.to_string()))
        }
        Fault::None | Fault::Response { .. } | Fault::Reset | Fault::Close => whole(body),
    };
    Ok(response.body(body)?)
}

/// Leaves out what a server would for `filter_path`, of the top level.
fn keep_asked(json: &mut Value, query: &str) {
    let Ok(url) = reqwest::Url::parse(&format!("http://proxy/?{query}")) else { return };
    let Some((_, paths)) = url.query_pairs().find(|(name, _)| name == "filter_path") else { return };
    let asked: HashSet<&str> = paths.split(',').filter_map(|path| path.split('.').next()).collect();
    if let Some(json) = json.as_object_mut() {
        json.retain(|key, _| asked.contains(key.as_str()));
    }
}

fn whole(body: Bytes) -> BoxBody<Bytes, anyhow::Error> {
    Full::new(body).map_err(|never| match never {}).boxed()
}
