//! A scheduler and executors as processes, on free ports, stopped when dropped.

use anyhow::{Context, Result, bail};
use datafusion::error::Result as DataFusionResult;
use datafusion::prelude::SessionContext;
use elastic_client::{
    ClientCertificate, ClusterTls, Config, Connection, ConnectionConfig, ConnectionRegistry, Method, Request,
    Tls, Verify,
};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A session on a cluster inside this process.
pub async fn embedded_context(registry: Arc<ConnectionRegistry>) -> DataFusionResult<SessionContext> {
    Ok(ballista_elasticsearch::Cluster::embedded(registry).await?.context().clone())
}

/// A session that submits to a scheduler.
pub async fn remote_context(
    registry: Arc<ConnectionRegistry>,
    scheduler_url: &str,
) -> DataFusionResult<SessionContext> {
    Ok(ballista_elasticsearch::Cluster::remote(registry, scheduler_url).await?.context().clone())
}

/// Where cargo puts the binaries of this build.
pub fn binary(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("no target folder")?;
    let path = folder.join(name);
    anyhow::ensure!(path.exists(), "{} is not built: run scripts/test", path.display());
    Ok(path)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A running cluster.
pub struct Cluster {
    /// Where to submit.
    pub scheduler_url: String,
    /// Logs and work of all processes.
    pub folder: TempDir,
    tls: Option<ClusterTls>,
    executor_ports: Vec<u16>,
    _processes: Vec<Process>,
}

impl Cluster {
    /// Starts a scheduler and `executors` executors of `vcores` each, whose connections are those of
    /// `config`, and waits until all have registered.
    pub async fn start(executors: usize, vcores: usize, config: &str) -> Result<Self> {
        Self::start_with(executors, vcores, config, &[]).await
    }

    /// As [`Cluster::start`], with variables in the environment of every process.
    pub async fn start_with(
        executors: usize,
        vcores: usize,
        config: &str,
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config_file = folder.path().join("flowsigma.toml");
        std::fs::write(&config_file, config)?;
        let tls = Config::parse(config, &config_file)?.cluster_tls;
        let port = free_port()?;
        let mut executor_ports = Vec::new();
        let mut processes = Vec::new();
        let spawn = |name: &str, log: String, args: Vec<String>| -> Result<Process> {
            let log = std::fs::File::create(folder.path().join(log))?;
            let child = Command::new(binary(name)?)
                .arg("--config")
                .arg(&config_file)
                .args(args)
                .envs(variables.iter().copied())
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()?;
            Ok(Process(child))
        };
        let arg = |key: &str, value: &str| [format!("--{key}"), value.to_owned()];
        let mut args = Vec::new();
        args.extend(arg("bind-host", "127.0.0.1"));
        args.extend(arg("external-host", "127.0.0.1"));
        args.extend(arg("bind-port", &port.to_string()));
        processes.push(spawn("flowsigma-scheduler", "scheduler.log".into(), args)?);
        wait_for_port(port)?;
        for i in 0..executors {
            let work = folder.path().join(format!("work-{i}"));
            std::fs::create_dir(&work)?;
            let mut args = Vec::new();
            args.extend(arg("scheduler-host", "127.0.0.1"));
            args.extend(arg("scheduler-port", &port.to_string()));
            args.extend(arg("bind-host", "127.0.0.1"));
            // An executor that names no host is known by the address that it calls from.
            if tls.is_none() {
                args.extend(arg("external-host", "127.0.0.1"));
            }
            let port = free_port()?;
            executor_ports.push(port);
            args.extend(arg("bind-port", &port.to_string()));
            args.extend(arg("bind-grpc-port", &free_port()?.to_string()));
            args.extend(arg("bind-health-port", &free_port()?.to_string()));
            args.extend(arg("vcores", &vcores.to_string()));
            args.extend(arg("work-dir", &work.to_string_lossy()));
            processes.push(spawn("flowsigma-executor", format!("executor-{i}.log"), args)?);
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let scheduler_url = format!("{scheme}://127.0.0.1:{port}");
        let cluster = Self { scheduler_url, folder, tls, executor_ports, _processes: processes };
        cluster.wait_for_executors(executors).await?;
        Ok(cluster)
    }

    /// Where each executor serves what it computed.
    pub fn executor_ports(&self) -> &[u16] {
        &self.executor_ports
    }

    /// The scheduler's REST endpoints.
    pub fn rest(&self) -> Result<Connection> {
        let mut config = ConnectionConfig::from_url(&self.scheduler_url)?;
        if let Some(tls) = self.tls.clone() {
            let client = ClientCertificate { cert_file: tls.cert_file, key_file: tls.key_file };
            config.tls = Tls { ca_file: Some(tls.ca_file), verify: Verify::Full, client: Some(client) };
        }
        Ok(Connection::try_new("scheduler", &config)?)
    }

    async fn wait_for_executors(&self, count: usize) -> Result<()> {
        let rest = self.rest()?;
        let ask = Request::new(Method::Get, "/api/executors", "executors");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let seen = rest.send(&ask).await?.json("executors")?.as_array().map_or(0, Vec::len);
            if seen == count {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{seen} of {count} executors registered; logs:\n{}", self.logs());
            }
            tokio::task::yield_now().await;
        }
    }

    /// What all processes wrote.
    pub fn logs(&self) -> String {
        let Ok(entries) = std::fs::read_dir(self.folder.path()) else { return String::new() };
        entries
            .flatten()
            .filter(|e| e.path().extension().is_some_and(|x| x == "log"))
            .map(|e| std::fs::read_to_string(e.path()).unwrap_or_default())
            .collect()
    }
}

fn wait_for_port(port: u16) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(());
        }
        std::thread::yield_now();
    }
    bail!("nothing listens on port {port}")
}
