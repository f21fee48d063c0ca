use super::*;
use elastic_client::{Access, Auth, ClientCertificate, HeaderSource, Proxy, Tls, Verify};
use std::num::NonZeroUsize;
use std::time::Duration;
use url::Url;

const FULL: &str = r#"
[connections.prod]
nodes = ["https://es1:9200", "https://es2:9200/es"]
auth = { type = "basic", username = "flows", password_env = "ES_PASSWORD" }
tls = { ca_file = "ca.pem" }
server = "opensearch 2.19.1"
max_requests = 8
write = true
timeout = "60s"
deadline = "5m"

[connections.lab]
nodes = ["http://127.0.0.1:9200"]
auth = { type = "api_key", key_file = "keys/lab" }
tls = { verify = false }

[connections.cloud]
nodes = ["https://cloud"]
[connections.cloud.auth]
type = "bearer"
token_file = "/run/secrets/token"
"#;

const FINGERPRINT: &str =
    "b5:bb:9d:80:14:a0:f9:b1:d6:1e:21:e7:96:d7:8d:cc:df:13:52:f2:3c:d3:28:12:f4:85:0b:87:8a:e4:94:4c";

fn parse(text: &str) -> Result<Config, ConfigFileError> {
    Config::parse(text, Path::new("flowsigma.toml"))
}

fn message(text: &str) -> String {
    let error = parse(text).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    error.to_string()
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[test]
fn a_full_file() {
    let config = Config::parse(FULL, Path::new("/etc/flowsigma/flowsigma.toml")).unwrap();
    let prod = ConnectionConfig {
        nodes: vec![url("https://es1:9200/"), url("https://es2:9200/es/")],
        auth: Auth::Basic { username: "flows".into(), password: SecretSource::Env("ES_PASSWORD".into()) },
        tls: Tls { ca_file: Some("/etc/flowsigma/ca.pem".into()), ..Tls::default() },
        proxy: None,
        headers: BTreeMap::new(),
        server: Some("opensearch 2.19.1".into()),
        max_requests: NonZeroUsize::new(8),
        access: Access::Write,
        timeout: Some(Duration::from_secs(60)),
        deadline: Some(Duration::from_secs(300)),
    };
    assert_eq!(config.connections["prod"], prod);
    let lab = &config.connections["lab"];
    assert_eq!(lab.auth, Auth::ApiKey { key: SecretSource::File("/etc/flowsigma/keys/lab".into()) });
    assert_eq!(lab.tls, Tls { verify: Verify::Off, ..Tls::default() });
    let cloud = &config.connections["cloud"];
    assert_eq!(cloud.auth, Auth::Bearer { token: SecretSource::File("/run/secrets/token".into()) });
    assert_eq!(prod.nodes[1].join("_search").unwrap().as_str(), "https://es2:9200/es/_search");
}

#[test]
fn an_empty_file_has_no_connections() {
    assert!(parse("").unwrap().connections.is_empty());
    assert!(parse("[connections]").unwrap().connections.is_empty());
}

#[test]
fn debug_shows_where_a_secret_is_and_not_the_secret() {
    let config = Config::parse(&FULL.replace("ES_PASSWORD", "PATH"), Path::new("flowsigma.toml")).unwrap();
    let shown = format!("{config:?}");
    assert!(shown.contains(r#"Env("PATH")"#));
    assert!(!shown.contains(&std::env::var("PATH").unwrap()));
}

#[test]
fn messages() {
    let nodes = "[connections.prod]\nnodes = [\"https://es1\"]\n";
    let auth = |auth: &str| format!("{nodes}auth = {{ {auth} }}");
    let basic = r#"type = "basic", username = "u""#;
    let cases = [
        (
            auth(&format!(r#"{basic}, pasword_env = "X""#)),
            r#"unknown key "pasword_env" in [connections.prod.auth], did you mean "password_env"?"#,
        ),
        (
            auth(&format!(r#"{basic}, zzz = "X""#)),
            r#"unknown key "zzz" in [connections.prod.auth], known are "type", "username", "password_env", "password_file""#,
        ),
        (
            "[connection.prod]".into(),
            r#"unknown key "connection" in the top level, did you mean "connections"?"#,
        ),
        (
            format!("{nodes}time_out = 3"),
            r#"unknown key "time_out" in [connections.prod], did you mean "timeout"?"#,
        ),
        (
            format!("{nodes}tls = {{ verfy = false }}"),
            r#"unknown key "verfy" in [connections.prod.tls], did you mean "verify"?"#,
        ),
        (
            auth(r#"type = "bearer", token_env = "T", username = "u""#),
            r#"unknown key "username" in [connections.prod.auth], known are "type", "token_env", "token_file""#,
        ),
        (
            "[connections.\"a.b\"]\nnode = 1".into(),
            r#"unknown key "node" in [connections."a.b"], did you mean "nodes"?"#,
        ),
        (
            auth(&format!(r#"{basic}, password = "hunter2""#)),
            r#"line 3: "password" in [connections.prod.auth] puts a secret into the file itself, use password_env or password_file (with auth.type = "basic") instead"#,
        ),
        (
            format!("{nodes}Api-Key = \"hunter2\""),
            r#"line 3: "Api-Key" in [connections.prod] puts a secret into the file itself, use key_env or key_file (with auth.type = "api_key") instead"#,
        ),
        (
            auth(r#"type = "bearer", token = "hunter2""#),
            r#"line 3: "token" in [connections.prod.auth] puts a secret into the file itself, use token_env or token_file (with auth.type = "bearer") instead"#,
        ),
        (
            auth(&format!(r#"{basic}, password_env = "hunter2!""#)),
            r#"line 3: "password_env" in [connections.prod.auth] must be the name of an environment variable"#,
        ),
        (auth(basic), r#"[connections.prod.auth] needs "password_env" or "password_file""#),
        (
            auth(&format!(r#"{basic}, password_env = "A", password_file = "b""#)),
            r#"[connections.prod.auth] has both "password_env" and "password_file", set only one of them"#,
        ),
        (auth(r#"type = "basic", password_env = "A""#), r#"[connections.prod.auth] needs "username""#),
        (
            auth(r#"username = "u""#),
            r#"[connections.prod.auth] needs "type", which is "basic", "api_key" or "bearer""#,
        ),
        (
            auth(r#"type = "hunter2""#),
            r#"line 3: "type" in [connections.prod.auth] must be "basic", "api_key" or "bearer""#,
        ),
        (format!("{nodes}auth = \"hunter2\""), r#"line 3: "auth" in [connections.prod] must be a table"#),
        (
            format!("{nodes}auth = \"hunter2"),
            "line 3, column 16: not valid TOML: invalid basic string, expected `\"`",
        ),
        (
            format!("{nodes}password = hunter2"),
            "line 3, column 12: not valid TOML: string values must be quoted, expected literal string",
        ),
        (
            format!("{nodes}server = \"hunter2\"\nserver = \"hunter2\""),
            "line 4, column 1: not valid TOML: duplicate key",
        ),
        ("[connections.prod]".into(), r#"[connections.prod] needs "nodes" or "cloud_id""#),
        (
            "[connections.prod]\nnodes = []".into(),
            r#"line 2: "nodes" in [connections.prod] must be a list of one or more URLs like ["https://host:9200"]"#,
        ),
        (
            "[connections.prod]\nnodes = [\n  \"https://es1\",\n  \"https://u:hunter2@es2\"]".into(),
            "line 4: node 2 of [connections.prod]: a URL must not hold credentials, which go into auth of the connection (username with password_env or password_file)",
        ),
        (
            "[connections.prod]\nnodes = [\"es1:9200\"]".into(),
            "line 2: node 1 of [connections.prod]: expected a URL that starts with http:// or https://",
        ),
        (
            "[connections.prod]\nnodes = [\"u:hunter2@es1\"]".into(),
            "line 2: node 1 of [connections.prod]: expected a URL that starts with http:// or https://",
        ),
        (
            "[connections.prod]\nnodes = [\"https://\"]".into(),
            "line 2: node 1 of [connections.prod]: not a URL (empty host), expected one like \"https://host:9200\"",
        ),
        (
            "[connections.prod]\nnodes = [\"https://es1/?key=hunter2\"]".into(),
            "line 2: node 1 of [connections.prod]: a node's URL must not have a query or a fragment",
        ),
        (
            format!("{nodes}max_requests = 0"),
            r#"line 3: "max_requests" in [connections.prod] must be a whole number from 1 up"#,
        ),
        (
            format!("{nodes}timeout = 60"),
            r#"line 3: "timeout" in [connections.prod] must be a duration above zero like "500ms", "60s" or "2m""#,
        ),
        (
            "[connections.\"a/b\"]\n".into(),
            r#"line 1: "a/b" in [connections] must be a connection name of letters, digits, "_", "-" and ".""#,
        ),
        (
            format!("{nodes}cloud_id = \"c:aG9zdCRlcw==\""),
            r#"[connections.prod] has both "nodes" and "cloud_id", set only one of them"#,
        ),
        (
            "[connections.prod]\ncloud_id = \"c:hunter2\"".into(),
            r#"line 2: "cloud_id" in [connections.prod] must be an id like "name:…", as the cloud's console shows it"#,
        ),
        (
            format!("{nodes}tls = {{ ca_fingerprint = \"hunter2\" }}"),
            r#"line 3: "ca_fingerprint" in [connections.prod.tls] must be a SHA-256 in 64 hexadecimal digits, colons allowed"#,
        ),
        (
            format!("{nodes}tls = {{ ca_fingerprint = \"{FINGERPRINT}\", ca_file = \"ca.pem\" }}"),
            r#"[connections.prod.tls] has both "ca_file" and "ca_fingerprint", set only one of them"#,
        ),
        (
            format!("{nodes}tls = {{ ca_fingerprint = \"{FINGERPRINT}\", verify = false }}"),
            r#"[connections.prod.tls] has both "verify" and "ca_fingerprint", set only one of them"#,
        ),
        (
            format!("{nodes}tls = {{ client_cert_file = \"c.pem\" }}"),
            r#"[connections.prod.tls] needs "client_key_file" beside "client_cert_file""#,
        ),
        (
            format!("{nodes}tls = {{ client_key_file = \"c.pem\" }}"),
            r#"[connections.prod.tls] needs "client_cert_file" beside "client_key_file""#,
        ),
        (
            format!("{nodes}tls = {{ ca_fingerprnt = \"x\" }}"),
            r#"unknown key "ca_fingerprnt" in [connections.prod.tls], did you mean "ca_fingerprint"?"#,
        ),
        (
            format!("{nodes}proxy = \"http://u:hunter2@proxy\""),
            r#"line 3: "proxy" in [connections.prod] must be a URL like "http://proxy:3128" without credentials, which go into proxy_auth"#,
        ),
        (
            format!("{nodes}proxy_auth = {{ username = \"u\", password_env = \"P\" }}"),
            r#"[connections.prod] needs "proxy" beside "proxy_auth""#,
        ),
        (
            format!("{nodes}proxy_auth = {{ username = \"u\", password = \"hunter2\" }}"),
            r#"line 3: "password" in [connections.prod.proxy_auth] puts a secret into the file itself, use password_env or password_file (with auth.type = "basic") instead"#,
        ),
        (
            format!("{nodes}headers = {{ Authorization = \"hunter2\" }}"),
            r#"line 3: "Authorization" in [connections.prod.headers] must be left out: the client sets it, from auth or for each request"#,
        ),
        (
            format!("{nodes}headers = {{ X-Api-Key = \"hunter2\" }}"),
            r#"line 3: "X-Api-Key" in [connections.prod.headers] must be { env = … } or { file = … }: by its name it is a secret"#,
        ),
        (
            format!("{nodes}headers = {{ X-Tenant = {{ evn = \"A\" }} }}"),
            r#"unknown key "evn" in [connections.prod.headers.X-Tenant], known are "env", "file""#,
        ),
        (
            format!("{nodes}headers = {{ X-Tenant = \"hunter2\\n\" }}"),
            r#"line 3: "X-Tenant" in [connections.prod.headers] must be a text that a header may hold, or for a secret { env = … } or { file = … }"#,
        ),
        (
            format!("{nodes}headers = {{ \"X Tenant\" = \"a\" }}"),
            r#"line 3: "X Tenant" in [connections.prod.headers] must be under the name of a header"#,
        ),
        (
            "[cluster]\ntls = { ca_file = \"ca.pem\", cert_file = \"c.pem\" }".into(),
            r#"[cluster.tls] needs "key_file""#,
        ),
        (
            "[cluster]\ntls = { ca_fil = \"ca.pem\" }".into(),
            r#"unknown key "ca_fil" in [cluster.tls], did you mean "ca_file"?"#,
        ),
        ("connections = { prod = 3 }".into(), r#"line 1: "prod" in [connections] must be a table"#),
    ];
    for (text, expected) in cases {
        assert_eq!(message(&text), format!("flowsigma.toml: {expected}"), "{text}");
    }
}

#[test]
fn certificates_proxies_and_headers() {
    let text = format!(
        r#"
[connections.prod]
nodes = ["https://es1"]
tls = {{ ca_fingerprint = "{}", client_cert_file = "c.pem", client_key_file = "/k.pem" }}
proxy = "http://proxy:3128"
proxy_auth = {{ username = "u", password_env = "PROXY_PASSWORD" }}
headers = {{ X-Tenant = "a", X-Api-Key = {{ env = "KEY" }}, X-Other = {{ file = "other" }} }}

[cluster]
tls = {{ ca_file = "ca.pem", cert_file = "node.pem", key_file = "node.key" }}
"#,
        FINGERPRINT.to_uppercase()
    );
    let config = Config::parse(&text, Path::new("/etc/flowsigma.toml")).unwrap();
    let prod = &config.connections["prod"];
    let Verify::Fingerprint(fingerprint) = prod.tls.verify else { panic!("{:?}", prod.tls) };
    assert_eq!(fingerprint.to_string(), FINGERPRINT.replace(':', ""));
    let client = ClientCertificate { cert_file: "/etc/c.pem".into(), key_file: "/k.pem".into() };
    assert_eq!(prod.tls.client, Some(client));
    let auth = Some(("u".to_owned(), SecretSource::Env("PROXY_PASSWORD".into())));
    assert_eq!(prod.proxy, Some(Proxy { url: url("http://proxy:3128"), auth }));
    let headers = [
        ("x-api-key".to_owned(), HeaderSource::Secret(SecretSource::Env("KEY".into()))),
        ("x-other".to_owned(), HeaderSource::Secret(SecretSource::File("/etc/other".into()))),
        ("x-tenant".to_owned(), HeaderSource::Text("a".into())),
    ];
    assert_eq!(prod.headers, BTreeMap::from(headers));
    let tls = ClusterTls {
        ca_file: "/etc/ca.pem".into(),
        cert_file: "/etc/node.pem".into(),
        key_file: "/etc/node.key".into(),
    };
    assert_eq!(config.cluster_tls, Some(tls));
}

#[test]
fn a_cloud_id_is_a_node() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let node = |id: &str| {
        let text = format!("[connections.a]\ncloud_id = \"{id}\"");
        parse(&text).ok().map(|config| config.connections["a"].nodes[0].to_string())
    };
    for (decoded, expected) in [
        ("eu.aws.found.io$abc$kib", Some("https://abc.eu.aws.found.io/")),
        ("eu.aws.found.io:9243$abc$kib", Some("https://abc.eu.aws.found.io:9243/")),
        ("eu.aws.found.io:9243$abc:9244$kib", Some("https://abc.eu.aws.found.io:9244/")),
        ("eu.aws.found.io$abc", Some("https://abc.eu.aws.found.io/")),
        ("eu.aws.found.io", None),
        ("eu.aws.found.io$", None),
        ("$abc", None),
        ("eu.aws.found.io:x$abc", None),
        ("a@b/c$abc", None),
    ] {
        let id = format!("my: cluster:{}", STANDARD.encode(decoded));
        assert_eq!(node(&id).as_deref(), expected, "{decoded}");
        assert_eq!(node(id.trim_end_matches('=')).as_deref(), expected, "{decoded}");
    }
    assert_eq!(node("no colon"), None);
}

#[test]
fn durations() {
    let timeout = |text: &str| {
        let text = format!("[connections.a]\nnodes = [\"http://a\"]\ntimeout = \"{text}\"");
        parse(&text).ok().and_then(|config| config.connections["a"].timeout)
    };
    for (text, millis) in [("500ms", 500), ("60s", 60_000), ("2 m", 120_000), ("1h", 3_600_000)] {
        assert_eq!(timeout(text), Some(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "60", "s", "0s", "-1s", "1.5s", "1d", "99999999999999999999s", "18446744073709551615h"] {
        assert_eq!(timeout(text), None, "{text}");
    }
}

#[test]
fn an_unknown_connection_names_the_file_and_the_others() {
    let config = parse(FULL).unwrap();
    let error = |config: &Config, name| config.registry().get(name).unwrap_err().to_string();
    assert_eq!(
        error(&config, "prd"),
        r#"unknown connection "prd": flowsigma.toml has no such connection, did you mean "prod"?"#
    );
    assert_eq!(
        error(&config, "xyz"),
        r#"unknown connection "xyz": flowsigma.toml has no such connection, known are "cloud", "lab", "prod""#
    );
    assert_eq!(
        error(&Config::default(), "prod"),
        r#"unknown connection "prod": no configuration file was found (--config, $FLOWSIGMA_CONFIG, ./flowsigma.toml, the user's folder)"#
    );
}

#[test]
fn where_the_file_is_looked_for() {
    let paths = |explicit: Option<&str>, env: Option<&str>| -> Vec<(PathBuf, Option<&str>)> {
        plan_candidates(explicit.map(Path::new), env.map(OsString::from), Some("/home/u/.config".into()))
            .into_iter()
            .map(|candidate| (candidate.path, candidate.required_by))
            .collect()
    };
    assert_eq!(paths(Some("a.toml"), Some("b.toml")), [("a.toml".into(), Some("--config"))]);
    assert_eq!(paths(None, Some("b.toml")), [("b.toml".into(), Some("$FLOWSIGMA_CONFIG"))]);
    let implicit = [(CONFIG_FILE.into(), None), ("/home/u/.config/flowsigma/flowsigma.toml".into(), None)];
    assert_eq!(paths(None, Some("")), implicit);
    assert_eq!(paths(None, None), implicit);
}

#[test]
fn the_first_file_found_wins() {
    let folder = std::env::temp_dir().join(format!("flowsigma-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("second.toml");
    std::fs::write(&path, FULL).unwrap();
    let candidate = |name: &str, required_by| Candidate { path: folder.join(name), required_by };

    let loaded = load_first(vec![candidate("first.toml", None), candidate("second.toml", None)]).unwrap();
    assert_eq!(loaded.file.as_ref(), Some(&path));
    assert_eq!(loaded.connections["prod"].tls.ca_file, Some(folder.join("ca.pem")));
    assert_eq!(load_first(vec![candidate("first.toml", None)]).unwrap(), Config::default());

    let missing = Config::load(Some(&folder.join("first.toml"))).unwrap_err().to_string();
    let expected =
        format!("configuration file {:?} named by --config does not exist", folder.join("first.toml"));
    assert_eq!(missing, expected);
    assert!(matches!(Config::load(Some(&folder)), Err(ConfigFileError::FileUnreadable { .. })));
    std::fs::remove_dir_all(&folder).unwrap();
}
