//! Files of the cluster's machines: read and written over every way around a grant.

use super::{Ground, PUBLIC, SECRET, Setup, context, encoded, node, statement, token};
use crate::command::{stderr, stdout};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion_proto::protobuf::LogicalPlanNode;
use datafusion_proto::protobuf::logical_plan_node::LogicalPlanType;
use flowsigma_node::Role;
use flowsigma_tests::cluster::binary;
use prost::Message;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

/// A scan of one place, as bytes that name it in exactly this way.
fn scan(url: &str) -> Vec<u8> {
    let schema = Arc::new(Schema::new(vec![Field::new("line", DataType::Utf8, true)]));
    let options = ListingOptions::new(Arc::new(CsvFormat::default())).with_file_extension("");
    let somewhere = ListingTableUrl::parse("file:///somewhere").unwrap();
    let config = ListingTableConfig::new(somewhere).with_listing_options(options).with_schema(schema);
    let table = ListingTable::try_new(config).unwrap();
    let frame = context().read_table(Arc::new(table)).unwrap();
    let mut plan = node(frame.logical_plan());
    match plan.logical_plan_type.as_mut() {
        Some(LogicalPlanType::ListingScan(scan)) => scan.paths = vec![url.to_owned()],
        other => panic!("no scan of files: {other:?}"),
    }
    plan.encode_to_vec()
}

/// `COPY (SELECT 1) TO` a place, as bytes that name it in exactly this way.
async fn copy(url: &str) -> Vec<u8> {
    let plan = statement("COPY (SELECT 1 AS one) TO 'file:///somewhere' STORED AS CSV").await;
    let mut plan: LogicalPlanNode = node(&plan);
    match plan.logical_plan_type.as_mut() {
        Some(LogicalPlanType::CopyTo(copy)) => copy.output_url = url.to_owned(),
        other => panic!("no COPY: {other:?}"),
    }
    plan.encode_to_vec()
}

enum Expected {
    Rows,
    Refused,
}

pub(super) async fn read(ground: &Ground) {
    use Expected::{Refused, Rows};
    let base = ground.base();
    let own = |path: &str| format!("file://{}/{path}", base.display());
    let scheduler_config = ground.cluster.folder.path().join("flowsigma.toml");
    let executor_config = ground.cluster.folder.path().join("executor-0.toml");
    let file = |path: &Path| format!("file://{}", path.display());
    for (name, url, expected) in [
        ("alice", own("granted/flows.csv"), Rows),
        ("alice", own("granted/../granted/flows.csv"), Rows),
        ("bob", own("other/flows.csv"), Rows),
        ("alice", own("secret/key.csv"), Refused),
        ("alice", own("granted/linked.csv"), Refused),
        ("alice", own("granted/link/key.csv"), Refused),
        ("alice", own("granted/link/"), Refused),
        ("alice", own("granted/../secret/key.csv"), Refused),
        ("alice", own("granted/%2e%2e/secret/key.csv"), Refused),
        ("alice", own("granted/%2E%2E%2Fsecret%2Fkey.csv"), Refused),
        ("alice", own("granted/none/../../secret/key.csv"), Refused),
        ("alice", own(""), Refused),
        ("alice", own("mixed/password"), Refused),
        // A folder that holds the password.
        ("alice", own("mixed/"), Refused),
        ("alice", "file:///proc/self/environ".into(), Refused),
        ("bob", own("granted/flows.csv"), Refused),
        ("nobody", own("granted/flows.csv"), Refused),
        ("root", own("mixed/password"), Refused),
        ("root", own("mixed/"), Refused),
        ("root", "file:///proc/self/environ".into(), Refused),
        ("root", "file:///proc/self/root/proc/self/environ".into(), Refused),
        ("root", "file:///proc/".into(), Refused),
        ("root", "file:///dev/stdin".into(), Refused),
        ("root", file(&scheduler_config), Refused),
        ("root", file(&executor_config), Refused),
        ("root", format!("{}/", file(ground.cluster.folder.path())), Refused),
        ("root", format!("file:///proc/self/root{}", scheduler_config.display()), Refused),
        ("root", "http://127.0.0.1:9200/x".into(), Refused),
        ("root", "s3://bucket/x.csv".into(), Refused),
    ] {
        let row = format!("{name} reads {url}");
        let outcome = ground.caller(name).run(&scan(&url)).await;
        match expected {
            // Where anyone may use the cluster, nobody may read files.
            Rows if !ground.is_open() => ground.done(&row, &outcome, PUBLIC),
            Rows | Refused => ground.refused(&row, &outcome),
        }
    }
    // No file is called so, and no plan that arrives holds a pattern.
    let row = "alice reads by a pattern";
    let outcome = ground.caller("alice").run(&scan(&own("granted/*/key.csv"))).await;
    ground.expect(row, !super::holds_a_secret(&format!("{outcome:?}")), "a secret is told");
    by_our_client(ground).await;
}

/// The same by the command line, as a user would try it.
async fn by_our_client(ground: &Ground) {
    let base = ground.base();
    for (name, path, may) in [
        ("alice", base.join("granted/flows.csv"), true),
        ("alice", base.join("secret/key.csv"), false),
        ("alice", base.join("granted/linked.csv"), false),
        ("nobody", base.join("granted/flows.csv"), false),
        ("alice", Path::new("/proc/self/environ").to_owned(), false),
        ("root", ground.cluster.folder.path().join("flowsigma.toml"), false),
    ] {
        let output = sql(
            ground,
            name,
            &format!(
                "CREATE EXTERNAL TABLE t (line VARCHAR) STORED AS CSV LOCATION 'file://{}' OPTIONS ('has_header' 'true'); \
                 SELECT * FROM t",
                path.display()
            ),
        );
        let row = format!("{name} reads {} by the command line", path.display());
        let said = format!("{}{}", stdout(&output), stderr(&output));
        match may && !ground.is_open() {
            true => ground.expect(&row, output.status.success() && said.contains(PUBLIC), &said),
            false => {
                ground.expect(&row, output.status.code() == Some(1), &said);
                ground.expect(&row, !super::holds_a_secret(&said) && !said.contains(PUBLIC), &said);
                let why = ["may not read", "no job may read"];
                ground.expect(&row, why.iter().any(|part| said.contains(part)), &said);
            }
        }
    }
}

/// Our own client, as an identity of the cluster.
pub(super) fn sql(ground: &Ground, name: &str, statements: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("flowsigma.toml");
    let text = match ground.setup {
        Setup::Open => String::new(),
        Setup::Certificates => ground.certificates.config(Role::Client, name).unwrap(),
        Setup::Tokens => {
            std::fs::write(folder.path().join("token"), token(name)).unwrap();
            let authority = ground.certificates.folder().join("ca.pem");
            format!("[cluster]\ntoken_file = \"token\"\ntls = {{ ca_file = {authority:?} }}\n")
        }
    };
    std::fs::write(&config, text).unwrap();
    Command::new(binary("flowsigma").unwrap())
        .arg("sql")
        .arg("--config")
        .arg(&config)
        .args(["--scheduler", &ground.cluster.scheduler_url, "-c", statements])
        .current_dir(folder.path())
        .output()
        .unwrap()
}

pub(super) async fn written(ground: &Ground) {
    let base = ground.base();
    let own = |path: &str| format!("file://{}/{path}", base.display());
    let cluster = ground.cluster.folder.path();
    let configs = [cluster.join("flowsigma.toml"), cluster.join("executor-0.toml")];
    let before: Vec<String> = configs.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let fresh = format!("out/{:?}.csv", ground.setup);
    let outcome = ground.caller("alice").run(&copy(&own(&fresh)).await).await;
    match ground.is_open() {
        false => {
            ground.done("alice writes to her folder", &outcome, "1");
            ground.expect("alice writes to her folder", base.join(&fresh).exists(), "no file");
        }
        true => ground.refused("anyone writes a file", &outcome),
    }
    for (name, url) in [
        ("alice", own("secret/new.csv")),
        ("alice", own("secret/key.csv")),
        ("alice", own("out/../secret/new.csv")),
        ("alice", own("out/%2e%2e/secret/new.csv")),
        ("alice", own("out/%2E%2E%2Fsecret%2Fnew.csv")),
        ("alice", own("out/link/new.csv")),
        ("alice", own("out/link/")),
        ("alice", own("out/linked.csv")),
        ("alice", own("out/dangling.csv")),
        ("alice", own("granted/new.csv")),
        ("alice", own("granted/flows.csv")),
        ("alice", own("mixed/password")),
        ("nobody", own("out/nobody.csv")),
        ("bob", own("out/bob.csv")),
        ("root", own("mixed/password")),
        ("root", format!("file://{}", configs[0].display())),
        ("root", format!("file://{}", configs[1].display())),
        ("root", "file:///proc/self/mem".into()),
        ("root", "file:///dev/shm/flowsigma-attack".into()),
        ("root", "http://127.0.0.1:9200/x".into()),
    ] {
        let outcome = ground.caller(name).run(&copy(&url).await).await;
        ground.refused(&format!("{name} writes to {url}"), &outcome);
    }
    let row = "files that nobody may write to";
    for (path, text) in configs.iter().zip(&before) {
        ground.expect(row, std::fs::read_to_string(path).unwrap() == *text, "a configuration was changed");
    }
    let key = std::fs::read_to_string(base.join("secret/key.csv")).unwrap();
    ground.expect(row, key.contains(SECRET), "the key was changed");
    for (folder, files) in [("secret", 1), ("granted", 3), ("mixed", 2), ("other", 1)] {
        let found = std::fs::read_dir(base.join(folder)).unwrap().count();
        ground.expect(row, found == files, &format!("{folder} holds {found} files"));
    }
    ground.expect(row, !Path::new("/dev/shm/flowsigma-attack").exists(), "a file in /dev/shm");
    // A plan that writes somewhere below.
    let nested = statement("EXPLAIN ANALYZE SELECT 1").await;
    ground.done("what only explains", &ground.caller("nobody").run(&encoded(&nested)).await, "");
}
