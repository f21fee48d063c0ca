//! Processes on hosts of their own, and the links between them.
//!
//! Owns: starting on a host, cutting it off and connecting it again. Must not know: what a test
//! expects. The hosts are network namespaces, made by `scripts/test --hosts` (scripts/lib/hosts.sh);
//! the tests themselves run on the host `client`. Each process has a file system of its own in place
//! of the folder that it works in.

use crate::cluster::{Process, binary};
use anyhow::{Context, Result, bail, ensure};
use elastic_client::{Connection, ConnectionConfig, Method, Request};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const EXECUTORS: [&str; 2] = ["executor1", "executor2"];

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
        set_link(host, "down")?;
        Ok(Self { host })
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        set_link(self.host, "up").ok();
    }
}

fn set_link(host: &str, state: &str) -> Result<()> {
    let switch = format!("{}-switch", prefix()?);
    let done = Command::new("ip").args(["-n", &switch, "link", "set", host, state]).status()?;
    ensure!(done.success(), "the link of {host} was not set {state}");
    Ok(())
}

/// A scheduler and two executors, each on its host.
pub struct HostCluster {
    /// Where to submit.
    pub scheduler_url: String,
    folder: TempDir,
    _processes: Vec<Process>,
}

impl HostCluster {
    /// Starts them and waits until both executors have registered.
    pub async fn start(config: &str, scheduler_args: &[&str], executor_args: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let work = folder.path().join("own");
        std::fs::create_dir(&work)?;
        let scheduler = address("scheduler")?;
        let mut cluster =
            Self { scheduler_url: format!("http://{scheduler}:50050"), folder, _processes: Vec::new() };
        cluster.spawn(
            "scheduler",
            config,
            "flowsigma-scheduler",
            &[&["--external-host", scheduler], scheduler_args],
        )?;
        cluster.wait_for_executors(0).await?;
        let work = work.to_string_lossy();
        for host in EXECUTORS {
            cluster.spawn(
                host,
                config,
                "flowsigma-executor",
                &[
                    &["--scheduler-host", scheduler, "--external-host", address(host)?],
                    &["--work-dir", &work, "--vcores", "2"],
                    executor_args,
                ],
            )?;
        }
        cluster.wait_for_executors(EXECUTORS.len()).await?;
        Ok(cluster)
    }

    fn spawn(&mut self, host: &str, config: &str, program: &str, args: &[&[&str]]) -> Result<()> {
        let log = std::fs::File::create(self.folder.path().join(format!("{host}.log")))?;
        let mut command = command(host, &self.own_folder(), config, program)?;
        command.args(args.concat()).stdout(log.try_clone()?).stderr(log);
        self._processes.push(Process(command.spawn()?));
        Ok(())
    }

    /// The same path on every host, and another file system on each.
    pub fn own_folder(&self) -> std::path::PathBuf {
        self.folder.path().join("own")
    }

    /// Waits until so many executors are registered.
    pub async fn wait_for_executors(&self, count: usize) -> Result<()> {
        let rest = Connection::try_new("scheduler", &ConnectionConfig::from_url(&self.scheduler_url)?)?;
        let ask = Request::new(Method::Get, "/api/executors", "executors");
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let seen = match rest.send(&ask).await {
                Ok(answer) => answer.json("executors")?.as_array().map(Vec::len),
                Err(_) => None,
            };
            if seen == Some(count) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{seen:?} of {count} executors; logs:\n{}", self.logs());
            tokio::task::yield_now().await;
        }
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
