//! What lies between us and the server: certificates, fingerprints, proxies, prefixes, headers.

use crate::credentials::{assert_reads, start_trial};
use crate::golden::{alone, remake};
use crate::security::{admin, refusal, registry};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use elastic_client::{Connection, Fingerprint, Method, Request};
use flowsigma_tests::connect_proxy::ConnectProxy;
use flowsigma_tests::secured::{READABLE_INDEX, Secured, password_file};
use serde_json::{Value, json};
use std::path::Path;

async fn ask(connection: &Connection, path: &str) -> Value {
    connection.send(&Request::new(Method::Get, path, path)).await.unwrap().json(path).unwrap()
}

fn reader(server: &Secured) -> String {
    password_file(&server.reader, &server.reader_password_file)
}

/// Of the first certificate in the file.
fn fingerprint(pem: &Path) -> String {
    let text = std::fs::read_to_string(pem).unwrap();
    let body = text.lines().skip_while(|line| !line.starts_with("-----BEGIN")).skip(1);
    let body: String = body.take_while(|line| !line.starts_with("-----END")).collect();
    Fingerprint::of(&STANDARD.decode(body).unwrap()).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fingerprint_of_the_authority_is_enough_and_another_is_not() {
    let server = Secured::from_env().unwrap();
    let _alone = alone(&server.url).await;
    remake(&admin(&server), READABLE_INDEX, 3, "keyword").await;
    let with = |fingerprint: String| {
        server.config_with(&reader(&server), &format!("{{ ca_fingerprint = \"{fingerprint}\" }}"))
    };
    assert_reads(&with(fingerprint(&server.ca_file)), "fingerprint").await;
    let text = refusal(&with(fingerprint(&server.wrong_ca_file)), READABLE_INDEX).await;
    let url = &server.url;
    for part in
        [&format!("{url} was not trusted"), "has the fingerprint", "check tls.ca_file or tls.ca_fingerprint"]
    {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    // Nothing is checked, and the same reader reads.
    assert_reads(&server.config_with(&reader(&server), "{ verify = false }"), "unverified").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_who_asks() {
    let server = Secured::from_env().unwrap();
    let _alone = alone(&server.url).await;
    let admin = admin(&server);
    start_trial(&admin).await;
    remake(&admin, READABLE_INDEX, 3, "keyword").await;
    let rules = json!({ "field": { "dn": "CN=client_user" } });
    let mapping = json!({ "roles": ["flows_reader"], "enabled": true, "rules": rules });
    let map = Request::new(Method::Put, "/_security/role_mapping/certificates", "map").with_body(&mapping);
    admin.send(&map).await.unwrap();
    let (cert, key) = (server.client_cert_file.display(), server.client_key_file.display());
    let certificate = format!("client_cert_file = \"{cert}\", client_key_file = \"{key}\"");
    let ca = format!("ca_file = \"{}\"", server.ca_file.display());
    let without_auth = |tls: &str| {
        server
            .config_with("{}", tls)
            .lines()
            .filter(|l| !l.starts_with("auth"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let config = without_auth(&format!("{{ {ca}, {certificate} }}"));
    let who = ask(&registry(&config).get("test").unwrap(), "/_security/_authenticate").await;
    assert_eq!(who["username"], "client_user");
    assert_reads(&config, "client certificate").await;
    // Who shows none is nobody.
    let text = refusal(&without_auth(&format!("{{ {ca} }}")), READABLE_INDEX).await;
    assert!(text.contains("401") && text.contains("check the credentials"), "{text}");
    // A key of another certificate is told before anything is sent.
    let other = server.ca_file.with_file_name("http.key");
    let config = without_auth(&format!(
        "{{ {ca}, {} }}",
        certificate.replace(&key.to_string(), &other.to_string_lossy())
    ));
    let text = refusal(&config, READABLE_INDEX).await;
    assert!(text.contains("tls.client_cert_file and tls.client_key_file"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_through_the_proxy() {
    let server = Secured::from_env().unwrap();
    let _alone = alone(&server.url).await;
    remake(&admin(&server), READABLE_INDEX, 3, "keyword").await;
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "open sesame").unwrap();
    let expected = format!("Basic {}", STANDARD.encode("ali:open sesame"));
    for authorization in [None, Some(expected)] {
        let proxy = ConnectProxy::start(authorization.clone()).await.unwrap();
        let without = format!("{}proxy = \"{}\"\n", server.reader_config(), proxy.url);
        let auth = format!("{{ username = \"ali\", password_file = \"{}\" }}", password.display());
        let with = format!("{without}proxy_auth = {auth}\n");
        if authorization.is_some() {
            let text = refusal(&without, READABLE_INDEX).await;
            assert!(text.contains("connection \"test\"") && text.contains("proxy"), "{text}");
            assert_eq!(proxy.tunnels(), 0);
        }
        assert_reads(if authorization.is_some() { &with } else { &without }, "proxy").await;
        assert!(proxy.tunnels() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_in_the_url_comes_before_every_path() {
    let server = Secured::from_env().unwrap();
    let _alone = alone(&server.url).await;
    remake(&admin(&server), READABLE_INDEX, 1, "keyword").await;
    // To the server the name of an index is a prefix like any other.
    for prefix in [READABLE_INDEX.to_owned(), format!("{READABLE_INDEX}/")] {
        let config = server.reader_config().replace(&server.url, &format!("{}/{prefix}", server.url));
        let connection = registry(&config).get("test").unwrap();
        assert!(format!("{connection:?}").contains(&format!("{}/{READABLE_INDEX}", server.url)));
        assert_eq!(ask(&connection, "/_count").await["count"], 1730, "{prefix}");
        let asked = Request::new(Method::Post, "/_search", "search").with_param("size", "0");
        let response = connection.send(&asked).await.unwrap().json("search").unwrap();
        assert_eq!(response["hits"]["total"]["value"], 1730, "{prefix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_the_configuration_are_sent() {
    let server = Secured::from_env().unwrap();
    let _alone = alone(&server.url).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("id");
    std::fs::write(&file, "from-a-file\n").unwrap();
    for (value, expected) in [
        ("\"tenant-a\"".to_owned(), "tenant-a"),
        (format!("{{ file = \"{}\" }}", file.display()), "from-a-file"),
    ] {
        // The server shows this header with the task that the request is.
        let config = format!("{}headers = {{ X-Opaque-Id = {value} }}\n", server.admin_config());
        let connection = registry(&config).get("test").unwrap();
        let tasks = Request::new(Method::Get, "/_tasks", "tasks");
        let tasks = tasks.with_param("actions", "cluster:monitor/tasks/lists");
        let tasks = connection.send(&tasks).await.unwrap().json("tasks").unwrap().to_string();
        assert!(tasks.contains(&format!("\"X-Opaque-Id\":\"{expected}\"")), "{tasks}");
    }
}
