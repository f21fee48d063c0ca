//! No secret shows, wherever one looks: logs at their loudest, plans, errors, REST answers, files.

use crate::golden::{alone, options, remake};
use crate::security::{admin, make_api_key, registry};
use ballista_elasticsearch::{EsLogicalCodec, physical_codec, session_config, session_state};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::EsTable;
use datafusion_proto::bytes::{
    logical_plan_to_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use elastic_client::{Method, Request};
use flowsigma_tests::cluster::{Cluster, binary};
use flowsigma_tests::connect_proxy::ConnectProxy;
use flowsigma_tests::secrets::Secrets;
use flowsigma_tests::secured::{READABLE_INDEX, Secured, key_file, password_env};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

const RIGHT: &str = "FLOWSIGMA_TEST_RIGHT";
const WRONG: &str = "FLOWSIGMA_TEST_WRONG";
const PROXY: &str = "FLOWSIGMA_TEST_PROXY";
const PROXY_PASSWORD: &str = "open-sesame-4417";
/// Nearly right, as wrong passwords are.
const WRONG_PASSWORD: &str = "Corect-horse-battery-9731";

/// Places where a secret could show, each with what it holds.
type Places = Vec<(String, Vec<u8>)>;

/// The command line with everything logged. Its places are `name` with output, log and plans.
fn client(
    places: &mut Places,
    name: &str,
    config: &Path,
    password: &str,
    args: &[&str],
    sql: &str,
) -> Output {
    let output = Command::new(binary("flowsigma").unwrap())
        .arg("--config")
        .arg(config)
        .arg("sql")
        .args(args)
        .args(["--command", sql])
        .env("RUST_LOG", "trace")
        .env(RIGHT, password)
        .env(WRONG, WRONG_PASSWORD)
        .env(PROXY, PROXY_PASSWORD)
        .output()
        .unwrap();
    places.push((format!("{name}: output"), output.stdout.clone()));
    places.push((format!("{name}: log"), output.stderr.clone()));
    output
}

/// A table over the readable index, how its count is planned, and the count.
fn job(connection: &str) -> String {
    let count = "SELECT count(*) AS documents FROM t";
    format!(
        "CREATE EXTERNAL TABLE t STORED AS ELASTICSEARCH \
         LOCATION 'elasticsearch://{connection}/{READABLE_INDEX}'; \
         EXPLAIN {count}; EXPLAIN VERBOSE {count}; {count}"
    )
}

/// What the scheduler tells about itself and all of its jobs.
async fn add_rest_answers(places: &mut Places, cluster: &Cluster) -> usize {
    let rest = cluster.rest().unwrap();
    let mut paths: Vec<String> =
        ["/api/state", "/api/version", "/api/executors", "/api/metrics", "/api/jobs"]
            .map(String::from)
            .into();
    let jobs = rest.send(&Request::new(Method::Get, "/api/jobs", "jobs")).await.unwrap();
    let jobs = jobs.json("jobs").unwrap();
    let jobs = jobs.as_array().unwrap();
    for job in jobs {
        let id = job["job_id"].as_str().unwrap();
        for part in ["", "/config", "/stages", "/dot", "/stage/1/dot"] {
            paths.push(format!("/api/job/{id}{part}"));
        }
    }
    for path in paths {
        // Not every job got so far as to have stages: then the refusal is what is told.
        let text = match rest.send(&Request::new(Method::Get, path.as_str(), "ask")).await {
            Ok(response) => response.body.to_vec(),
            Err(e) => e.to_string().into_bytes(),
        };
        places.push((path, text));
    }
    jobs.len()
}

/// The plans of a count as they travel.
async fn add_plans(places: &mut Places, config: &str, connection: &str) {
    let registry = registry(config);
    let table =
        EsTable::try_new(Arc::clone(&registry), connection, READABLE_INDEX, &options(&[])).await.unwrap();
    let ctx = SessionContext::new_with_state(session_state(&registry, session_config(&registry, None)));
    ctx.register_table("t", Arc::new(table)).unwrap();
    let plan = ctx.sql("SELECT count(*) FROM t").await.unwrap().into_optimized_plan().unwrap();
    let codec = EsLogicalCodec::new(Arc::clone(&registry));
    let bytes = logical_plan_to_bytes_with_extension_codec(&plan, &codec).unwrap();
    places.push((format!("logical plan over {connection}"), bytes.to_vec()));
    // What `{:?}` says of a plan and of all it holds, the connections too.
    places.push((format!("logical plan over {connection}, for debugging"), format!("{plan:?}").into_bytes()));
    let local = SessionContext::new();
    let plan = local.state().create_physical_plan(&plan).await.unwrap();
    places
        .push((format!("physical plan over {connection}, for debugging"), format!("{plan:?}").into_bytes()));
    let bytes =
        physical_plan_to_bytes_with_extension_codec(plan, physical_codec(&registry).as_ref()).unwrap();
    places.push((format!("physical plan over {connection}"), bytes.to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_anywhere() {
    let server = Secured::from_env().unwrap();
    let _alone = alone(&server.url).await;
    let admin = admin(&server);
    remake(&admin, READABLE_INDEX, 3, "keyword").await;
    let password = server.reader_password().unwrap();
    let (key, encoded) = make_api_key(&admin, &["read", "view_index_metadata"]).await;
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("key");
    std::fs::write(&keys, format!("{encoded}\n")).unwrap();

    let expected = STANDARD.encode(format!("ali:{PROXY_PASSWORD}"));
    let proxy = ConnectProxy::start(Some(format!("Basic {expected}"))).await.unwrap();
    let header = folder.path().join("header");
    std::fs::write(&header, "tenant-secret-2290").unwrap();

    let mut secrets = Secrets::default();
    secrets.add_password("ali", PROXY_PASSWORD);
    secrets.add("the header", "tenant-secret-2290");
    secrets.add_password(&server.reader, &password);
    secrets.add_password(&server.reader, WRONG_PASSWORD);
    secrets.add("the API key", &key);
    secrets.add("the API key as it is sent", &encoded);

    let right = password_env(&server.reader, RIGHT);
    let with_key = server.connection("with_key", &key_file(&keys));
    let with_password = format!(
        "{}proxy = \"{}\"\nproxy_auth = {{ username = \"ali\", password_env = \"{PROXY}\" }}\n\
         headers = {{ X-Secret = {{ file = \"{}\" }} }}\n",
        server.connection("with_password", &right),
        proxy.url,
        header.display(),
    );
    let both = format!("{with_key}{with_password}");
    // `late` is refused only where the executors read, `early` as soon as the client asks.
    let late = |auth: &str| server.connection("late", auth);
    let early = server.connection("early", &password_env(&server.reader, WRONG));
    let of_client = folder.path().join("flowsigma.toml");
    std::fs::write(&of_client, format!("{both}{}{early}", late(&right))).unwrap();
    let of_cluster = format!("{both}{}", late(&password_env(&server.reader, WRONG)));
    let variables =
        [(RIGHT, password.as_str()), (WRONG, WRONG_PASSWORD), (PROXY, PROXY_PASSWORD), ("RUST_LOG", "trace")];
    let cluster = Cluster::start_with(2, 2, &of_cluster, &variables).await.unwrap();

    let mut places = Places::new();
    let remote = ["--scheduler", cluster.scheduler_url.as_str()];
    for (place, args) in [("remote", remote.as_slice()), ("embedded", &[])] {
        for connection in ["with_key", "with_password"] {
            let name = format!("{connection} {place}");
            let output = client(&mut places, &name, &of_client, &password, args, &job(connection));
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1730"), "{name}: {text}");
        }
    }
    // What runs fails with 1, what is refused before with 2.
    for (connection, code) in [("late", 1), ("early", 2)] {
        let output = client(&mut places, connection, &of_client, &password, &remote, &job(connection));
        assert_eq!(output.status.code(), Some(code), "{connection}");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let error = log.lines().rev().find(|line| line.starts_with("error: ")).unwrap_or_default();
        for part in [&format!("connection \"{connection}\""), &format!("index \"{READABLE_INDEX}\""), "401"] {
            assert!(error.contains(part), "{connection}: no {part:?} in: {error}");
        }
    }
    add_plans(&mut places, &with_key, "with_key").await;
    assert!(proxy.tunnels() > 2, "client and executors went past the proxy");
    let jobs = add_rest_answers(&mut places, &cluster).await;
    assert!(jobs >= 3, "{jobs} jobs are not all that were run");

    for (place, text) in &places {
        assert_eq!(secrets.found_in(text), [""; 0], "{place}");
    }
    let (found, files) = secrets.found_under(cluster.folder.path()).unwrap();
    assert_eq!(found, [""; 0]);

    // The search finds in these places what does show: where the test looks, there is something.
    let mut shown = Secrets::default();
    shown.add("the index", READABLE_INDEX);
    let holds = |part: &str| {
        let mut holding = places.iter().filter(|(place, _)| place.contains(part)).peekable();
        assert!(holding.peek().is_some(), "{part}");
        assert!(holding.any(|(_, text)| !shown.found_in(text).is_empty()), "{part}");
    };
    for part in ["remote: output", "late: log", "early: log", "logical plan", "physical plan", "/stages"] {
        holds(part);
    }
    for (place, log) in places.iter().filter(|(place, _)| place.ends_with(": log")) {
        assert!(String::from_utf8_lossy(log).contains(" TRACE "), "{place}");
    }
    let logs = cluster.logs();
    assert!(files >= 4 && logs.matches(" TRACE ").count() > 1000, "the processes did not log everything");
    assert!(logs.contains(READABLE_INDEX));
}
