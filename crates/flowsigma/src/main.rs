//! The command line.
//!
//! Owns: arguments, output and exit codes. Data goes to stdout, all else to stderr. Exit codes:
//! 0 done, 2 not done.

mod detect;
mod sql;

use anyhow::anyhow;
use clap::{Parser, Subcommand};
use elastic_client::{Config, ConnectionRegistry};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

/// Finds the addresses whose outgoing or incoming flow counts stand out.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// File with this node's connections [default: $FLOWSIGMA_CONFIG, ./flowsigma.toml, then the
    /// user's configuration folder]
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find the addresses that stand out
    #[command(after_help = "Example: flowsigma detect --url http://127.0.0.1:9200 --index flows --since 1h")]
    Detect(Box<detect::DetectArgs>),
    /// Run SQL over indices
    #[command(after_help = "Example: flowsigma sql -c \"CREATE EXTERNAL TABLE f STORED AS ELASTICSEARCH \
                            LOCATION 'elasticsearch://prod/flows'; SELECT count(*) FROM f\"")]
    Sql(sql::SqlArgs),
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).with_env_filter(filter).init();
    // Plans are deep recursions, debug builds of them more so.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(32 << 20).build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async { tokio::spawn(run(args)).await.map_err(anyhow::Error::from)? })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {}", causes(&e));
            ExitCode::from(2)
        }
    }
}

/// An error with its causes on one line, each said once: wrappers repeat what they wrap.
fn causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

async fn run(args: Args) -> anyhow::Result<()> {
    let loaded = Config::load(args.config.as_deref())?;
    let registry = Arc::new(ConnectionRegistry::new(loaded.config));
    let command = async {
        match args.command {
            Command::Detect(args) => detect::run(*args, Arc::clone(&registry)).await,
            Command::Sql(args) => sql::run(args, Arc::clone(&registry)).await,
        }
    };
    let done = tokio::select! {
        done = command => done,
        signal = interrupted() => Err(signal.map_or_else(Into::into, |()| anyhow!("interrupted"))),
    };
    // In every case: what the servers hold open for this process is freed. A second interrupt does
    // not wait for it.
    tokio::select! {
        () = registry.close() => done,
        _ = interrupted() => Err(anyhow!("interrupted twice; the servers drop the snapshot after keep_alive")),
    }
}

async fn interrupted() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        signal = tokio::signal::ctrl_c() => signal,
        _ = terminate.recv() => Ok(()),
    }
}
