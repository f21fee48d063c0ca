//! `flowsigma cluster`.
//!
//! Owns: its subcommands, and the next steps that they print. Must not know: the content of a cluster's files
//! (`files`), or which names are valid (`names`).

mod files;
mod names;

use crate::cluster::files::Folder;
use crate::cluster::names::{ClientName, Host};
use crate::failure::Failure;
use anyhow::Context;
use clap::{Args, Subcommand};
use flowsigma_node::Authority;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The arguments of `flowsigma cluster`.
#[derive(Args)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create an authority, certificates and configuration files for a new cluster
    #[command(after_help = "Examples:\n  \
        flowsigma cluster init cluster --host localhost\n  \
        flowsigma cluster init cluster --scheduler-host s.example --executor-host a.example \
        --executor-host b.example,10.0.0.7 --client alice\n\
        It prints the next steps. docs/cluster.md explains them.")]
    Init(InitArgs),
    /// Issue a certificate for one more executor, signed by the authority that init created
    #[command(after_help = "Example: flowsigma cluster add-executor cluster c.example")]
    AddExecutor {
        /// The folder that init created, with ca.pem and ca.key
        dir: PathBuf,
        /// The name or address by which others reach the executor; further ones after commas
        host: Host,
    },
    /// Issue a certificate for one more client, signed by the authority that init created
    #[command(after_help = "Example: flowsigma cluster add-client cluster bob")]
    AddClient {
        /// The folder that init created, with ca.pem and ca.key
        dir: PathBuf,
        /// The client's name, which [access.NAME] in the scheduler's flowsigma.toml refers to
        name: ClientName,
    },
}

/// The processes of a new cluster.
#[derive(Args)]
struct InitArgs {
    /// A new or an empty folder
    dir: PathBuf,
    /// The machine of the scheduler and of one executor: the name or address by which others reach it;
    /// further ones after commas
    #[arg(long, conflicts_with_all = ["scheduler_host", "executor_host"], required_unless_present = "scheduler_host")]
    host: Option<Host>,
    /// The scheduler's machine, in the form of --host
    #[arg(long, value_name = "HOST", requires = "executor_host")]
    scheduler_host: Option<Host>,
    /// An executor's machine, in the form of --host; repeat it for each executor
    #[arg(long, value_name = "HOST", requires = "scheduler_host")]
    executor_host: Vec<Host>,
    /// The name of the first client
    #[arg(long, value_name = "NAME", default_value = "client")]
    client: ClientName,
}

pub(crate) fn cluster(args: ClusterArgs) -> Result<(), Failure> {
    match args.command {
        Command::Init(args) => init(args),
        Command::AddExecutor { dir, host } => add_executor(&dir, &host),
        Command::AddClient { dir, name } => add_client(&dir, &name),
    }
}

fn init(args: InitArgs) -> Result<(), Failure> {
    let InitArgs { dir, host, scheduler_host, executor_host, client } = args;
    let (scheduler, executors) = match (host, scheduler_host) {
        (Some(host), _) => (host.clone(), vec![host]),
        (None, Some(scheduler)) => (scheduler, executor_host),
        (None, None) => return Err(anyhow::anyhow!("--host or --scheduler-host is missing").into()),
    };
    let mut known = BTreeSet::new();
    if let Some(twice) = executors.iter().find(|host| !known.insert(host.name().to_owned())) {
        return Err(anyhow::anyhow!("--executor-host {twice} is given twice").into());
    }
    files::refuse_used(&dir)?;
    let authority = Authority::new(&format!("flowsigma cluster of {}", scheduler.name()))?;
    let mut new = files::authority(&authority);
    new.extend(files::scheduler(&authority, &scheduler, &client)?);
    for host in &executors {
        new.extend(files::executor(&authority, host)?);
    }
    new.extend(files::client(&authority, &client)?);
    files::write(&dir, &new).map_err(Failure::running)?;
    say(&next_of_init(&dir, &scheduler, &executors, &client))
}

fn add_executor(dir: &Path, host: &Host) -> Result<(), Failure> {
    let folder = Folder::Executor(host.name().to_owned());
    let new = files::executor(&authority_of(dir, &folder)?, host)?;
    files::write(dir, &new).map_err(Failure::running)?;
    let (shown, next) = (quoted(&dir.join(folder.path())), start_executor(dir, host, &scheduler_of(dir)));
    say(&format!(
        "{shown} holds a certificate, its key and a flowsigma.toml.\n\n\
         1. Write the servers to read into {} ([connections.NAME]).\n\n\
         2. Start the executor {host}:\n{next}",
        quoted(&dir.join(folder.path()).join("flowsigma.toml"))
    ))
}

fn add_client(dir: &Path, name: &ClientName) -> Result<(), Failure> {
    let folder = Folder::Client(name.to_string());
    let new = files::client(&authority_of(dir, &folder)?, name)?;
    files::write(dir, &new).map_err(Failure::running)?;
    say(&format!(
        "{} holds a certificate, its key and a flowsigma.toml.\n\n\
         1. Add to the scheduler's flowsigma.toml what {name} may read, and start the scheduler again:\n{}\n\
         2. Write the servers to read into {} ([connections.NAME]).\n\n\
         3. Send that folder to {name} over a channel that nobody else can read, and submit a job:\n{}",
        quoted(&dir.join(folder.path())),
        indented(&files::grants(name)),
        quoted(&dir.join(folder.path()).join("flowsigma.toml")),
        submit(dir, name, &scheduler_of(dir)),
    ))
}

fn say(text: &str) -> Result<(), Failure> {
    std::io::stdout().write_all(text.as_bytes()).map_err(Failure::running)
}

/// Reads the authority in `dir`. It is an error if `folder` exists already.
fn authority_of(dir: &Path, folder: &Folder) -> anyhow::Result<Authority> {
    let read = |name: &str| {
        let path = dir.join(name);
        std::fs::read_to_string(&path).with_context(|| {
            format!(
                "cannot read {}: give the folder that flowsigma cluster init created, with its ca.key",
                path.display()
            )
        })
    };
    let authority = Authority::read(&read("ca.pem")?, &read("ca.key")?);
    let authority = authority.with_context(|| {
        format!("ca.pem and ca.key in {} are not an authority and its key", dir.display())
    })?;
    let path = dir.join(folder.path());
    anyhow::ensure!(
        path.symlink_metadata().is_err(),
        "{} exists: delete it to issue its certificate again",
        path.display()
    );
    Ok(authority)
}

/// Returns the scheduler's host from its certificate, or a placeholder if its folder was moved away.
fn scheduler_of(dir: &Path) -> Host {
    files::scheduler_host(dir).unwrap_or_else(|| Host::unknown("SCHEDULER_HOST"))
}

fn next_of_init(dir: &Path, scheduler: &Host, executors: &[Host], client: &ClientName) -> String {
    let shown = |folder: &Folder| quoted(&dir.join(folder.path()).join("flowsigma.toml"));
    let mut text = format!(
        "{} holds an authority, and for each process a folder with its certificate, its key and its flowsigma.toml.\n\
         Anyone who has ca.key can issue certificates of this cluster: keep it off the cluster's machines.\n\n\
         1. Write what \"{client}\" may read into {} ([access.{client}]),\n   \
         and the servers to read into the file of each executor and client ([connections.NAME]):\n",
        quoted(dir),
        shown(&Folder::Scheduler),
    );
    for host in executors {
        line(&mut text, &format!("     {}", shown(&Folder::Executor(host.name().to_owned()))));
    }
    line(&mut text, &format!("     {}\n", shown(&Folder::Client(client.to_string()))));
    line(&mut text, "2. Start the scheduler:");
    text.push_str(&start_scheduler(dir, scheduler));
    for (place, host) in executors.iter().enumerate() {
        line(&mut text, &format!("\n{}. Start the executor {host}:", place + 3));
        text.push_str(&start_executor(dir, host, scheduler));
    }
    line(&mut text, &format!("\n{}. Submit a first job:", executors.len() + 3));
    text.push_str(&submit(dir, client, scheduler));
    line(&mut text, "\nMore executors and clients:");
    line(&mut text, &format!("     flowsigma cluster add-executor {} HOST", quoted(dir)));
    line(&mut text, &format!("     flowsigma cluster add-client {} NAME", quoted(dir)));
    text
}

fn start_scheduler(dir: &Path, host: &Host) -> String {
    let command = |config: &str| {
        format!(
            "     flowsigma-scheduler --config {config}/flowsigma.toml{} --external-host {}\n",
            bind_host(host),
            host.name()
        )
    };
    on_its_machine(dir, host, &Folder::Scheduler, "scheduler", command)
}

fn start_executor(dir: &Path, host: &Host, scheduler: &Host) -> String {
    let command = |config: &str| {
        format!(
            "     flowsigma-executor --config {config}/flowsigma.toml{} --external-host {} --scheduler-host {}\n",
            bind_host(host),
            host.name(),
            scheduler.name()
        )
    };
    on_its_machine(dir, host, &Folder::Executor(host.name().to_owned()), "executor", command)
}

/// Returns a command line with the folder of its configuration. On another machine it begins with the copy of that
/// folder.
fn on_its_machine(
    dir: &Path,
    host: &Host,
    folder: &Folder,
    copied_to: &str,
    command: impl Fn(&str) -> String,
) -> String {
    let here = quoted(&dir.join(folder.path()));
    if host.is_this_machine() {
        return command(&here);
    }
    let there = format!("{}:{copied_to}", host.name());
    format!("     scp -rp {here} {there}\n     and on {}\n{}", host.name(), command(copied_to))
}

fn submit(dir: &Path, client: &ClientName, scheduler: &Host) -> String {
    format!(
        "     flowsigma sql --config {}/flowsigma.toml --scheduler https://{}:50050 -c 'SELECT 1'\n",
        quoted(&dir.join(Folder::Client(client.to_string()).path())),
        scheduler.name()
    )
}

/// Returns `--bind-host` for a host of its own. Without that option a process listens on loopback.
fn bind_host(host: &Host) -> &'static str {
    if host.is_this_machine() { "" } else { " --bind-host 0.0.0.0" }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes every line");
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("     {line}\n")).collect()
}

/// Quotes a path for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    match text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@:,".contains(c)) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_the_folder_where_it_will_be() {
        let dir = Path::new("my cluster");
        let (here, there): (Host, Host) = ("localhost".parse().unwrap(), "a.example".parse().unwrap());
        assert_eq!(
            start_scheduler(dir, &here),
            "     flowsigma-scheduler --config 'my cluster/scheduler'/flowsigma.toml --external-host localhost\n"
        );
        assert_eq!(
            start_executor(Path::new("c"), &there, &here),
            "     scp -rp c/executors/a.example a.example:executor\n     and on a.example\n     \
             flowsigma-executor --config executor/flowsigma.toml --bind-host 0.0.0.0 --external-host a.example \
             --scheduler-host localhost\n"
        );
        let submit = submit(Path::new("c"), &"alice".parse().unwrap(), &there);
        assert!(
            submit.contains("c/clients/alice/flowsigma.toml") && submit.contains("https://a.example:50050")
        );
    }
}
