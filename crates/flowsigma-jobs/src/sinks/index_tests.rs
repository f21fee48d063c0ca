//! An index against a server that refuses single documents.

use super::*;
use crate::sinks::test_server::{Received, Scripted, TestServer, response};
use crate::sinks::tests::{alert, alerts, manifest};
use elastic_client::{Access, RetryPolicy};
use serde_json::{Value, json};
use std::time::Duration;

fn sink(server: &TestServer) -> IndexSink {
    let retry = RetryPolicy { base: Duration::ZERO, ..RetryPolicy::default() };
    let IndexSink { name, writer, template } =
        IndexSink::try_new("scan", "es", server.connection(Access::Write), "flowsigma-alerts").unwrap();
    IndexSink { name, writer: writer.with_retry(retry), template }
}

/// Creates a response with the number and the status of each document.
fn items(items: &[(u8, u16)]) -> Scripted {
    let items: Vec<Value> = items
        .iter()
        .map(|(number, status)| {
            let mut item = json!({ "_id": alert(*number).id, "status": status });
            if *status >= 300 {
                item["error"] = json!({ "type": format!("t{status}"), "reason": format!("r{number}") });
            }
            json!({ "index": item })
        })
        .collect();
    response(200, json!({ "items": items }).to_string())
}

/// Returns the lines of a request's body.
fn lines(request: &Received) -> Vec<Value> {
    assert!(request.body.ends_with(b"\n"));
    let text = std::str::from_utf8(&request.body).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(request: &Received) -> Vec<String> {
    lines(request).iter().step_by(2).map(|line| line["index"]["_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn each_finding_is_a_document_with_its_id() {
    let server = TestServer::start([items(&[(1, 201), (2, 200)])]).await;
    sink(&server).deliver(&manifest(), &alerts(2)).await.unwrap();
    sink(&server).deliver(&manifest(), &[]).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].method, "POST");
    assert!(requests[0].uri.starts_with("/flowsigma-alerts/_bulk?filter_path="), "{}", requests[0].uri);
    let mut expected = Vec::new();
    for alert in alerts(2) {
        expected.push(json!({ "index": { "_id": alert.id } }));
        expected.push(document::document(&alert).unwrap());
    }
    assert_eq!(lines(&requests[0]), expected);
}

#[tokio::test]
async fn only_documents_that_may_succeed_later_are_sent_again() {
    let server =
        TestServer::start([items(&[(1, 429), (2, 201), (3, 400), (4, 503)]), items(&[(1, 201), (4, 403)])])
            .await;
    let error = sink(&server).deliver(&manifest(), &alerts(4)).await.unwrap_err().to_string();
    let expected = format!(
        "sink \"es\" of job \"scan\": index \"flowsigma-alerts\": 2 of 4 documents were not written, the first is {}: 400 \
         t400: r3; ",
        alert(3).id
    );
    assert!(error.starts_with(&expected), "{error}");
    let requests = server.requests();
    assert_eq!(ids(&requests[1]), [alert(1).id, alert(4).id]);
    assert_eq!(requests.len(), 2);
}

#[tokio::test]
async fn retries_of_documents_are_bounded() {
    let server = TestServer::start((0..9).map(|_| items(&[(1, 429)]))).await;
    let error = sink(&server).deliver(&manifest(), &alerts(1)).await.unwrap_err().to_string();
    assert!(error.contains("1 of 1 documents were not written") && error.contains("429 t429: r1"), "{error}");
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn many_findings_are_several_requests() {
    let mut many = alerts(1);
    many.extend((1..1001).map(|n| Alert { id: format!("{n}"), ..alert(2) }));
    let created = |alerts: &[Alert]| {
        let items: Vec<Value> =
            alerts.iter().map(|alert| json!({ "index": { "_id": alert.id, "status": 201 } })).collect();
        response(200, json!({ "items": items }).to_string())
    };
    let server = TestServer::start([created(&many[..1000]), created(&many[1000..])]).await;
    sink(&server).deliver(&manifest(), &many).await.unwrap();
    let sizes: Vec<usize> = server.requests().iter().map(|request| ids(request).len()).collect();
    assert_eq!(sizes, [1000, 1]);
}

#[tokio::test]
async fn a_response_that_proves_nothing_is_an_error() {
    for body in ["{}", r#"{"items":[]}"#, "<html>"] {
        let server = TestServer::start([response(200, body)]).await;
        let error = sink(&server).deliver(&manifest(), &alerts(1)).await.unwrap_err().to_string();
        assert!(
            error.contains("index \"flowsigma-alerts\": unexpected response: the response to _bulk"),
            "{error}"
        );
    }
    let body = json!({ "error": { "type": "t", "reason": "r" }, "status": 400 }).to_string();
    let server = TestServer::start([response(400, body)]).await;
    let error = sink(&server).deliver(&manifest(), &alerts(1)).await.unwrap_err().to_string();
    assert!(error.contains("bulk: index \"flowsigma-alerts\"") && error.contains("400 t: r"), "{error}");
}

#[tokio::test]
async fn only_one_index_of_a_connection_that_may_write_is_written() {
    let server = TestServer::start([]).await;
    let sink = |access, index: &str| {
        IndexSink::try_new("scan", "es", server.connection(access), index).map_err(|e| e.to_string())
    };
    sink(Access::Write, ".alerts-1").unwrap();
    for index in ["", "a*", "a,b", "-a", "_all", "_bulk", "a/b", "..", "<a-{now/d}>", "eu:a", "a::failures"] {
        sink(Access::Write, index).unwrap_err();
    }
    let error = sink(Access::Read, "alerts").unwrap_err();
    assert!(error.contains("set write = true in [connections.prod]"), "{error}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn the_template_is_installed_once_before_the_first_document() {
    let refused = json!({ "error": { "type": "security_exception", "reason": "no" }, "status": 403 });
    let server = TestServer::start([
        response(403, refused.to_string()),
        response(200, r#"{"acknowledged":true}"#),
        items(&[(1, 201)]),
        items(&[(2, 201)]),
    ])
    .await;
    let sink = sink(&server).with_template("scan").unwrap();
    sink.deliver(&manifest(), &[]).await.unwrap();
    let error = sink.deliver(&manifest(), &alerts(1)).await.unwrap_err().to_string();
    assert!(
        error.contains("install index template \"flowsigma-alerts\"") && error.contains("403"),
        "{error}"
    );
    sink.deliver(&manifest(), &alerts(1)).await.unwrap();
    sink.deliver(&manifest(), &[alert(2)]).await.unwrap();
    let methods: Vec<String> = server.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["PUT", "PUT", "POST", "POST"]);
}

#[tokio::test]
async fn a_template_that_would_not_apply_is_refused() {
    let server = TestServer::start([]).await;
    let sink = IndexSink::try_new("scan", "es", server.connection(Access::Write), "alerts").unwrap();
    let error = sink.with_template("scan").unwrap_err().to_string();
    assert!(
        error.contains("the template applies to indices flowsigma-alerts*, and not to \"alerts\""),
        "{error}"
    );
}
