//! The files of a cluster.
//!
//! Owns: their paths and content, and writing them with permissions for their account alone. Must not know: the command
//! line.
//!
//! Each process has a folder with all files that it needs, so that the folder can be copied to its machine:
//! ```text
//! ca.pem  ca.key
//! scheduler/        ca.pem  scheduler.pem  scheduler.key  flowsigma.toml
//! executors/HOST/   ca.pem  executor.pem   executor.key   flowsigma.toml
//! clients/NAME/     ca.pem  client.pem     client.key     flowsigma.toml
//! ```

use crate::cluster::names::{ClientName, Host};
use anyhow::Context;
use flowsigma_node::{Authority, AuthorityError, CONFIG_FILE, Role, subject_of};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The mode of every folder: only the account that owns it can enter.
const FOLDER_MODE: u32 = 0o700;

/// The folder of one process.
pub(super) enum Folder {
    Scheduler,
    Executor(String),
    Client(String),
}

impl Folder {
    /// Returns the path relative to the cluster's folder.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Scheduler => PathBuf::from("scheduler"),
            Self::Executor(host) => Path::new("executors").join(host),
            Self::Client(name) => Path::new("clients").join(name),
        }
    }

    /// Returns the file name of its certificate and key, without extension.
    fn stem(&self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Executor(_) => "executor",
            Self::Client(_) => "client",
        }
    }

    fn role(&self) -> Role {
        match self {
            Self::Scheduler => Role::Scheduler,
            Self::Executor(_) => Role::Executor,
            Self::Client(_) => Role::Client,
        }
    }
}

/// A file to create.
pub(super) struct NewFile {
    /// The path relative to the cluster's folder.
    path: PathBuf,
    text: String,
    secret: Secret,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secret {
    Yes,
    No,
}

impl Secret {
    fn mode(self) -> u32 {
        match self {
            Self::Yes => 0o600,
            Self::No => 0o644,
        }
    }
}

/// Returns the authority's certificate and key.
pub(super) fn authority(authority: &Authority) -> Vec<NewFile> {
    let certificate = authority.certificate().to_owned();
    vec![
        NewFile { path: "ca.pem".into(), text: certificate, secret: Secret::No },
        NewFile { path: "ca.key".into(), text: authority.key(), secret: Secret::Yes },
    ]
}

/// Returns the files of the scheduler's folder. Its configuration has grants for the first client.
pub(super) fn scheduler(
    authority: &Authority,
    host: &Host,
    client: &ClientName,
) -> Result<Vec<NewFile>, AuthorityError> {
    let config = format!(
        "{}\n# What each client may do. A client without a table here may do nothing.\n{}\n\
         # Only for clients that open no search contexts themselves: the scheduler opens them.\n{}",
        head("The scheduler of this cluster.", &Folder::Scheduler),
        grants(client),
        CONNECTION
    );
    member(authority, &Folder::Scheduler, host.name(), &host.names(), config)
}

/// Returns the files of an executor's folder.
pub(super) fn executor(authority: &Authority, host: &Host) -> Result<Vec<NewFile>, AuthorityError> {
    let folder = Folder::Executor(host.name().to_owned());
    let config = format!(
        "{}\n# The servers that this executor reads, under the connection names that jobs use.\n{}\n\
         # Folders whose files tasks may read and write, whatever the scheduler grants. By default there are none.\n\
         # [files]\n# read = [\"/data/flows\"]\n# write = [\"/data/results\"]\n",
        head(&format!("The executor {host} of this cluster."), &folder),
        CONNECTION
    );
    member(authority, &folder, host.name(), &host.names(), config)
}

/// Returns the files of a client's folder.
pub(super) fn client(authority: &Authority, name: &ClientName) -> Result<Vec<NewFile>, AuthorityError> {
    let folder = Folder::Client(name.to_string());
    let config = format!(
        "{}\n# The servers whose indices its jobs read. Executors have the same connections, with credentials of their own.\n{}",
        head(&format!("The client {name} of this cluster."), &folder),
        CONNECTION
    );
    member(authority, &folder, &name.to_string(), &[], config)
}

const CONNECTION: &str = "\
# [connections.prod]
# nodes = [\"https://es1.example:9200\", \"https://es2.example:9200\"]
# auth = { type = \"api_key\", key_file = \"prod.key\" }
# tls = { ca_file = \"prod-ca.pem\" }
";

/// Returns the table `[access.NAME]` of the scheduler's configuration with example grants.
pub(super) fn grants(client: &ClientName) -> String {
    format!(
        "[access.{}]\n\
         connections = [\"prod\"]\n\
         indices = [\"flows-*\"]\n\
         # read = [\"/data/flows\"]\n\
         # write = [\"/data/results\"]\n\
         # jobs = \"all\"\n",
        client.toml_key()
    )
}

fn head(operation: &str, folder: &Folder) -> String {
    let stem = folder.stem();
    format!(
        "# {operation} Paths start at this file's folder.\n\
         [cluster]\n\
         tls = {{ ca_file = \"ca.pem\", cert_file = \"{stem}.pem\", key_file = \"{stem}.key\" }}\n"
    )
}

fn member(
    authority: &Authority,
    folder: &Folder,
    name: &str,
    hosts: &[String],
    config: String,
) -> Result<Vec<NewFile>, AuthorityError> {
    let issued = authority.issue(folder.role(), name, hosts)?;
    let stem = folder.stem();
    let file = |name: &str, text: String, secret| NewFile { path: folder.path().join(name), text, secret };
    Ok(vec![
        file("ca.pem", authority.certificate().to_owned(), Secret::No),
        file(&format!("{stem}.pem"), issued.certificate, Secret::No),
        file(&format!("{stem}.key"), issued.key, Secret::Yes),
        file(CONFIG_FILE, config, Secret::No),
    ])
}

/// Returns the host that the scheduler's certificate names, if its folder exists.
pub(super) fn scheduler_host(dir: &Path) -> Option<Host> {
    let path = dir.join(Folder::Scheduler.path()).join("scheduler.pem");
    let certificate = CertificateDer::from_pem_file(path).ok()?;
    subject_of(&certificate)?.name.parse().ok()
}

/// Fails if the folder for a new cluster is not empty.
pub(super) fn refuse_used(dir: &Path) -> anyhow::Result<()> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => anyhow::ensure!(
            entries.next().is_none(),
            "{} is not empty: give a folder that does not exist yet; to add to a cluster use add-executor or add-client",
            dir.display()
        ),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e).with_context(|| format!("cannot create a cluster in {}", dir.display())),
    }
    Ok(())
}

/// Creates the files in `dir`, and their folders, with permissions for this account alone. It is an error if a file
/// exists.
pub(super) fn write(dir: &Path, files: &[NewFile]) -> anyhow::Result<()> {
    make_folder(dir)?;
    std::fs::set_permissions(dir, Permissions::from_mode(FOLDER_MODE))
        .with_context(|| format!("cannot restrict {} to this account", dir.display()))?;
    for file in files {
        let path = dir.join(&file.path);
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let made = File::options().write(true).create_new(true).mode(file.secret.mode()).open(&path);
        made.and_then(|mut made| made.write_all(file.text.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn make_folder(folder: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder);
    made.with_context(|| format!("cannot create the folder {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowsigma_node::Config;

    fn config_of(files: &[NewFile]) -> String {
        files.iter().find(|file| file.path.ends_with(CONFIG_FILE)).unwrap().text.clone()
    }

    /// Returns the text with its examples uncommented.
    fn uncommented(text: &str) -> String {
        let example = |line: &str| {
            line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
        };
        let line = |line: &str| match line.strip_prefix("# ") {
            Some(rest) if example(rest) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    }

    #[test]
    fn configurations_are_valid_and_so_are_their_examples() {
        let authority = Authority::new("test").unwrap();
        let host: Host = "a.example".parse().unwrap();
        for name in ["alice", "al.ice@example"] {
            let client_name: ClientName = name.parse().unwrap();
            let made = [
                scheduler(&authority, &host, &client_name).unwrap(),
                executor(&authority, &host).unwrap(),
                client(&authority, &client_name).unwrap(),
            ];
            for files in &made {
                let folder = files[0].path.parent().unwrap();
                let text = config_of(files);
                let config = Config::parse(&text, &folder.join(CONFIG_FILE)).unwrap();
                // Each folder has every file that its configuration names.
                let tls = config.cluster_tls.unwrap();
                for file in [&tls.ca_file, &tls.cert_file, &tls.key_file] {
                    assert!(files.iter().any(|made| made.path == *file), "{}", file.display());
                }
                assert!(config.connections.is_empty() && config.files.is_none());
                let all = Config::parse(&uncommented(&text), Path::new(CONFIG_FILE)).unwrap();
                assert!(all.connections.contains_key("prod"), "{text}");
                assert_eq!(all.files.is_some(), folder.starts_with("executors"));
            }
            let config = Config::parse(&config_of(&made[0]), Path::new(CONFIG_FILE)).unwrap();
            let access = &config.access[name];
            assert_eq!(access.certificate, name);
            assert!(access.grants.covers_connection("prod") && access.grants.covers_index("flows-1"));
            assert!(!access.grants.covers_index("secret") && access.grants.read.is_empty());
        }
    }

    #[test]
    fn nothing_that_exists_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("new");
        refuse_used(&dir).unwrap();
        write(&dir, &authority(&Authority::new("test").unwrap())).unwrap();
        assert!(refuse_used(&dir).unwrap_err().to_string().contains("is not empty"));
        let before = std::fs::read_to_string(dir.join("ca.key")).unwrap();
        assert!(write(&dir, &authority(&Authority::new("test").unwrap())).is_err());
        assert_eq!(std::fs::read_to_string(dir.join("ca.key")).unwrap(), before);
    }
}
