//! The nodes of one server, each a process.
//!
//! Owns: which process is which node, killing it, and starting it again as it was started. Must not
//! know: what a test expects. `scripts/test` starts the servers and stops all that is left of them,
//! what was started again included: a process carries the mark of its instance.

use crate::cluster::POLL_INTERVAL;
use crate::cluster::Process;
use anyhow::{Context, Result};
use elastic_client::{Connection, Method, Request};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A node, or how to start it again.
struct Node {
    url: String,
    pid: u32,
    /// Once it was started again here.
    process: Option<Process>,
}

/// All nodes of one server.
pub struct ServerNodes(Vec<Node>);

impl ServerNodes {
    /// As `scripts/test` exports them: a word a server, which is the URLS and the PIDS of
    /// `scripts/server` with `@` between.
    pub fn all_from_env() -> Result<Vec<Self>> {
        let name = "FLOWSIGMA_TEST_NODES";
        let servers = std::env::var(name).with_context(|| format!("{name} is not set: run scripts/test"))?;
        servers.split_whitespace().map(Self::parse).collect()
    }

    fn parse(server: &str) -> Result<Self> {
        let (urls, pids) = server.split_once('@').context("no PIDS")?;
        let node = |(url, pid): (&str, &str)| Ok(Node { url: url.into(), pid: pid.parse()?, process: None });
        anyhow::ensure!(urls.split(',').count() == pids.split(',').count(), "not a PID a URL: {server}");
        urls.split(',').zip(pids.split(',')).map(node).collect::<Result<_>>().map(Self)
    }

    /// Where they are asked.
    pub fn urls(&self) -> Vec<&str> {
        self.0.iter().map(|node| node.url.as_str()).collect()
    }

    /// `kill -9`, and waits until it is gone. What is returned starts it again.
    pub fn kill(&mut self, i: usize) -> Result<Revival> {
        let node = &mut self.0[i];
        let revival = Revival::of(node.pid)?;
        Command::new("kill").args(["-KILL", &node.pid.to_string()]).status()?;
        // A child is waited for by its drop.
        node.process = None;
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::fs::read(format!("/proc/{}/cmdline", node.pid)).is_ok_and(|line| !line.is_empty()) {
            anyhow::ensure!(Instant::now() < deadline, "node {} outlives kill -9", node.url);
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(revival)
    }

    /// Starts one again that was killed.
    pub fn revive(&mut self, i: usize, revival: Revival) -> Result<()> {
        let process = revival.start()?;
        self.0[i].pid = process.0.id();
        self.0[i].process = Some(process);
        Ok(())
    }

    /// Points in time and scrolls by node, those that are there.
    pub async fn count_open_contexts(&self, connection: &Connection) -> Result<Vec<u64>> {
        let stats = Request::new(Method::Get, "/_nodes/stats/indices/search", "contexts by node");
        let stats = connection.send(&stats).await?.json("contexts by node")?;
        let infos = Request::new(Method::Get, "/_nodes/http", "addresses of nodes");
        let infos = connection.send(&infos).await?.json("addresses of nodes")?;
        let mut by_address = HashMap::new();
        for (id, info) in infos["nodes"].as_object().context("no nodes")? {
            let address = info["http"]["publish_address"].as_str().context("no publish_address")?;
            let open = &stats["nodes"][id]["indices"]["search"]["open_contexts"];
            by_address.insert(format!("http://{address}"), open.as_u64().unwrap_or(0));
        }
        Ok(self.0.iter().map(|node| by_address.get(&node.url).copied().unwrap_or(0)).collect())
    }

    /// Waits until so many nodes are there, and `status` or better.
    pub async fn wait_for(&self, connection: &Connection, nodes: usize, status: &str) -> Result<()> {
        let operation = format!("wait for {nodes} nodes, {status}");
        let ask = Request::new(Method::Get, "/_cluster/health", &operation)
            .with_param("wait_for_nodes", nodes.to_string())
            .with_param("wait_for_status", status)
            .with_param("wait_for_no_initializing_shards", "true")
            .with_param("timeout", "50s");
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            // 408 when the time is over, and while a master is elected something else.
            match connection.send(&ask).await {
                Ok(_) => return Ok(()),
                Err(e) if Instant::now() > deadline => return Err(e.into()),
                Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    }
}

/// How a process was started, and where it wrote.
pub struct Revival {
    command: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
    folder: PathBuf,
    log: PathBuf,
}

impl Revival {
    fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| -> Result<Vec<Vec<u8>>> {
            let text = std::fs::read(format!("/proc/{pid}/{file}")).context("no such node")?;
            Ok(text.split(|b| *b == 0).filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect())
        };
        let link = |file: &str| std::fs::read_link(format!("/proc/{pid}/{file}"));
        Ok(Self {
            command: read("cmdline")?,
            environment: read("environ")?,
            folder: link("cwd")?,
            log: link("fd/1")?,
        })
    }

    fn start(&self) -> Result<Process> {
        let log = File::options().append(true).open(&self.log)?;
        let (program, args) = self.command.split_first().context("no command line")?;
        let variables = self.environment.iter().filter_map(|variable| {
            let at = variable.iter().position(|b| *b == b'=')?;
            Some((OsStr::from_bytes(&variable[..at]), OsStr::from_bytes(&variable[at + 1..])))
        });
        let child = Command::new(OsStr::from_bytes(program))
            .args(args.iter().map(|arg| OsStr::from_bytes(arg)))
            .env_clear()
            .envs(variables)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Process(child))
    }
}
