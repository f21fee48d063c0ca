use super::*;

const FULL: &str = r#"
[connections.prod]
nodes = ["https://es1:9200", "https://es2:9200/es"]
auth = { type = "basic", username = "flows", password_env = "ES_PASSWORD" }
tls = { ca_file = "ca.pem" }
server = "opensearch 2.19.1"
max_requests = 8
timeout = "60s"

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

fn parse(text: &str) -> Result<Config, ConfigError> {
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
        tls: Tls { ca_file: Some("/etc/flowsigma/ca.pem".into()), verify: Verify::Full },
        server: Some("opensearch 2.19.1".into()),
        max_requests: NonZeroUsize::new(8),
        timeout: Some(Duration::from_secs(60)),
    };
    assert_eq!(config.connection("prod").unwrap(), &prod);
    let lab = config.connection("lab").unwrap();
    assert_eq!(lab.auth, Auth::ApiKey { key: SecretSource::File("/etc/flowsigma/keys/lab".into()) });
    assert_eq!(lab.tls, Tls { ca_file: None, verify: Verify::Off });
    let cloud = config.connection("cloud").unwrap();
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
            r#"[connections.prod.auth] has both "password_env" and "password_file", only one of them can be"#,
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
        ("[connections.prod]".into(), r#"[connections.prod] needs "nodes""#),
        (
            "[connections.prod]\nnodes = []".into(),
            r#"line 2: "nodes" in [connections.prod] must be a list of one or more URLs like ["https://host:9200"]"#,
        ),
        (
            "[connections.prod]\nnodes = [\n  \"https://es1\",\n  \"https://u:hunter2@es2\"]".into(),
            "line 4: node 2 of [connections.prod]: a URL must not hold credentials, describe a connection in flowsigma.toml with auth (password_env or password_file) and use its name",
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
        ("connections = { prod = 3 }".into(), r#"line 1: "prod" in [connections] must be a table"#),
    ];
    for (text, expected) in cases {
        assert_eq!(message(&text), format!("flowsigma.toml: {expected}"), "{text}");
    }
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
    let error = |config: &Config, name| config.connection(name).unwrap_err().to_string();
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
        r#"unknown connection "prod": no configuration file was found (--config, $FLOWSIGMA_CONFIG, ./flowsigma.toml)"#
    );
}

#[test]
fn a_url_by_hand() {
    let connection = ConnectionConfig::from_url("http://localhost:9200/es").unwrap();
    assert_eq!(connection.nodes, [url("http://localhost:9200/es/")]);
    assert_eq!((connection.auth, connection.tls), (Auth::None, Tls::default()));
    for text in
        ["https://u:hunter2@es1", "https://hunter2@es1", "ftp://u:hunter2@es1", "u:hunter2@es1", "hunter2"]
    {
        let error = ConnectionConfig::from_url(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
    let credentials = ConnectionConfig::from_url("https://u:hunter2@es1").unwrap_err().to_string();
    assert!(credentials.contains("describe a connection in flowsigma.toml"), "{credentials}");
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
    assert_eq!(loaded.path.as_ref(), Some(&path));
    assert_eq!(loaded.config.file, loaded.path);
    assert_eq!(loaded.config.connections["prod"].tls.ca_file, Some(folder.join("ca.pem")));
    assert_eq!(load_first(vec![candidate("first.toml", None)]).unwrap(), LoadedConfig::default());

    let missing = Config::load(Some(&folder.join("first.toml"))).unwrap_err().to_string();
    let expected =
        format!("configuration file {:?} named by --config does not exist", folder.join("first.toml"));
    assert_eq!(missing, expected);
    assert!(matches!(Config::load(Some(&folder)), Err(ConfigError::FileUnreadable { .. })));
    std::fs::remove_dir_all(&folder).unwrap();
}
