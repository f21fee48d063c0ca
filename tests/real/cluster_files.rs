//! `flowsigma cluster`: what it makes, for whom, and what it refuses.

use crate::command::{flowsigma, stderr, stdout};
use flowsigma_node::Config;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_in(&path));
        }
        found.push(path);
    }
    found
}

fn cluster(args: &[&str], dir: &Path) -> std::process::Output {
    let [command, rest @ ..] = args else { panic!("no command") };
    flowsigma(&[&["cluster", command, dir.to_str().unwrap()], rest].concat())
}

/// What `openssl` says of a certificate under this authority.
fn verified(folder: &Path, stem: &str) -> String {
    let (ca, certificate) = (folder.join("ca.pem"), folder.join(format!("{stem}.pem")));
    let output =
        Command::new("openssl").arg("verify").arg("-CAfile").args([ca, certificate]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn init_makes_folders_that_are_whole_and_private() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cluster");
    let hosts =
        ["--scheduler-host", "s.example", "--executor-host", "a.example", "--executor-host", "10.0.0.7"];
    let made = cluster(&[&["init"], &hosts[..], &["--client", "alice"]].concat(), &dir);
    assert!(made.status.success(), "{}", stderr(&made));
    for path in files_in(&dir).iter().chain([&dir]) {
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        let name = path.to_string_lossy();
        match (path.is_dir(), name.ends_with(".key")) {
            (true, _) => assert_eq!(mode, 0o700, "{name}"),
            (false, true) => assert_eq!(mode, 0o600, "{name}"),
            (false, false) => assert_eq!(mode & 0o022, 0, "{name}"),
        }
    }
    for (part, stem) in [
        ("scheduler", "scheduler"),
        ("executors/a.example", "executor"),
        ("executors/10.0.0.7", "executor"),
        ("clients/alice", "client"),
    ] {
        let part = dir.join(part);
        assert!(verified(&part, stem).ends_with(": OK\n"), "{}", part.display());
        let file = part.join("flowsigma.toml");
        let config = Config::parse(&std::fs::read_to_string(&file).unwrap(), &file).unwrap();
        assert_eq!(config.cluster_tls.unwrap().key_file, part.join(format!("{stem}.key")));
        assert!(!part.join("ca.key").exists());
    }
    // Every command that comes next is there to be copied.
    let text = stdout(&made);
    let dir = dir.display();
    for command in [
        format!("scp -rp {dir}/scheduler s.example:scheduler"),
        "flowsigma-scheduler --config scheduler/flowsigma.toml --bind-host 0.0.0.0 --external-host s.example"
            .into(),
        format!("scp -rp {dir}/executors/10.0.0.7 10.0.0.7:executor"),
        "flowsigma-executor --config executor/flowsigma.toml --bind-host 0.0.0.0 --external-host a.example \
         --scheduler-host s.example"
            .into(),
        format!(
            "flowsigma sql --config {dir}/clients/alice/flowsigma.toml --scheduler https://s.example:50050"
        ),
    ] {
        assert!(text.contains(&command), "{command} is not in\n{text}");
    }
    assert!(!text.contains("PRIVATE KEY"));
}

#[test]
fn members_are_added_by_the_same_authority() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cluster");
    assert!(cluster(&["init", "--host", "s.example"], &dir).status.success());
    let added = cluster(&["add-executor", "c.example"], &dir);
    assert!(added.status.success(), "{}", stderr(&added));
    assert!(
        stdout(&added).contains("--external-host c.example --scheduler-host s.example"),
        "{}",
        stdout(&added)
    );
    let added = cluster(&["add-client", "bob"], &dir);
    assert!(added.status.success(), "{}", stderr(&added));
    let text = stdout(&added);
    assert!(text.contains("[access.bob]") && text.contains("https://s.example:50050"), "{text}");
    assert!(verified(&dir.join("executors/c.example"), "executor").ends_with(": OK\n"));
    assert!(verified(&dir.join("clients/bob"), "client").ends_with(": OK\n"));

    let key = std::fs::read(dir.join("clients/bob/client.key")).unwrap();
    for (args, part) in [
        (&["add-client", "bob"][..], "clients/bob exists"),
        (&["add-executor", "s.example"], "executors/s.example exists"),
        (&["add-client", "../bob"], "is not a valid client name"),
        (&["add-client", "owner"], "a name that schedulers reserve"),
        (&["add-executor", "https://d.example"], "is no name or address"),
        (&["init", "--host", "s.example"], "is not empty"),
    ] {
        let refused = cluster(args, &dir);
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        assert!(stderr(&refused).contains(part), "{args:?}: {}", stderr(&refused));
    }
    assert_eq!(std::fs::read(dir.join("clients/bob/client.key")).unwrap(), key);
    let none = cluster(&["add-client", "carol"], folder.path());
    assert_eq!(none.status.code(), Some(2));
    assert!(stderr(&none).contains("flowsigma cluster init"), "{}", stderr(&none));
}

#[test]
fn what_is_missing_or_contradicts_itself_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cluster");
    for args in [
        &["init"][..],
        &["init", "--scheduler-host", "s.example"],
        &["init", "--executor-host", "a.example"],
        &["init", "--host", "a.example", "--executor-host", "b.example"],
        &["init", "--host", "0.0.0.0"],
        &["init", "--scheduler-host", "s", "--executor-host", "a", "--executor-host", "a"],
    ] {
        let refused = cluster(args, &dir);
        assert_eq!(refused.status.code(), Some(2), "{args:?}: {}", stderr(&refused));
        assert!(!dir.exists(), "{args:?}");
    }
}
