//! Attackers against real clusters, each of whom gets nothing.
//!
//! Three set-ups: anyone may use the cluster, callers prove themselves by tokens, or by certificates. The last two are
//! one cluster, which takes both. Attackers send what no client of ours does: each call and each plan is made by hand,
//! so that no check of a client plays a part. Beside each attack stands the same call by somebody who may.

mod accounts;
mod browsers;
mod contexts;
mod files;
mod indices;
mod jobs;
mod plans;
mod records;
mod start_up;
pub(crate) mod strangers;

use crate::golden::{alone, options, registry, servers};
use ballista_elasticsearch::EsLogicalCodec;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::EsTable;
use datafusion_proto::logical_plan::AsLogicalPlan;
use datafusion_proto::protobuf::LogicalPlanNode;
use elastic_client::{Connection, ConnectionConfig, ConnectionRegistry, Fingerprint};
use flowsigma_node::Role;
use flowsigma_tests::caller::{Caller, Outcome, Proof};
use flowsigma_tests::cluster::{Cluster, Shape};
use flowsigma_tests::members::Members;
use prost::Message;
use std::cell::RefCell;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tonic::Code;

/// How callers prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setup {
    /// Not at all: `--allow-anyone`.
    Open,
    /// By bearer tokens over TLS.
    Tokens,
    /// By certificates.
    Certificates,
}

/// What nobody may see.
const SECRET: &str = "the-secret-of-the-key-file";
const PASSWORD: &str = "the-password-of-the-connection";
const VARIABLE: &str = "the-secret-of-the-environment";
/// What those see who may read.
const PUBLIC: &str = "a-public-row";

/// Everybody who is listed.
const CALLERS: [&str; 5] = ["alice", "bob", "nobody", "ops", "root"];

fn token(name: &str) -> String {
    format!("token-of-{name}-0123456789abcdef")
}

/// Files, indices and a cluster for one set-up, and what went wrong on it.
struct Ground {
    setup: Setup,
    cluster: Arc<Cluster>,
    certificates: Arc<Members>,
    folder: Arc<TempDir>,
    failures: RefCell<Vec<String>>,
}

impl Ground {
    /// The folder of `granted`, `mixed`, `secret` and `out`.
    fn base(&self) -> PathBuf {
        base(&self.folder)
    }

    /// What the scheduler wrote for its audit.
    fn audit_log(&self) -> PathBuf {
        self.cluster.folder.path().join("audit.jsonl")
    }

    fn caller(&self, name: &str) -> Caller {
        let authority = || self.certificates.authority().to_owned();
        let proof = match self.setup {
            Setup::Open => Proof::Plain,
            Setup::Tokens => Proof::Token { authority: authority(), token: token(name) },
            Setup::Certificates => self.certificates.proof(Role::Client, name).unwrap(),
        };
        Caller::new(&self.cluster.scheduler_url, proof)
    }

    fn with(&self, proof: Proof) -> Caller {
        Caller::new(&self.cluster.scheduler_url, proof)
    }

    fn is_open(&self) -> bool {
        self.setup == Setup::Open
    }

    fn fail(&self, row: &str, operation: &str) {
        self.failures.borrow_mut().push(format!("{:?}: {row}: {operation}", self.setup));
    }

    fn expect(&self, row: &str, holds: bool, operation: &str) {
        if !holds {
            self.fail(row, operation);
        }
    }

    /// It was refused by who it is or by what it asks, at once or by the executor that was to run it.
    fn refused(&self, row: &str, outcome: &Outcome) {
        match outcome {
            Outcome::Refused(status) => self.denied::<()>(row, &Err(status.clone())),
            Outcome::Failed(error) => {
                let said = ["may not", "no task may", "are refused", "is refused"];
                self.expect(row, said.iter().any(|part| error.contains(part)), error);
            }
            Outcome::Rows { text, .. } => self.fail(row, &format!("it gave rows\n{text}")),
        }
        self.expect(row, !holds_a_secret(&format!("{outcome:?}")), "a secret is told");
    }

    /// A call was refused by who makes it or by what it asks.
    fn denied<T>(&self, row: &str, response: &Result<T, tonic::Status>) {
        match response {
            Ok(_) => self.fail(row, "it was let through"),
            Err(status) => {
                let codes = [Code::PermissionDenied, Code::Unauthenticated, Code::InvalidArgument];
                self.expect(row, codes.contains(&status.code()), &format!("{status:?}"));
            }
        }
    }

    /// It gave rows with that text.
    fn done(&self, row: &str, outcome: &Outcome, part: &str) {
        match outcome {
            Outcome::Rows { text, .. } if text.contains(part) => {}
            other => self.fail(row, &format!("{part:?} was expected, and it was {other:?}")),
        }
    }
}

fn holds_a_secret(text: &str) -> bool {
    [SECRET, PASSWORD, VARIABLE, "PRIVATE KEY"].iter().any(|secret| text.contains(secret))
}

fn base(folder: &TempDir) -> PathBuf {
    folder.path().canonicalize().unwrap()
}

/// A key of mode 600, links to it, and a file that a connection names as its password.
fn make_files() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let base = base(&folder);
    for name in ["granted", "other", "mixed", "secret", "out"] {
        std::fs::create_dir(base.join(name)).unwrap();
    }
    for name in ["granted", "other", "mixed"] {
        std::fs::write(base.join(name).join("flows.csv"), format!("line\n{PUBLIC}\n")).unwrap();
    }
    for (name, text) in [("secret/key.csv", SECRET), ("mixed/password", PASSWORD)] {
        std::fs::write(base.join(name), format!("line\n{text}\n")).unwrap();
        std::fs::set_permissions(base.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    for (target, link) in [
        ("secret/key.csv", "granted/linked.csv"),
        ("secret", "granted/link"),
        ("secret/key.csv", "out/linked.csv"),
        ("secret", "out/link"),
        ("secret/none.csv", "out/dangling.csv"),
    ] {
        symlink(base.join(target), base.join(link)).unwrap();
    }
    folder
}

/// The scheduler's connections, and who may do what.
fn scheduler_config(url: &str, base: &Path) -> String {
    let base = base.display();
    let nodes = format!("nodes = [\"{url}\"]");
    let mut config = format!(
        "[connections.prod]\n{nodes}\n[connections.other]\n{nodes}\n[connections.guarded]\n{nodes}\n\
         auth = {{ type = \"basic\", username = \"u\", password_file = \"{base}/mixed/password\" }}\n\
         [files]\nread = [\"{base}\"]\nwrite = [\"{base}\"]\n"
    );
    for name in CALLERS {
        let grants = match name {
            "alice" => format!(
                "connections = [\"prod\"]\nindices = [\"attack-own*\"]\nread = [\"{base}/granted\", \"{base}/mixed\"]\n\
                 write = [\"{base}/out\"]\n"
            ),
            "bob" => format!(
                "connections = [\"prod\"]\nindices = [\"attack-bob\"]\nread = [\"{base}/other\"]\nwrite = [\"{base}/other\"]\n"
            ),
            "ops" => "jobs = \"all\"\n".to_owned(),
            "root" => {
                "connections = [\"*\"]\nindices = [\"*\"]\nread = [\"/\"]\nwrite = [\"/\"]\n".to_owned()
            }
            _ => String::new(),
        };
        let hash = Fingerprint::of(token(name).as_bytes());
        config.push_str(&format!("[access.{name}]\ntoken_sha256 = \"{hash}\"\n{grants}"));
    }
    config.push_str("[access.robot]\ncertificate = \"robot-host\"\n");
    config
}

/// A cluster of one executor that nobody but its members and those who are listed can use, or anybody can.
async fn start(url: &str, is_open: bool, certificates: &Members, folder: &TempDir) -> Cluster {
    let common = scheduler_config(url, &base(folder));
    let member = |role: Role, name: &str| match is_open {
        true => String::new(),
        false => certificates.config(role, name).unwrap(),
    };
    let without_access = common.split("[access").next().unwrap();
    let (scheduler, executor) = match is_open {
        true => (without_access.to_owned(), without_access.to_owned()),
        false => (
            format!("{common}{}", member(Role::Scheduler, "scheduler")),
            format!("{without_access}{}", member(Role::Executor, "executor")),
        ),
    };
    // In the process's own folder, which is the cluster's.
    let args = ["--audit-log", "audit.jsonl"];
    let shape = Shape {
        scheduler: &scheduler,
        executors: &[&executor],
        vcores: 2,
        variables: &[("FLOWSIGMA_TEST_VARIABLE", VARIABLE)],
        scheduler_args: &args,
        allow_anyone: is_open,
        ..Shape::default()
    };
    Cluster::start_as(shape).await.unwrap()
}

/// A server's connections by the names that the cluster has, for plans that are made here.
fn connections(url: &str) -> Arc<ConnectionRegistry> {
    let registry = ConnectionRegistry::default();
    for name in ["prod", "other", "guarded"] {
        registry.insert(name, &ConnectionConfig::from_url(url).unwrap()).unwrap();
    }
    Arc::new(registry)
}

fn context() -> SessionContext {
    SessionContext::new_with_state(SessionStateBuilder::new_with_default_features().build())
}

pub(crate) fn encoded(plan: &LogicalPlan) -> Vec<u8> {
    node(plan).encode_to_vec()
}

fn node(plan: &LogicalPlan) -> LogicalPlanNode {
    let codec = EsLogicalCodec::new(Arc::default());
    LogicalPlanNode::try_from_logical_plan(plan, &codec).unwrap()
}

/// A statement without tables of its own.
pub(crate) async fn statement(sql: &str) -> LogicalPlan {
    context().state().create_logical_plan(sql).await.unwrap()
}

/// A plan over an index, without a point in time.
async fn index_plan(table: EsTable, sql: &str) -> Vec<u8> {
    let context = context();
    context.register_table("t", Arc::new(table)).unwrap();
    encoded(&context.state().create_logical_plan(sql).await.unwrap())
}

async fn table(registry: &Arc<ConnectionRegistry>, connection: &str, index: &str) -> EsTable {
    EsTable::try_new(Arc::clone(registry), connection, index, &options(&[])).await.unwrap()
}

/// Indices of one document each.
async fn load(connection: &Connection) {
    use elastic_client::{Method, Request};
    use serde_json::json;
    for index in ["attack-own", "attack-bob", "attack-secret"] {
        let delete = Request::new(Method::Delete, format!("/{index}"), "delete a test index")
            .with_param("ignore_unavailable", "true");
        connection.send(&delete).await.unwrap();
        let create =
            Request::new(Method::Put, format!("/{index}"), "create a test index").with_body(&json!({
                "settings": { "number_of_shards": 1, "number_of_replicas": 0 },
                "mappings": { "properties": { "note": { "type": "keyword" } } },
            }));
        connection.send(&create).await.unwrap();
        let put = Request::new(Method::Put, format!("/{index}/_doc/1"), "load a test index")
            .with_param("refresh", "true")
            .with_body(&json!({ "note": format!("note-of-{index}") }));
        connection.send(&put).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_what_is_not_granted() {
    let mut failures = Vec::new();
    for url in servers() {
        let _alone = alone(&url).await;
        load(&registry(&url).get("test").unwrap()).await;
        let certificates = Arc::new(Members::make().unwrap());
        for setups in [&[Setup::Open][..], &[Setup::Tokens, Setup::Certificates]] {
            let folder = Arc::new(make_files());
            let cluster = Arc::new(start(&url, setups == [Setup::Open], &certificates, &folder).await);
            for &setup in setups {
                let ground = Ground {
                    setup,
                    cluster: Arc::clone(&cluster),
                    certificates: Arc::clone(&certificates),
                    folder: Arc::clone(&folder),
                    failures: RefCell::default(),
                };
                files::read(&ground).await;
                files::written(&ground).await;
                plans::of_other_kinds(&ground).await;
                plans::with_settings(&ground).await;
                indices::read(&ground, &url).await;
                jobs::of_others(&ground).await;
                jobs::of_a_namesake(&ground).await;
                jobs::tickets_to_elsewhere(&ground).await;
                strangers::as_executors(&ground).await;
                strangers::as_anybody(&ground).await;
                browsers::of_other_origins(&ground).await;
                records::of_all_that_was_asked(&ground, &url).await;
                failures.extend(ground.failures.into_inner());
            }
            if !failures.is_empty() {
                eprintln!("{}", cluster.logs());
            }
        }
    }
    assert!(failures.is_empty(), "{} attacks:\n{}", failures.len(), failures.join("\n"));
}
