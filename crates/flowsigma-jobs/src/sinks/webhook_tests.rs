//! A webhook against a server that accepts, refuses, redirects and hangs up.

use super::*;
use crate::sinks::test_server::{Scripted, TestServer, response, response_with};
use crate::sinks::tests::{alerts, manifest};
use hmac::{Hmac, KeyInit, Mac};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use sha2::Sha256;
use tokio_rustls::TlsAcceptor;

fn sink(url: &str) -> WebhookSink {
    let retry = RetryPolicy { base: Duration::ZERO, ..RetryPolicy::default() };
    WebhookSink { retry, ..WebhookSink::try_new("scan", "soc", url, None).unwrap() }
}

/// Delivers to a server with these responses. Returns the error and the number of requests.
async fn deliver(responses: impl IntoIterator<Item = Scripted>) -> (Option<String>, usize) {
    let server = TestServer::start(responses).await;
    let delivered = sink(&server.url("/T0/hunter2?token=hunter2")).deliver(&manifest(), &alerts(2)).await;
    let error = delivered.err().map(|error| error.to_string());
    assert!(!error.as_ref().is_some_and(|error| error.contains("hunter2")), "{error:?}");
    (error, server.requests().len())
}

#[tokio::test]
async fn findings_are_posted_as_one_object() {
    let server = TestServer::start([response(204, "")]).await;
    let sink = sink(&server.url("/hook?team=1"));
    sink.deliver(&manifest(), &alerts(2)).await.unwrap();
    sink.deliver(&manifest(), &[]).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!((request.method.as_str(), request.uri.as_str()), ("POST", "/hook?team=1"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("idempotency-key"), Some("scan/2026-01-01T00:00:00Z/1"));
    assert_eq!(request.header("x-flowsigma-signature"), None);
    let expected = serde_json::json!({
        "job": "scan", "window": manifest().window, "revision": 1, "alerts": alerts(2),
    });
    assert_eq!(request.json(), expected);
}

#[tokio::test]
async fn a_body_is_signed_with_the_secret() {
    let server = TestServer::start([response(503, ""), response(200, "")]).await;
    // Cargo sets this variable for every test.
    let signed = WebhookSink::try_new("scan", "soc", &server.url("/"), Some("CARGO_PKG_NAME")).unwrap();
    let sink = WebhookSink { secret: signed.secret, ..sink(&server.url("/")) };
    sink.deliver(&manifest(), &alerts(2)).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        let text = request.header("x-flowsigma-signature").unwrap().strip_prefix("sha256=").unwrap();
        let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        let bytes: Vec<u8> = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        let mut mac = Hmac::<Sha256>::new_from_slice(b"flowsigma-jobs").unwrap();
        mac.update(&request.body);
        mac.verify_slice(&bytes).unwrap();
    }
    assert!(!format!("{sink:?}").contains("flowsigma-jobs"), "{sink:?}");
}

#[tokio::test]
async fn temporary_failures_are_retried() {
    let responses = [response(429, ""), response(500, ""), None, response(599, ""), response(200, "")];
    assert_eq!(deliver(responses).await, (None, 5));
    let (error, requests) = deliver((0..9).map(|_| response(503, ""))).await;
    let error = error.unwrap();
    assert!(error.contains("status 503 (after 6 attempts)"), "{error}");
    assert_eq!(requests, 6);
    let (error, requests) = deliver((0..9).map(|_| None)).await;
    assert!(error.unwrap().contains("(after 6 attempts)"));
    assert_eq!(requests, 6);
}

#[tokio::test]
async fn other_statuses_are_errors_at_once() {
    for status in [304, 400, 401, 403, 404, 408, 413] {
        let (error, requests) = deliver([response(status, "hunter2"), response(200, "")]).await;
        let error = error.unwrap();
        assert!(error.starts_with("sink \"soc\" of job \"scan\": http://127.0.0.1:"), "{error}");
        assert!(error.contains(&format!(": status {status}")), "{error}");
        assert_eq!(requests, 1);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = TestServer::start([response(200, "")]).await;
    for status in [301, 302, 303, 307, 308] {
        let (error, requests) =
            deliver([response_with(status, "location", &other.url("/hunter2")), response(200, "")]).await;
        let error = error.unwrap();
        let expected = format!("status {status}: the endpoint redirects to {}; ", other.url(""));
        assert!(error.contains(&expected), "{error}");
        assert_eq!((requests, other.requests().len()), (1, 0));
    }
}

#[tokio::test]
async fn an_endpoint_that_nobody_serves_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let sink = sink(&format!("http://u:hunter2@{address}/hunter2?token=hunter2"));
    let error = sink.deliver(&manifest(), &alerts(1)).await.unwrap_err().to_string();
    assert!(error.contains(&format!("http://{address}: ")) && error.contains("refused"), "{error}");
    assert!(!format!("{error} {sink:?}").contains("hunter2"), "{error} {sink:?}");
}

#[tokio::test]
async fn a_certificate_must_be_signed_by_a_known_authority() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap()
        .der()
        .clone();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = TestServer::start_tls([response(200, "")], acceptor).await;
    let mut known = RootCertStore::empty();
    known.add(certificate).unwrap();
    let sink = |roots: RootCertStore| WebhookSink {
        url: Url::parse(&format!("https://localhost:{}/", server.port())).unwrap(),
        client: client(roots).unwrap(),
        ..sink("http://127.0.0.1/")
    };
    let error = sink(RootCertStore::empty()).deliver(&manifest(), &alerts(1)).await.unwrap_err().to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
    assert_eq!(server.requests().len(), 0);
    sink(known).deliver(&manifest(), &alerts(1)).await.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn urls_are_https_or_loopback() {
    for url in ["https://soc.example.org/hook", "http://127.9.9.9/", "http://[::1]:80/", "http://localhost/"]
    {
        parse_url(url).unwrap();
    }
    for url in [
        "http://soc.example.org/hunter2",
        "http://10.0.0.1/hunter2",
        "http://localhost.example.org/hunter2",
        "http://u:hunter2@128.0.0.1/",
        "ftp://localhost/hunter2",
        "file:///hunter2",
        "localhost/hunter2",
        "",
    ] {
        let error = parse_url(url).unwrap_err();
        assert!(error.contains("use https") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_retry_waits_as_long_as_the_endpoint_says() {
    let mut headers = HeaderMap::new();
    assert_eq!(retry_after(&headers), None);
    headers.insert(RETRY_AFTER, "7".parse().unwrap());
    assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
    headers.insert(RETRY_AFTER, "Wed, 21 Oct 2026 07:28:00 GMT".parse().unwrap());
    assert_eq!(retry_after(&headers), None);
}
