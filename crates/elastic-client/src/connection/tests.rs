//! A connection to sockets that send a fixed response or none.

use super::*;
use crate::product::Version;
use crate::server::fetch_server;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// Starts a server that sends `response` to every request, or nothing. Returns its URL and the number of requests.
fn server(response: Option<&'static str>) -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            counted.fetch_add(1, Ordering::Relaxed);
            match response {
                Some(response) => stream.write_all(response.as_bytes()).unwrap(),
                None => silent.push(stream),
            }
        }
    });
    (url, asked)
}

async fn ask(url: &str, deadline: Duration) -> (Error, Duration) {
    let config = ConnectionConfig { deadline: Some(deadline), ..ConnectionConfig::from_url(url).unwrap() };
    let connection = Connection::try_new("test", &config).unwrap();
    let started = Instant::now();
    let error = connection.send(&Request::new(Method::Get, "/", "ask")).await.unwrap_err();
    (error, started.elapsed())
}

#[tokio::test]
async fn a_server_that_is_busy_is_not_asked_past_the_deadline() {
    let busy = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    let (url, asked) = server(Some(busy));
    let (error, took) = ask(&url, Duration::from_millis(700)).await;
    let attempts = asked.load(Ordering::Relaxed);
    assert!((2..=4).contains(&attempts), "{attempts}");
    assert!(took < Duration::from_millis(1500), "{took:?}");
    assert!(error.is_retryable());
    let text = error.to_string();
    for part in [
        &format!("ask: connection \"test\": gave up after {attempts} attempts ("),
        "503",
        "the deadline of a request is 700ms",
        "set deadline of this connection",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn a_try_that_gets_no_response_ends_at_the_deadline() {
    let (url, asked) = server(None);
    let (error, took) = ask(&url, Duration::from_millis(300)).await;
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(2), "{took:?}");
    assert!(matches!(error, Error::DeadlineExceeded { attempts: 1, .. }), "{error}");
}

#[tokio::test]
async fn a_statement_asks_for_the_version_once() {
    let old = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 30\r\n\r\n{\"version\":{\"number\":\"8.8.2\"}}";
    let (url, asked) = server(Some(old));
    let connection = Connection::try_new("test", &ConnectionConfig::from_url(&url).unwrap()).unwrap();
    for _ in 0..2 {
        assert_eq!(fetch_server(&connection).await.unwrap().version, Some(Version(8, 8, 2)));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}
