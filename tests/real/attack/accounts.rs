//! Other accounts of the same machine.
//!
//! A test acts as another account where it runs as root, and says that it does not elsewhere.

use super::{encoded, statement};
use crate::command::{captured, stderr};
use crate::golden::{alone, registry, servers};
use crate::kill::end;
use flowsigma_node::Role;
use flowsigma_tests::caller::{Caller, Outcome, Proof};
use flowsigma_tests::cluster::{Cluster, Shape, binary};
use flowsigma_tests::members::Members;
use flowsigma_tests::proxy::{Fault, Proxy};
use std::collections::HashSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tonic::Code;

/// The account `nobody`.
const OTHER: u32 = 65534;

/// A command as another account; none where that cannot be.
fn as_another(program: impl AsRef<std::ffi::OsStr>) -> Option<Command> {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("skipped: only root can act as another account");
        return None;
    }
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={OTHER}"))
        .arg(format!("--regid={OTHER}"))
        .arg("--clear-groups")
        .arg(program.as_ref());
    command.stdin(Stdio::null());
    Some(command)
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

/// Ports of TCP that a process listens on.
fn listens_on(process: u32) -> Vec<String> {
    let mut own = HashSet::new();
    for entry in std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        if let Some(inode) = target.to_string_lossy().strip_prefix("socket:[") {
            own.insert(inode.trim_end_matches(']').to_owned());
        }
    }
    assert!(!own.is_empty(), "it has no socket at all");
    let tables = ["tcp", "tcp6"]
        .map(|table| std::fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let fields = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Local address, state and inode; 0A is LISTEN.
    let listening = fields.filter(|fields| fields[3] == "0A" && own.contains(fields[9]));
    listening.map(|fields| fields[1].to_owned()).collect()
}

/// Whether somebody listens at a socket for the account that `command` runs as.
fn connects(mut command: Command, socket: &Path) -> bool {
    let output: Output = command
        .args(["--silent", "--max-time", "5", "--http0.9", "--unix-socket"])
        .arg(socket)
        .arg("http://localhost/")
        .output()
        .unwrap();
    // "Failed to connect to host."
    output.status.code() != Some(7)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_does_not_reach_the_cluster_inside_a_program() {
    let url = servers().remove(0);
    let _alone = alone(&url).await;
    super::load(&registry(&url).get("test").unwrap()).await;
    let proxy = Proxy::start(&url, |seen| if seen.page.is_some() { Fault::Hold } else { Fault::None });
    let proxy = proxy.await.unwrap();
    // A folder for temporary files that everybody may enter, as /tmp is.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let sql = "CREATE EXTERNAL TABLE t STORED AS ELASTICSEARCH LOCATION 'elasticsearch://url/attack-own'; SELECT note FROM t";
    let client = captured(&["sql", "--url", &proxy.url, "-c", sql])
        .current_dir(folder.path())
        .env("TMPDIR", folder.path())
        .env_remove("FLOWSIGMA_CONFIG")
        .spawn()
        .unwrap();
    proxy.wait_for_held(1).await.unwrap();
    assert_eq!(listens_on(client.id()), Vec::<String>::new());
    let own: Vec<PathBuf> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [own] = own.as_slice() else { panic!("{own:?}") };
    assert_eq!(mode(own), 0o700);
    let is_socket = |path: &PathBuf| std::fs::symlink_metadata(path).unwrap().file_type().is_socket();
    let sockets = std::fs::read_dir(own).unwrap().map(|entry| entry.unwrap().path()).filter(is_socket);
    let sockets: Vec<PathBuf> = sockets.collect();
    let [socket] = sockets.as_slice() else { panic!("{sockets:?}") };
    assert!(connects(Command::new("curl"), socket));
    if let Some(mut list) = as_another("ls") {
        assert!(!list.arg(own).output().unwrap().status.success());
        assert!(!connects(as_another("curl").unwrap(), socket));
        let parent = as_another("ls").unwrap().arg(folder.path()).output().unwrap();
        assert!(parent.status.success(), "nothing is shown: {}", stderr(&parent));
    }
    proxy.release();
    let output = end(client, Duration::from_secs(60)).unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_gets_nothing_from_a_cluster_on_this_machine() {
    let shape = Shape { scheduler: "", executors: &[""], vcores: 1, ..Shape::default() };
    let cluster = Cluster::start_as(shape).await.unwrap();
    let log = std::fs::read_to_string(cluster.folder.path().join("scheduler.log")).unwrap();
    let said = log.lines().find(|line| line.contains("only this account can use the cluster")).unwrap();
    let file = PathBuf::from(said.rsplit_once("file=").unwrap().1.trim());
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    let run = |command: &mut Command| {
        command.args([
            "sql",
            "--scheduler",
            &cluster.scheduler_url.replace("https:", "http:"),
            "-c",
            "SELECT 42 AS answer",
        ]);
        command.current_dir("/").env_remove("FLOWSIGMA_CONFIG").output().unwrap()
    };
    let own = run(&mut Command::new(binary("flowsigma").unwrap()));
    assert!(own.status.success(), "{}", stderr(&own));
    if let Some(mut cat) = as_another("cat") {
        assert!(!cat.arg(&file).output().unwrap().status.success());
        let home = tempfile::tempdir().unwrap();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        // A copy, for the folder of this build may be the account's own.
        let program = home.path().join("flowsigma");
        std::fs::copy(binary("flowsigma").unwrap(), &program).unwrap();
        let mut program = as_another(&program).unwrap();
        program.env("HOME", home.path()).env("TMPDIR", home.path()).env_remove("FLOWSIGMA_STATE_DIR");
        let foreign = run(&mut program);
        assert!(!foreign.status.success());
        assert!(
            stderr(&foreign).contains("takes only callers with TLS and credentials"),
            "{}",
            stderr(&foreign)
        );
    }
    // Whoever has not read the file.
    let authority = std::fs::read_to_string(cluster.folder.path().join("account-ca.pem")).unwrap();
    let theirs = Members::make().unwrap();
    let foreign = theirs.issue(Role::Owner, "owner").unwrap();
    let plan = encoded(&statement("SELECT 1").await);
    for (who, proof) in [
        ("without TLS", Proof::Plain),
        ("without a certificate", Proof::Tls { authority: authority.clone() }),
        ("by a token", Proof::Token { authority: authority.clone(), token: "guessed".into() }),
    ] {
        let caller = Caller::new(&cluster.scheduler_url, proof.clone());
        match caller.run(&plan).await {
            Outcome::Refused(status) => assert_eq!(status.code(), Code::Unauthenticated, "{who}: {status:?}"),
            other => panic!("{who}: {other:?}"),
        }
        for path in ["/api/jobs", "/api/executors", "/api/contexts"] {
            assert_eq!(caller.http("GET", path, &[]).await.unwrap().0, 401, "{who}: {path}");
        }
        let executor = format!("https://127.0.0.1:{}", cluster.executor_ports()[0]);
        let rows = Caller::new(&executor, proof).fetch(Default::default()).await;
        assert_eq!(rows.unwrap_err().code(), Code::PermissionDenied, "{who}");
    }
    let stranger = Caller::new(&cluster.scheduler_url, Proof::Certificate { authority, own: foreign });
    assert!(matches!(stranger.run(&plan).await, Outcome::Refused(_)));
}
