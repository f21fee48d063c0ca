//! Every kind of credentials, and the least privileges that a user needs.

use crate::command::{flowsigma, stderr};
use crate::golden::{alone, assert_golden, assert_nothing_open, detect, remake};
use crate::security::{admin, make_api_key, refusal, registry};
use elastic_client::{Connection, Method, Request};
use flowsigma_tests::cluster::embedded_context;
use flowsigma_tests::golden::NOTEBOOK_QUERY;
use flowsigma_tests::secured::{READABLE_INDEX, Secured, key_file, token_file};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

async fn ask(admin: &Connection, method: Method, path: &str, body: Option<&Value>) -> Value {
    let mut request = Request::new(method, path, path);
    if let Some(body) = body {
        request = request.with_body(body);
    }
    admin.send(&request).await.unwrap().json(path).unwrap()
}

/// Tokens and client certificates need more than the basic licence.
pub(crate) async fn start_trial(admin: &Connection) {
    if ask(admin, Method::Get, "/_license", None).await["license"]["type"] != "trial" {
        let trial = Request::new(Method::Post, "/_license/start_trial", "a trial licence");
        admin.send(&trial.with_param("acknowledge", "true")).await.unwrap();
    }
}

/// A file with a secret, and the folder that goes with it.
fn secret_file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, format!("{text}\n")).unwrap();
    (folder, path)
}

/// That the job gives its numbers with this configuration, both ways of reading.
pub(crate) async fn assert_reads(config: &str, how: &str) {
    let registry = registry(config);
    let ctx = embedded_context(Arc::clone(&registry)).await.unwrap();
    for read in ["pit", "scroll"] {
        let with = [("query", NOTEBOOK_QUERY), ("read", read), ("slices", "4"), ("page_size", "50")];
        assert_golden(&detect(&ctx, &registry, READABLE_INDEX, &with).await, &format!("{how} {read}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_needs_read_and_view_index_metadata_and_nothing_else() {
    let server = Secured::from_env().unwrap();
    let _alone = alone(&server.url).await;
    let admin = admin(&server);
    remake(&admin, READABLE_INDEX, 3, "ip").await;
    for privileges in [&["read", "view_index_metadata"] as &[_], &["read"], &["view_index_metadata"]] {
        let (_, encoded) = make_api_key(&admin, privileges).await;
        let (_folder, file) = secret_file(&encoded);
        let config = server.config(&key_file(&file));
        if privileges.len() == 2 {
            assert_reads(&config, "api key").await;
            continue;
        }
        let text = match privileges[0] {
            // Without it not even the columns are known.
            "read" => refusal(&config, READABLE_INDEX).await,
            _ => refused_read(&config).await,
        };
        for part in ["connection \"test\"", "403 security_exception", "needs read and view_index_metadata"] {
            assert!(text.contains(part), "{privileges:?}: no {part:?} in: {text}");
        }
    }
    assert_nothing_open(&admin).await;
}

/// The error of a search context that is refused.
async fn refused_read(config: &str) -> String {
    let connection = registry(config).get("test").unwrap();
    let request = elastic_client::ContextRequest {
        index: READABLE_INDEX.into(),
        read: elastic_client::ReadOptions::default(),
        slices: None,
        matching: None,
    };
    elastic_client::open_context(&connection, &request).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_token_reads_and_a_wrong_one_does_not() {
    let server = Secured::from_env().unwrap();
    let _alone = alone(&server.url).await;
    let admin = admin(&server);
    start_trial(&admin).await;
    remake(&admin, READABLE_INDEX, 3, "keyword").await;
    let grant = json!({
        "grant_type": "password", "username": server.reader, "password": server.reader_password().unwrap(),
    });
    let response = ask(&admin, Method::Post, "/_security/oauth2/token", Some(&grant)).await;
    let token = response["access_token"].as_str().unwrap();
    let (_folder, file) = secret_file(token);
    assert_reads(&server.config(&token_file(&file)), "bearer").await;
    let (_folder, file) = secret_file("AAEAAWVsYXN0aWMva2liYW5hL3g6");
    let text = refusal(&server.config(&token_file(&file)), READABLE_INDEX).await;
    assert!(text.contains("401") && text.contains("check the credentials of this connection"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_needs_index_and_view_index_metadata_and_nothing_else() {
    let server = Secured::from_env().unwrap();
    let _alone = alone(&server.url).await;
    let admin = admin(&server);
    remake(&admin, READABLE_INDEX, 1, "ip").await;
    let count = async || {
        let path = format!("/{READABLE_INDEX}/_count");
        ask(&admin, Method::Post, &format!("/{READABLE_INDEX}/_refresh"), None).await;
        ask(&admin, Method::Get, &path, None).await["count"].as_u64().unwrap()
    };
    let before = count().await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("flowsigma.toml");
    let statements = format!(
        "CREATE EXTERNAL TABLE t STORED AS ELASTICSEARCH LOCATION 'elasticsearch://test/{READABLE_INDEX}'; \
         INSERT INTO t (\"netflow.ipv4_src_addr\") VALUES ('10.0.0.1')"
    );
    for privileges in [&["read", "view_index_metadata"] as &[_], &["index", "view_index_metadata"]] {
        let (_, encoded) = make_api_key(&admin, privileges).await;
        let (_folder, file) = secret_file(&encoded);
        std::fs::write(&config, format!("{}\nwrite = true\n", server.config(&key_file(&file)).trim_end()))
            .unwrap();
        let inserted = flowsigma(&["--config", config.to_str().unwrap(), "sql", "-c", &statements]);
        let may = privileges[0] == "index";
        assert_eq!(inserted.status.success(), may, "{privileges:?}: {}", stderr(&inserted));
        if !may {
            for part in ["403", "security_exception", READABLE_INDEX] {
                assert!(stderr(&inserted).contains(part), "no {part:?} in: {}", stderr(&inserted));
            }
        }
        assert_eq!(count().await, before + u64::from(may));
    }
}
