//! A scheduler and executors as processes, on free ports, stopped when dropped.

use crate::rows_proxy::RowsProxy;
use anyhow::{Context, Result, bail};
use datafusion::error::Result as DataFusionResult;
use datafusion::prelude::SessionContext;
use elastic_client::{
    ClientCertificate, Connection, ConnectionConfig, ConnectionRegistry, Method, Request, Tls, Verify,
};
use flowsigma_node::{ClusterTls, Config, LocalCredentials};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A session on a cluster inside this process, which is there until the runtime ends.
pub async fn embedded_context(registry: Arc<ConnectionRegistry>) -> DataFusionResult<SessionContext> {
    let cluster = ballista_elasticsearch::Cluster::embedded(registry).await?;
    let context = cluster.context().clone();
    tokio::spawn(async move {
        let _kept = cluster;
        std::future::pending::<()>().await;
    });
    Ok(context)
}

/// A session that submits to a scheduler, as the account that runs it or as anyone.
pub async fn remote_context(
    registry: Arc<ConnectionRegistry>,
    scheduler_url: &str,
) -> DataFusionResult<SessionContext> {
    configured_context(registry, &Config::default(), scheduler_url).await
}

/// A session that submits to a scheduler, with the certificates of a configuration.
pub async fn configured_context(
    registry: Arc<ConnectionRegistry>,
    config: &Config,
    scheduler_url: &str,
) -> DataFusionResult<SessionContext> {
    Ok(ballista_elasticsearch::Cluster::remote(registry, config, scheduler_url).await?.context().clone())
}

/// Where cargo puts the binaries of this build.
pub fn binary(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("no target folder")?;
    let path = folder.join(name);
    anyhow::ensure!(path.exists(), "{} is not built: run scripts/test", path.display());
    Ok(path)
}

/// Where ports for clusters are taken from: below those that the kernel gives to connections, which would take one
/// between its choice and the start of the process that is to listen on it.
const PORTS: Range<u16> = 20_000..32_000;

/// Ports that are free. No two are the same, nor given twice soon by this process.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ports = Vec::new();
    for _ in PORTS {
        if ports.len() == count {
            break;
        }
        // Another process that runs tests begins elsewhere.
        let port = next.unwrap_or_else(|| rand::random_range(PORTS));
        *next = Some(if port + 1 == PORTS.end { PORTS.start } else { port + 1 });
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            ports.push(port);
        }
    }
    anyhow::ensure!(ports.len() == count, "fewer than {count} of the ports {PORTS:?} are free");
    Ok(ports)
}

/// Between two looks at something that is waited for, so that what it waits for has the processor.
pub const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A process that is killed when this is dropped.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What a cluster is made of. Each node has a configuration of its own.
#[derive(Clone, Copy, Default)]
pub struct Shape<'a> {
    /// The scheduler's connections.
    pub scheduler: &'a str,
    /// The connections of each executor.
    pub executors: &'a [&'a str],
    /// Vcores of each executor.
    pub vcores: usize,
    /// Variables in the environment of every process.
    pub variables: &'a [(&'a str, &'a str)],
    /// More options of the scheduler.
    pub scheduler_args: &'a [&'a str],
    /// More options of the executors.
    pub executor_args: &'a [&'a str],
    /// Whether anyone may use it, which is the only way in which tasks are pushed.
    pub allow_anyone: bool,
    /// The proxies before the executors; none where they are reached directly.
    pub proxies: &'a [RowsProxy],
}

/// What schedulers and executors of a [`Shape`] that allows anyone are started with.
const ALLOW_ANYONE: &str = "--allow-anyone";

impl Shape<'_> {
    /// Of a cluster with certificates, one test leaves it to the scheduler to find the executors' addresses.
    fn names_executors(&self) -> bool {
        !self.scheduler.contains("[cluster]")
    }
}

/// What the scheduler on `port` wrote for this account, as files in `folder`.
fn credentials_of_account(port: u16, folder: &Path) -> Result<ClusterTls> {
    let credentials = LocalCredentials::read(port)?.context("the scheduler wrote no credentials")?;
    let file = |name: &str, pem: &str| {
        let path = folder.join(name);
        std::fs::write(&path, pem)?;
        anyhow::Ok(path)
    };
    Ok(ClusterTls {
        ca_file: file("account-ca.pem", &credentials.authority)?,
        cert_file: file("account.pem", &credentials.owner.certificate)?,
        key_file: file("account.key", &credentials.owner.key)?,
    })
}

fn work_folder(folder: &TempDir, executor: usize) -> PathBuf {
    folder.path().join(format!("work-{executor}"))
}

/// How a process was started, so that it can be again.
#[derive(Clone)]
struct Launch {
    program: &'static str,
    args: Vec<String>,
    variables: Vec<(String, String)>,
    log: PathBuf,
}

impl Launch {
    fn spawn(&self, folder: &Path) -> Result<Process> {
        let log = std::fs::File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(binary(self.program)?)
            .args(&self.args)
            .envs(self.variables.iter().map(|(k, v)| (k, v)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Process(child))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        LocalCredentials::delete(self.port).ok();
    }
}

/// A running cluster.
pub struct Cluster {
    /// Where to submit.
    pub scheduler_url: String,
    /// Logs and work of all processes. `flowsigma.toml` in it is the scheduler's.
    pub folder: TempDir,
    tls: Option<ClusterTls>,
    executor_ports: Vec<u16>,
    health_ports: Vec<u16>,
    port: u16,
    launch_scheduler: Launch,
    launch_executors: Vec<Launch>,
    scheduler: Option<Process>,
    executors: Vec<Process>,
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
        let executors = vec![config; executors];
        let shape = Shape { scheduler: config, executors: &executors, vcores, variables, ..Shape::default() };
        Self::start_as(shape).await
    }

    /// Starts a cluster and waits until all of its executors have registered.
    pub async fn start_as(shape: Shape<'_>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let tls = Config::parse(shape.scheduler, &folder.path().join("flowsigma.toml"))?.cluster_tls;
        let mut ports = free_ports(1 + 3 * shape.executors.len())?.into_iter();
        let mut next_port = || ports.next().context("too few ports");
        let port = next_port()?;
        let variables: Vec<(String, String)> =
            shape.variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let launch = |program, name: &str, config: &str, args: &[(&str, &str)], more: &[&str]| {
            let config_file = match name {
                "scheduler" => folder.path().join("flowsigma.toml"),
                _ => folder.path().join(format!("{name}.toml")),
            };
            std::fs::write(&config_file, config)?;
            let mut all = vec!["--config".to_owned(), config_file.to_string_lossy().into_owned()];
            all.extend(args.iter().flat_map(|(key, value)| [format!("--{key}"), (*value).to_owned()]));
            all.extend(more.iter().map(|arg| (*arg).to_owned()));
            all.extend(shape.allow_anyone.then(|| ALLOW_ANYONE.to_owned()));
            let log = folder.path().join(format!("{name}.log"));
            anyhow::Ok(Launch { program, args: all, variables: variables.clone(), log })
        };
        let here = "127.0.0.1";
        let port_text = port.to_string();
        let args = [("bind-host", here), ("external-host", here), ("bind-port", &port_text)];
        let launch_scheduler =
            launch("flowsigma-scheduler", "scheduler", shape.scheduler, &args, shape.scheduler_args)?;
        let scheduler = launch_scheduler.spawn(folder.path())?;
        wait_for_port(port)?;
        let tls = match tls {
            None if !shape.allow_anyone => Some(credentials_of_account(port, folder.path())?),
            tls => tls,
        };
        let (mut executors, mut executor_ports, mut health_ports) = (Vec::new(), Vec::new(), Vec::new());
        let mut launch_executors = Vec::new();
        for (i, config) in shape.executors.iter().enumerate() {
            let work = work_folder(&folder, i);
            std::fs::create_dir(&work)?;
            let (host, flight, grpc) = match shape.proxies.get(i) {
                Some(proxy) => (proxy.behind.to_string(), proxy.flight, proxy.grpc),
                None => (here.to_owned(), next_port()?, next_port()?),
            };
            executor_ports.push(flight);
            let health = next_port()?;
            health_ports.push(health);
            let (flight, grpc, health) = (flight.to_string(), grpc.to_string(), health.to_string());
            let vcores = shape.vcores.to_string();
            let mut args = vec![
                ("scheduler-host", here),
                ("scheduler-port", &port_text),
                ("bind-host", &host),
                ("bind-port", &flight),
                ("bind-grpc-port", &grpc),
                ("bind-health-port", &health),
                ("vcores", &vcores),
            ];
            // An executor that names no host is known by the address that it calls from.
            if shape.names_executors() {
                args.push(("external-host", here));
            }
            let name = format!("executor-{i}");
            let mut launch = launch("flowsigma-executor", &name, config, &args, shape.executor_args)?;
            launch.variables.push(("TMPDIR".into(), work.to_string_lossy().into_owned()));
            executors.push(launch.spawn(folder.path())?);
            launch_executors.push(launch);
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let cluster = Self {
            scheduler_url: format!("{scheme}://{here}:{port}"),
            folder,
            tls,
            executor_ports,
            health_ports,
            port,
            launch_scheduler,
            launch_executors,
            scheduler: Some(scheduler),
            executors,
        };
        cluster.wait_for_executors(shape.executors.len()).await?;
        Ok(cluster)
    }

    /// Where each executor serves what it computed.
    pub fn executor_ports(&self) -> &[u16] {
        &self.executor_ports
    }

    /// What the probe at `path` of an executor is answered with, such as `HTTP/1.0 200 OK`.
    pub fn probe(&self, executor: usize, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.health_ports[executor]))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        Ok(response.lines().next().unwrap_or_default().to_owned())
    }

    /// Waits until an executor's probe answers with this status.
    pub async fn wait_for_probe(
        &self,
        executor: usize,
        path: &str,
        status: &str,
        longest: Duration,
    ) -> Result<()> {
        let deadline = Instant::now() + longest;
        loop {
            let response = self.probe(executor, path)?;
            if response.contains(status) {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "executor {executor}: {path} answers {response:?}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill_executor(&mut self, i: usize) -> Result<()> {
        let Process(child) = &mut self.executors[i];
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Starts an executor in place of one that was killed.
    pub fn restart_executor(&mut self, i: usize) -> Result<()> {
        self.executors[i] = self.launch_executors[i].spawn(self.folder.path())?;
        Ok(())
    }

    /// The process of an executor.
    pub fn executor_id(&self, i: usize) -> u32 {
        self.executors[i].0.id()
    }

    /// What an executor has in its folder for temporary files.
    pub fn left_by(&self, i: usize) -> Result<Vec<PathBuf>> {
        std::fs::read_dir(work_folder(&self.folder, i))?.map(|entry| Ok(entry?.path())).collect()
    }

    /// The process of the scheduler.
    pub fn scheduler_id(&self) -> Result<u32> {
        Ok(self.scheduler.as_ref().context("the scheduler was killed")?.0.id())
    }

    /// Waits until an executor has ended by itself.
    pub fn wait_for_end(&mut self, i: usize, longest: Duration) -> Result<()> {
        let ended = wait_for_end(&mut self.executors[i], longest);
        ended.with_context(|| format!("executor {i}; logs:\n{}", self.logs()))
    }

    /// Waits until the scheduler has ended by itself.
    pub fn wait_for_scheduler_end(&mut self, longest: Duration) -> Result<()> {
        let ended = wait_for_end(self.scheduler.as_mut().context("the scheduler was killed")?, longest);
        ended.with_context(|| format!("scheduler; logs:\n{}", self.logs()))
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill_scheduler(&mut self) {
        self.scheduler = None;
    }

    /// Starts a scheduler at the address of the one that was killed.
    pub fn restart_scheduler(&mut self) -> Result<()> {
        self.scheduler = Some(self.launch_scheduler.spawn(self.folder.path())?);
        wait_for_port(self.port)
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

    /// Waits until so many executors have registered.
    pub async fn wait_for_executors(&self, count: usize) -> Result<()> {
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
            tokio::time::sleep(POLL_INTERVAL).await;
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

fn wait_for_end(process: &mut Process, longest: Duration) -> Result<()> {
    let deadline = Instant::now() + longest;
    while process.0.try_wait()?.is_none() {
        anyhow::ensure!(Instant::now() < deadline, "still runs");
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

fn wait_for_port(port: u16) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    bail!("nothing listens on port {port}")
}
