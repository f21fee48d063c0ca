//! The folder of a job: its files, and the processes that run it.
//!
//! Owns: starting and ending processes of jobs. Must not know: what a test expects of them.

use crate::command::{captured, stderr, stdout};
use flowsigma_tests::cluster::POLL_INTERVAL;
use serde_json::Value;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What a process or a state is waited for, on a busy machine with debug builds.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

pub(super) fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_str(stdout(output)).unwrap()
}

/// Returns the JSON objects that a run prints, one for each window.
pub(super) fn runs_of(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits between two looks at a state, and fails once that has taken too long.
pub(super) struct Patience {
    what: &'static str,
    deadline: Instant,
}

impl Patience {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, deadline: Instant::now() + PATIENCE }
    }

    pub(super) async fn pause(&self) {
        assert!(Instant::now() < self.deadline, "not within {PATIENCE:?}: {}", self.what);
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// A job file: what all jobs of these tests have, and what one of them adds.
pub(super) struct JobText<'a> {
    pub(super) name: &'a str,
    pub(super) index: &'a str,
    /// Lines of `[window]`.
    pub(super) window: &'a str,
    /// Sections after that: the store, the sinks and others.
    pub(super) sections: &'a [&'a str],
}

impl JobText<'_> {
    pub(super) fn text(&self) -> String {
        let Self { name, index, window, sections } = self;
        let mut text = format!(
            "name = \"{name}\"\n\
             [source]\nconnection = \"prod\"\nindex = \"{index}\"\n\
             source_field = \"source.ip\"\ndestination_field = \"destination.ip\"\n\
             options = {{ keep_alive = \"10s\" }}\n\
             [window]\n{window}\n"
        );
        for section in *sections {
            writeln!(text, "{section}").unwrap();
        }
        text
    }
}

/// A folder with `flowsigma.toml`, a folder of job files, and what the jobs write.
pub(super) struct JobFolder {
    folder: TempDir,
    environment: Vec<(&'static str, &'static str)>,
}

impl JobFolder {
    /// Connections by name and URL: `prod` only reads, the others may write.
    pub(super) fn new(connections: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = String::new();
        for (name, url) in connections {
            let write = *name != "prod";
            write!(config, "[connections.{name}]\nnodes = [\"{url}\"]\nwrite = {write}\n").unwrap();
        }
        std::fs::write(folder.path().join("flowsigma.toml"), config).unwrap();
        std::fs::create_dir(folder.path().join("jobs")).unwrap();
        Self { folder, environment: Vec::new() }
    }

    /// Sets variables of the processes.
    pub(super) fn with_environment(mut self, variables: &[(&'static str, &'static str)]) -> Self {
        self.environment.extend_from_slice(variables);
        self
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the folder of job files.
    pub(super) fn jobs(&self) -> PathBuf {
        self.path("jobs")
    }

    pub(super) fn file(&self, job: &str) -> PathBuf {
        self.jobs().join(format!("{job}.toml"))
    }

    /// Writes a job file. A server of the folder never sees a part of it.
    pub(super) fn write(&self, job: &str, text: &str) {
        let partial = self.path("partial");
        std::fs::write(&partial, text).unwrap();
        std::fs::rename(partial, self.file(job)).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let config = self.path("flowsigma.toml");
        let mut command = captured(&[&["--config", config.to_str().unwrap()], args].concat());
        command.current_dir(self.folder.path()).envs(self.environment.iter().copied());
        command
    }

    /// Runs `flowsigma job COMMAND FILE ARGUMENT...` of a job to its end.
    pub(super) fn job(&self, job: &str, args: &[&str]) -> Output {
        let file = self.file(job);
        let args = [&["job", args[0], file.to_str().unwrap()], &args[1..]].concat();
        tokio::task::block_in_place(|| self.command(&args).output().unwrap())
    }

    /// Starts the same. What it prints is in the file `LOG` of the folder.
    pub(super) fn start(&self, job: &str, args: &[&str], log: &str) -> Child {
        let file = self.file(job);
        self.logged(&[&["job", args[0], file.to_str().unwrap()], &args[1..]].concat(), log)
    }

    /// Starts `job serve` at a port, by a clock.
    pub(super) fn serve(&self, port: u16, clock: &str, log: &str) -> Served {
        let (folder, address) = (self.jobs(), format!("127.0.0.1:{port}"));
        let args = ["job", "serve", folder.to_str().unwrap(), "--listen", &address, "--clock", clock];
        Served { process: self.logged(&args, log), log: self.path(log), port }
    }

    fn logged(&self, args: &[&str], log: &str) -> Child {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(self.path(log)).unwrap();
        let mut command = self.command(args);
        command.stdout(Stdio::from(file.try_clone().unwrap())).stderr(Stdio::from(file));
        command.spawn().unwrap()
    }

    /// Returns what the processes with this log have printed.
    pub(super) fn log(&self, log: &str) -> String {
        std::fs::read_to_string(self.path(log)).unwrap_or_default()
    }

    /// Returns the array of `job windows --format json` at a time.
    pub(super) fn windows(&self, job: &str, now: &str) -> Vec<Value> {
        let states = json_of(&self.job(job, &["windows", "--now", now, "--format", "json"]));
        states.as_array().unwrap().clone()
    }
}

/// A running `job serve`; killed when dropped.
pub(super) struct Served {
    pub(super) process: Child,
    log: PathBuf,
    port: u16,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Served {
    /// Returns what an HTTP path responds with, or nothing while there is no response.
    pub(super) async fn get(&self, path: &str) -> Option<String> {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.get(format!("http://127.0.0.1:{}{path}", self.port)).send().await.ok()?;
        response.error_for_status().ok()?.text().await.ok()
    }

    pub(super) async fn wait_until_ready(&mut self) {
        let patience = Patience::new("job serve is ready");
        while self.get("/readyz").await.is_none() {
            assert!(self.process.try_wait().unwrap().is_none(), "{}", self.log());
            patience.pause().await;
        }
    }

    /// Sends SIGTERM, and waits for the end.
    pub(super) async fn stop(&mut self) -> ExitStatus {
        Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().unwrap();
        end_of(&mut self.process).await
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Waits for the end of a process.
pub(super) async fn end_of(process: &mut Child) -> ExitStatus {
    let patience = Patience::new("the end of a process");
    loop {
        match process.try_wait().unwrap() {
            Some(status) => return status,
            None => patience.pause().await,
        }
    }
}
