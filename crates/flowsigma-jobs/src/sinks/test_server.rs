//! An HTTP server for tests.
//!
//! Owns: responses in a given order, and the requests that it got. Must not know: what a sink should send.

use bytes::Bytes;
use elastic_client::{Access, Connection, ConnectionConfig};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A response, or `None` to close the connection without one.
pub(super) type Scripted = Option<hyper::Response<Full<Bytes>>>;

/// Creates a response without headers.
pub(super) fn response(status: u16, body: impl Into<Bytes>) -> Scripted {
    Some(hyper::Response::builder().status(status).body(Full::new(body.into())).unwrap())
}

/// Creates a response with one header and no body.
pub(super) fn response_with(status: u16, header: &str, value: &str) -> Scripted {
    Some(hyper::Response::builder().status(status).header(header, value).body(Full::default()).unwrap())
}

/// A request that the server got.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) method: String,
    pub(super) uri: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Received {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Default)]
struct State {
    responses: VecDeque<Scripted>,
    requests: Vec<Received>,
}

/// A server on a loopback address. It ends with the test's runtime.
pub(super) struct TestServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl TestServer {
    /// Starts a server that gives these responses, and status 418 after them.
    pub(super) async fn start(responses: impl IntoIterator<Item = Scripted>) -> Self {
        Self::start_with(responses, None).await
    }

    /// Starts a server that speaks TLS.
    pub(super) async fn start_tls(
        responses: impl IntoIterator<Item = Scripted>,
        acceptor: TlsAcceptor,
    ) -> Self {
        Self::start_with(responses, Some(acceptor)).await
    }

    async fn start_with(responses: impl IntoIterator<Item = Scripted>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { responses: responses.into_iter().collect(), requests: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, state).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, state).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, state }
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns a URL of this server.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns a connection of elastic-client to this server.
    pub(super) fn connection(&self, access: Access) -> Arc<Connection> {
        let config = ConnectionConfig { access, ..ConnectionConfig::from_url(&self.url("/")).unwrap() };
        Arc::new(Connection::try_new("prod", &config).unwrap())
    }

    /// Returns the requests so far.
    pub(super) fn requests(&self) -> Vec<Received> {
        self.state.lock().unwrap().requests.clone()
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>) {
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let mut state = state.lock().unwrap();
            let (method, uri) = (head.method.to_string(), head.uri.to_string());
            state.requests.push(Received { method, uri, headers: head.headers, body });
            let response = state.responses.pop_front().unwrap_or_else(|| response(418, "no response left"));
            response.ok_or_else(|| io::Error::other("the test closes the connection"))
        }
    });
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}
