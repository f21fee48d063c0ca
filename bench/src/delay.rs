//! A proxy that delays the pages of searches, as a far server does.
//!
//! Owns: which requests are delayed, and for how long. Must not know: what requests mean beyond that.

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// The options of `delay`.
#[derive(Args)]
pub(crate) struct Delay {
    /// Address to listen on; with port 0, a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The server to forward to
    #[arg(long)]
    to: Url,
    /// How long each page is delayed, in milliseconds
    #[arg(long, default_value_t = 300)]
    millis: u64,
}

struct Upstream {
    client: reqwest::Client,
    url: Url,
    delay: Duration,
}

impl Delay {
    /// Prints its URL, and forwards requests until the process is stopped.
    ///
    /// # Errors
    ///
    /// If it cannot listen.
    pub(crate) async fn run(self) -> Result<()> {
        let client =
            reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
        let upstream = Arc::new(Upstream { client, url: self.to, delay: Duration::from_millis(self.millis) });
        let listener =
            TcpListener::bind(self.listen).await.with_context(|| format!("listen on {}", self.listen))?;
        println!("http://{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(serve(stream, Arc::clone(&upstream)));
        }
    }
}

async fn serve(stream: TcpStream, upstream: Arc<Upstream>) {
    let service = service_fn(move |request| {
        let upstream = Arc::clone(&upstream);
        async move { Ok::<_, Infallible>(answer(&upstream, request).await) }
    });
    // The client sees a connection that breaks, and reports it.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(upstream: &Upstream, request: Request<Incoming>) -> Response<Full<Bytes>> {
    forward(upstream, request).await.unwrap_or_else(|error| {
        let mut response = Response::new(Full::from(format!("{error:#}")));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    })
}

async fn forward(upstream: &Upstream, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    if is_page(&head.method, head.uri.path(), &body) {
        tokio::time::sleep(upstream.delay).await;
    }
    let mut url = upstream.url.clone();
    url.set_path(head.uri.path());
    url.set_query(head.uri.query());
    let mut headers = head.headers;
    for name in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let response = upstream.client.request(head.method, url).headers(headers).body(body).send().await?;
    let (status, mut headers) = (response.status(), response.headers().clone());
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let mut forwarded = Response::new(Full::new(response.bytes().await?));
    *forwarded.status_mut() = status;
    *forwarded.headers_mut() = headers;
    Ok(forwarded)
}

/// Returns whether a request asks for rows of a point in time.
fn is_page(method: &Method, path: &str, body: &[u8]) -> bool {
    if *method != Method::POST || path != "/_search" {
        return false;
    }
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body.get("pit").is_some() && body["size"].as_u64().is_none_or(|size| size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_a_point_in_time_are_delayed() {
        let post = |path, body: &str| is_page(&Method::POST, path, body.as_bytes());
        assert!(post("/_search", r#"{"pit":{"id":"a"},"size":10}"#));
        assert!(post("/_search", r#"{"pit":{"id":"a"}}"#));
        assert!(!post("/_search", r#"{"pit":{"id":"a"},"size":0}"#));
        assert!(!post("/_search", r#"{"size":10}"#));
        assert!(!post("/flows/_search", r#"{"pit":{"id":"a"},"size":10}"#));
        assert!(!post("/_search", "no JSON"));
        assert!(!is_page(&Method::GET, "/_search", br#"{"pit":{"id":"a"},"size":10}"#));
    }
}
