//! Processes on hosts of their own, and the links between them.
//!
//! Owns: starting on a host, cutting it off and connecting it again. Must not know: what a test
//! expects. The hosts are network namespaces, made by `scripts/test --hosts` (scripts/lib/hosts.sh);
//! the tests themselves run on the host `client`. Each process has a file system of its own in place
//! of the folder that it works in.

use crate::caller::Proof;
use crate::cluster::{Process, binary};
use crate::members::Members;
use anyhow::{Context, Result, bail, ensure};
use elastic_client::{ClientCertificate, Connection, ConnectionConfig, Method, Request, Tls, Verify};
use flowsigma_node::Role;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The hosts of executors.
pub const EXECUTORS: [&str; 2] = ["executor1", "executor2"];

/// Where a host is.
pub fn address(host: &str) -> Result<&'static str> {
    Ok(match host {
        "server" => "10.77.0.10",
        "scheduler" => "10.77.0.20",
        "executor1" => "10.77.0.31",
        "executor2" => "10.77.0.32",
        "client" => "10.77.0.40",
        _ => bail!("no host {host}"),
    })
}

fn prefix() -> Result<String> {
    std::env::var("FLOWSIGMA_TEST_HOSTS").context("run scripts/test --hosts, which makes the hosts")
}

/// A program on a host. It finds `config` as `flowsigma.toml` in its folder, which nobody else sees.
pub fn command(host: &str, folder: &Path, config: &str, program: &str) -> Result<Command> {
    const OWN_FOLDER: &str = r#"mount -t tmpfs none "$1" && printf %s "$2" >"$1/flowsigma.toml" && cd "$1" && shift 2 && exec "$@""#;
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", &format!("{}-{host}", prefix()?)])
        .args(["unshare", "--mount", "--propagation", "private", "sh", "-c", OWN_FOLDER, "sh"])
        .arg(folder)
        .arg(config)
        .arg(binary(program)?)
        .env("TMPDIR", folder)
        .env_remove("FLOWSIGMA_CONFIG")
        .stdin(Stdio::null());
    Ok(command)
}

/// A host that nothing reaches and that reaches nothing, until this is dropped. No reset is sent.
pub struct Cut {
    host: &'static str,
}

impl Cut {
    /// Cuts a host off.
    pub fn off(host: &'static str) -> Result<Self> {
        set_tls(host, "down")?;
        Ok(Self { host })
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        set_tls(self.host, "up").ok();
    }
}

/// One host's packets to another are lost, until this is dropped; all else arrives.
pub struct Astray {
    from: String,
    to: &'static str,
    link_address: String,
}

impl Astray {
    /// Sends them to a link address that nobody has.
    pub fn send(from: &str, to: &str) -> Result<Self> {
        let (from, to) = (format!("{}-{from}", prefix()?), address(to)?);
        let shown = Command::new("ip").args(["-n", &from, "neighbour", "show", to]).output()?;
        let shown = String::from_utf8(shown.stdout)?;
        let link_address = shown.split_whitespace().skip_while(|word| *word != "lladdr").nth(1);
        let link_address = link_address.with_context(|| format!("no link address of {to} in {shown:?}"))?;
        set_neighbour(&from, to, "02:00:00:00:00:01")?;
        Ok(Self { from, to, link_address: link_address.to_owned() })
    }
}

impl Drop for Astray {
    fn drop(&mut self) {
        set_neighbour(&self.from, self.to, &self.link_address).ok();
    }
}

fn set_neighbour(from: &str, to: &str, link_address: &str) -> Result<()> {
    let args = ["neighbour", "replace", to, "lladdr", link_address, "dev", "eth0", "nud", "permanent"];
    let done = Command::new("ip").args(["-n", from]).args(args).status()?;
    ensure!(done.success(), "the way from {from} to {to} was not set");
    Ok(())
}

fn set_tls(host: &str, state: &str) -> Result<()> {
    let switch = format!("{}-switch", prefix()?);
    let done = Command::new("ip").args(["-n", &switch, "link", "set", host, state]).status()?;
    ensure!(done.success(), "the link of {host} was not set {state}");
    Ok(())
}

/// A scheduler and two executors, each on its host.
pub struct HostCluster {
    /// Where to submit.
    pub scheduler_url: String,
    certificates: Members,
    watch: Tls,
    folder: TempDir,
    processes: Vec<(&'static str, Command, Process)>,
}

/// The client's name in its certificate and in `[access]`.
const CLIENT: &str = "client";

impl HostCluster {
    /// Starts them, each with a certificate of its own and the connections of `config`, and waits until both executors
    /// have registered. The client of [`HostCluster::client_config`] may read every index.
    pub async fn start(config: &str, scheduler_args: &[&str], executor_args: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let work = folder.path().join("own");
        std::fs::create_dir(&work)?;
        let scheduler = address("scheduler")?;
        let certificates = Members::for_hosts(&[scheduler, address(EXECUTORS[0])?, address(EXECUTORS[1])?])?;
        let watch = certificates.files(Role::Client, "watch")?;
        let client = ClientCertificate { cert_file: watch.cert_file, key_file: watch.key_file };
        let watch = Tls { ca_file: Some(watch.ca_file), verify: Verify::Full, client: Some(client) };
        let scheduler_url = format!("https://{scheduler}:50050");
        let mut cluster = Self { scheduler_url, certificates, watch, folder, processes: Vec::new() };
        let member = |role, name| -> Result<String> {
            Ok(format!("{config}{}", cluster.certificates.config(role, name)?))
        };
        let (for_scheduler, for_executor) =
            (member(Role::Scheduler, "scheduler")?, member(Role::Executor, "executor")?);
        let granted = format!("[access.{CLIENT}]\nconnections = [\"*\"]\nindices = [\"*\"]\n");
        let everywhere = ["--bind-host", "0.0.0.0"];
        cluster.spawn(
            "scheduler",
            &format!("{for_scheduler}{granted}"),
            "flowsigma-scheduler",
            &[&everywhere, &["--external-host", scheduler], scheduler_args],
        )?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while cluster.registered().await.is_none() {
            ensure!(Instant::now() < deadline, "no scheduler; logs:\n{}", cluster.logs());
        }
        let work = work.to_string_lossy();
        for host in EXECUTORS {
            cluster.spawn(
                host,
                &for_executor,
                "flowsigma-executor",
                &[
                    &everywhere,
                    &["--scheduler-host", scheduler, "--external-host", address(host)?],
                    &["--work-dir", &work, "--vcores", "2"],
                    executor_args,
                ],
            )?;
        }
        let restarted = cluster.wait_for_all().await?;
        ensure!(restarted.is_empty(), "{restarted:?} ended at once; logs:\n{}", cluster.logs());
        Ok(cluster)
    }

    fn spawn(&mut self, host: &'static str, config: &str, program: &str, args: &[&[&str]]) -> Result<()> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("{host}.log")))?;
        let mut command = command(host, &self.own_folder(), config, program)?;
        command.args(args.concat()).stdout(log.try_clone()?).stderr(log);
        let process = Process(command.spawn()?);
        self.processes.push((host, command, process));
        Ok(())
    }

    /// Waits until all executors are registered. One that has ended is started again, as a
    /// supervisor does; returns which were.
    pub async fn wait_for_all(&mut self) -> Result<Vec<&'static str>> {
        let mut restarted = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.registered().await != Some(EXECUTORS.len()) {
            for (host, command, process) in &mut self.processes {
                if process.0.try_wait()?.is_some() {
                    *process = Process(command.spawn()?);
                    restarted.push(*host);
                }
            }
            ensure!(Instant::now() < deadline, "restarted {restarted:?}; logs:\n{}", self.logs());
        }
        Ok(restarted)
    }

    /// `[cluster]` of the client's configuration.
    pub fn client_config(&self) -> Result<String> {
        self.certificates.config(Role::Client, CLIENT)
    }

    /// What somebody shows whose certificate is of the cluster's authority.
    pub fn proof(&self, role: Role, name: &str) -> Result<Proof> {
        self.certificates.proof(role, name)
    }

    /// The certificate of the cluster's authority, PEM.
    pub fn authority(&self) -> &str {
        self.certificates.authority()
    }

    /// The same path on every host, and another file system on each.
    pub fn own_folder(&self) -> std::path::PathBuf {
        self.folder.path().join("own")
    }

    async fn registered(&self) -> Option<usize> {
        let mut config = ConnectionConfig::from_url(&self.scheduler_url).ok()?;
        config.tls = self.watch.clone();
        let rest = Connection::try_new("scheduler", &config).ok()?;
        let response = rest.send(&Request::new(Method::Get, "/api/executors", "executors")).await.ok()?;
        response.json("executors").ok()?.as_array().map(Vec::len)
    }

    /// What one host's process wrote.
    pub fn log(&self, host: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{host}.log"))).unwrap_or_default()
    }

    /// What all of them wrote.
    pub fn logs(&self) -> String {
        ["scheduler", EXECUTORS[0], EXECUTORS[1]].map(|host| format!("{host}:\n{}", self.log(host))).concat()
    }
}
