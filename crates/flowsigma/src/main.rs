//! The command line.
//!
//! Owns: commands, logs and exit codes. Must not know: how a command does its work.
//!
//! Data goes to stdout, everything else to stderr. `EXIT_CODES` lists the exit codes.

mod cluster;
mod counts;
mod detect;
mod failure;
mod insert;
mod interrupt;
mod job;
mod kept;
mod output;
mod pairs;
mod progress;
mod prompt;
mod report;
mod run;
mod scope;
mod source;
mod sql;
mod statement;
mod store;
mod time;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use ballista_elasticsearch::{delete_embedded_files, delete_staged_files};
use clap::{Parser, Subcommand};
use flowsigma_node::{Config, NodeArgs, NodeLogs, node_runtime};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Logs retries and switched-off checks. A failure is in the error that ends the command.
const DEFAULT_LOGS: &str =
    "elastic_client=warn,datafusion_elasticsearch=warn,ballista_elasticsearch=warn,flowsigma=warn";

/// A service also logs what it does, for those who look later.
const SERVICE_LOGS: &str = "elastic_client=warn,datafusion_elasticsearch=warn,ballista_elasticsearch=warn,\
                            flowsigma=info";

/// The time for closing search contexts after Ctrl-C: a server may hang, and a user waits.
const AFTER_INTERRUPT: Duration = Duration::from_millis(700);

const EXIT_CODES: &str = "Exit codes: 0 success, 1 failed while running, 2 nothing was run (wrong input, or a \
                          required server does not respond), 3 another run holds the lease of the job, 4 done, but a \
                          sink does not have all findings, 10 findings (with --fail-on-findings), 130 interrupted, \
                          141 stdout was closed.";

/// Finds the addresses whose outgoing or incoming flow counts stand out.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Args {
    #[command(flatten)]
    node: NodeArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find the addresses that stand out
    #[command(after_help = "Examples:\n  \
        flowsigma detect --url http://127.0.0.1:9200 --index flows --since 1h\n  \
        flowsigma detect --connection prod --index 'flows-*' --sample 0.01 --format json\n  \
        flowsigma detect --file flows.parquet --filter \"src_addr_space = 'private'\"")]
    Detect(Box<detect::DetectArgs>),
    /// Show the plan of detect: the SQL, the slices, the queries sent and the physical plan
    #[command(after_help = "Example: flowsigma plan --url http://127.0.0.1:9200 --index flows\n\
        The output is a script: flowsigma plan --connection prod … | flowsigma sql")]
    Plan(Box<detect::DetectArgs>),
    /// Run SQL over indices and files; without -c and -f, open a prompt
    #[command(after_help = "Example: flowsigma sql -c \"CREATE EXTERNAL TABLE f STORED AS ELASTICSEARCH \
                            LOCATION 'elasticsearch://prod/flows'; SELECT count(*) FROM f\"")]
    Sql(sql::SqlArgs),
    /// Run detections over one window of time after another
    Job(Box<job::JobArgs>),
    /// List, show and delete what a store of counts holds
    Store(store::StoreArgs),
    /// Create the certificates and configuration files of a cluster
    Cluster(cluster::ClusterArgs),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let default_logs = match &args.command {
        Command::Job(job) if job.is_service() => SERVICE_LOGS,
        _ => DEFAULT_LOGS,
    };
    let logs = args.node.write_logs(default_logs, &NodeLogs::default());
    let result = logs.and_then(|()| node_runtime()).map_err(Failure::from).and_then(|runtime| {
        let result = runtime
            .block_on(async { tokio::spawn(run(args)).await.unwrap_or_else(|e| Err(Failure::running(e))) });
        // The embedded cluster has tasks that never end, so that an orderly shutdown would wait without end.
        runtime.shutdown_background();
        delete_embedded_files();
        delete_staged_files();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell();
            failure.exit_code()
        }
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    let interrupt = Interrupt::listen();
    let config = match &args.command {
        // It creates configurations and reads none.
        Command::Cluster(_) => Config::default(),
        _ => args.node.load_config()?,
    };
    let registry = Arc::new(config.registry());
    let done = match args.command {
        Command::Detect(args) => detect::detect(*args, &config, Arc::clone(&registry), interrupt).await,
        Command::Plan(args) => detect::plan(*args, &config, Arc::clone(&registry), interrupt).await,
        Command::Sql(args) => sql::sql(args, &config, Arc::clone(&registry), interrupt).await,
        Command::Job(args) => job::job(*args, &config, Arc::clone(&registry), interrupt).await,
        Command::Store(args) => store::store(args).await,
        Command::Cluster(args) => cluster::cluster(args),
    };
    // However the command ended, this frees the search contexts that servers still hold for this process.
    match &done {
        Err(Failure::Interrupted { cleaned_up: false }) => registry.close_within(AFTER_INTERRUPT).await,
        Ok(()) | Err(_) => registry.close().await,
    }
    done
}
