//! A server with users and TLS: who may read reads the same numbers, and who may not is told why.

use crate::golden::{alone, assert_golden, assert_nothing_open, count, detect, loaded, options, remake};
use datafusion_elasticsearch::EsTable;
use elastic_client::{Connection, ConnectionRegistry, Method, Request};
use flowsigma_node::Config;
use flowsigma_tests::cluster::Cluster;
use flowsigma_tests::cluster::{embedded_context, remote_context};
use flowsigma_tests::golden::NOTEBOOK_QUERY;
use flowsigma_tests::secured::{READABLE_INDEX, Secured, password_env, password_file, tls};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

pub(crate) fn registry(config: &str) -> Arc<ConnectionRegistry> {
    Arc::new(parsed(config).registry())
}

pub(crate) fn parsed(config: &str) -> Config {
    Config::parse(config, Path::new("flowsigma.toml")).unwrap()
}

pub(crate) fn admin(server: &Secured) -> Arc<Connection> {
    registry(&server.admin_config()).get("test").unwrap()
}

/// Makes an API key that has `privileges` on the readable index; answers the key, and the form in
/// which it is sent.
pub(crate) async fn make_api_key(admin: &Connection, privileges: &[&str]) -> (String, String) {
    let operation = "make an API key";
    let role = json!({ "indices": [{ "names": [READABLE_INDEX], "privileges": privileges }] });
    let body = json!({ "name": "flowsigma", "role_descriptors": { "reader": role } });
    let make = Request::new(Method::Post, "/_security/api_key", operation).with_body(&body);
    let response = admin.send(&make).await.unwrap().json(operation).unwrap();
    let text = |key: &str| response[key].as_str().unwrap().to_owned();
    (text("api_key"), text("encoded"))
}

/// How the job fails as far as it gets without a cluster.
pub(crate) async fn refusal(config: &str, index: &str) -> String {
    let table = EsTable::try_new(registry(config), "test", index, &options(&[])).await;
    table.map(|table| table.spec().index.clone()).unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_gets_the_golden_numbers_over_tls() {
    let server = Secured::from_env().unwrap();
    let _alone = alone(&server.url).await;
    let admin = admin(&server);
    remake(&admin, READABLE_INDEX, 3, "keyword").await;
    let registry = registry(&server.reader_config());
    // The processes have the password from a variable, which this process has not.
    let variable = "FLOWSIGMA_TEST_READER";
    let config = server.config(&password_env(&server.reader, variable));
    let password = server.reader_password().unwrap();
    let cluster = Cluster::start_with(2, 2, &config, &[(variable, &password)]).await.unwrap();
    let embedded = embedded_context(Arc::clone(&registry)).await.unwrap();
    let remote = remote_context(Arc::clone(&registry), &cluster.scheduler_url).await.unwrap();
    for (place, ctx) in [("embedded", &embedded), ("2 executors", &remote)] {
        for read in ["pit", "scroll"] {
            let with = [("query", NOTEBOOK_QUERY), ("read", read), ("slices", "4"), ("page_size", "50")];
            let detection = detect(ctx, &registry, READABLE_INDEX, &with).await;
            assert_golden(&detection, &format!("{place} {read}"));
        }
    }
    assert_nothing_open(&admin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_names_connection_and_index_and_says_what_to_do() {
    let server = Secured::from_env().unwrap();
    let _alone = alone(&server.url).await;
    let admin = admin(&server);
    for index in [READABLE_INDEX, "seceon_secret"] {
        remake(&admin, index, 1, "keyword").await;
    }
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("password");
    std::fs::write(&wrong, "not-the-password").unwrap();
    let reader = password_file(&server.reader, &server.reader_password_file);
    let untrusted = format!("{} was not trusted", server.url);
    let cases: [(&str, String, &str, &[&str]); 6] = [
        (
            "wrong password",
            server.config(&password_file(&server.reader, &wrong)),
            READABLE_INDEX,
            &["401 security_exception", "check the credentials of this connection"],
        ),
        (
            "wrong authority",
            server.config_with(&reader, &tls(&server.wrong_ca_file)),
            READABLE_INDEX,
            &[&untrusted, "check tls.ca_file or tls.ca_fingerprint of this connection"],
        ),
        (
            "no authority",
            server.config_with(&reader, "{}"),
            READABLE_INDEX,
            &[&untrusted, "check tls.ca_file or tls.ca_fingerprint of this connection"],
        ),
        (
            "no such index",
            server.admin_config(),
            "seceon_nothing",
            &["404 index_not_found_exception", "check the index name"],
        ),
        (
            "not allowed",
            server.reader_config(),
            "seceon_secret",
            &["403 security_exception", "this user needs read and view_index_metadata on the index"],
        ),
        (
            "one of two not allowed",
            server.reader_config(),
            "seceon_flows,seceon_secret",
            &["403 security_exception", "this user needs read and view_index_metadata on the index"],
        ),
    ];
    for (how, config, index, parts) in cases {
        let text = refusal(&config, index).await;
        let named = ["connection \"test\"".to_owned(), format!("index \"{index}\"")];
        for part in named.iter().map(String::as_str).chain(parts.iter().copied()) {
            assert!(text.contains(part), "{how}: no {part:?} in: {text}");
        }
    }
}

/// Elasticsearch narrows a pattern to what the user may see, without a word. What is behind it
/// must be whole; that there is more, nobody but an administrator can know.
#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_reads_what_its_user_may_see() {
    let server = Secured::from_env().unwrap();
    let _alone = alone(&server.url).await;
    let admin = admin(&server);
    for index in [READABLE_INDEX, "seceon_secret"] {
        remake(&admin, index, 2, "keyword").await;
    }
    let all = loaded();
    for (config, rows) in [(server.reader_config(), all), (server.admin_config(), 2 * all)] {
        let registry = registry(&config);
        let ctx = embedded_context(Arc::clone(&registry)).await.unwrap();
        for read in ["pit", "scroll"] {
            let with = options(&[("read", read), ("page_size", "500")]);
            let table = EsTable::try_new(Arc::clone(&registry), "test", "seceon_*", &with).await.unwrap();
            ctx.deregister_table("t").unwrap();
            ctx.register_table("t", Arc::new(table)).unwrap();
            for counted in ["*", "src_addr_space"] {
                let sql = format!("SELECT count({counted}) FROM t");
                assert_eq!(count(&ctx, &sql).await.unwrap(), rows, "{read} {config} {sql}");
            }
        }
    }
    // Where nothing is left of it, it is an error and no empty table.
    let text = refusal(&server.reader_config(), "seceon_sec*").await;
    for part in ["connection \"test\"", "index \"seceon_sec*\"", "that this user may see"] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}
