//! `flowsigma job`: detections over one window of time after another.
//!
//! Owns: the commands, and their output. Must not know: how a window is counted (`engine`), or what makes a run idempotent
//! (crate `flowsigma-jobs`).

mod engine;
mod new;
mod output;
mod serve;
mod setup;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::{Format, print};
use clap::{Args, Subcommand, ValueEnum};
use elastic_client::ConnectionRegistry;
use flowsigma_jobs::{
    Advance, BackfillRedo, Control, JobFile, Recounts, Run, json_schema, plan_backfill, states,
};
use flowsigma_node::Config;
use jiff::Timestamp;
pub(crate) use output::print_states;
use output::{RunPrinter, Summary};
use setup::Setup;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

/// The arguments of `flowsigma job`.
#[derive(Args)]
pub(crate) struct JobArgs {
    #[command(subcommand)]
    command: Command,
}

impl JobArgs {
    /// Returns whether the command runs until it is stopped.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self.command, Command::Serve(_))
    }
}

#[derive(Subcommand)]
enum Command {
    /// Write a job file with comments, from flags; on a terminal, ask for what is missing
    #[command(after_help = "Examples:\n  \
        flowsigma job new\n  \
        flowsigma job new hourly-flows.toml --connection prod --index 'flows-*' --every 1h \\\n    \
        --store file:///var/lib/flowsigma/hourly-flows --sink index=alerts/flow-alerts")]
    New(Box<new::NewArgs>),
    /// Explain a job file, or say what is wrong with it
    #[command(after_help = "Example: flowsigma job check hourly-flows.toml")]
    Check {
        /// The job file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the JSON Schema of job files
    Schema,
    /// Run what is due: windows without a result in order, windows with late documents, findings owed to sinks
    #[command(after_help = "Examples:\n  \
        flowsigma job run hourly-flows.toml\n  \
        flowsigma job run hourly-flows.toml --window 2026-01-01T00:00:00Z --format json")]
    Run(RunArgs),
    /// Run all jobs of a folder as they become due, with probes and metrics
    #[command(after_help = "Example: flowsigma job serve /etc/flowsigma/jobs --listen 127.0.0.1:9464")]
    Serve(serve::ServeArgs),
    /// List windows with their states: done, missing, failed, late, owed
    #[command(after_help = "Example: flowsigma job windows hourly-flows.toml --since 2026-01-01T00:00:00Z")]
    Windows(WindowsArgs),
    /// Run the windows of a time range, several at the same time
    #[command(after_help = "Example: flowsigma job backfill hourly-flows.toml --from 2026-01-01T00:00:00Z \
                            --to 2026-01-08T00:00:00Z --dry-run")]
    Backfill(BackfillArgs),
}

#[derive(Args)]
struct Shared {
    /// The job file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Scheduler to submit to, such as http://scheduler.example:50050 [default: a cluster inside
    /// this process]
    #[arg(long, value_name = "URL")]
    scheduler: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// End with exit code 10 if an address stands out
    #[arg(long)]
    fail_on_findings: bool,
    #[command(flatten)]
    due: DueArgs,
}

#[derive(Args)]
struct DueArgs {
    /// Run what is due at this time, as an orchestrator's logical time or for a rehearsal on past flows
    /// [default: the time of the system]
    #[arg(long, value_name = "TIME")]
    now: Option<Timestamp>,
}

impl DueArgs {
    fn now(&self) -> Timestamp {
        self.now.unwrap_or_else(Timestamp::now)
    }
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    shared: Shared,
    /// Run only the window that starts at this time
    #[arg(long, value_name = "TIME")]
    window: Option<Timestamp>,
}

#[derive(Args)]
struct WindowsArgs {
    /// The job file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The first start of a window [default: the first window that was run]
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// The first start of a window that is not listed [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    #[command(flatten)]
    due: DueArgs,
}

#[derive(Args)]
struct BackfillArgs {
    #[command(flatten)]
    shared: Shared,
    /// The first start of a window
    #[arg(long, value_name = "TIME")]
    from: Timestamp,
    /// The first start of a window that is not run
    #[arg(long, value_name = "TIME")]
    to: Timestamp,
    /// Print the windows, and run none
    #[arg(long)]
    dry_run: bool,
    /// Windows with a result that are run again
    #[arg(long, value_enum, default_value = "none")]
    redo: RedoArg,
    /// Windows that are run at the same time
    #[arg(long, value_name = "N", default_value = "2")]
    concurrency: NonZeroUsize,
}

/// Which windows are run although they have a result.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RedoArg {
    /// None: only windows without a result are run
    None,
    /// Those whose last run failed
    Failed,
    /// Those with late documents
    Late,
    /// All
    All,
}

impl From<RedoArg> for BackfillRedo {
    fn from(redo: RedoArg) -> Self {
        match redo {
            RedoArg::None => Self::None,
            RedoArg::Failed => Self::Failed,
            RedoArg::Late => Self::Late,
            RedoArg::All => Self::All,
        }
    }
}

/// Runs a command of `flowsigma job`.
pub(crate) async fn job(
    args: JobArgs,
    config: &Config,
    registry: Arc<ConnectionRegistry>,
    interrupt: Interrupt,
) -> Result<(), Failure> {
    match args.command {
        Command::New(args) => new::new(*args, &registry).await,
        Command::Check { file } => {
            let file = JobFile::read(file)?;
            Ok(print(&format!("{}\n", file.explain(Timestamp::now()).trim_end()))?)
        }
        Command::Schema => Ok(print(&format!("{}\n", serde_json::to_string_pretty(&json_schema())?))?),
        Command::Run(args) => run(args, config, registry, interrupt).await,
        Command::Serve(args) => serve::serve(args, config, registry, interrupt).await,
        Command::Windows(args) => windows(args).await,
        Command::Backfill(args) => backfill(args, config, registry, interrupt).await,
    }
}

async fn run(
    args: RunArgs,
    config: &Config,
    registry: Arc<ConnectionRegistry>,
    interrupt: Interrupt,
) -> Result<(), Failure> {
    let RunArgs { shared, window } = args;
    let file = JobFile::read(&shared.file)?;
    let calendar = file.calendar()?;
    let window = window.map(|start| calendar.window_at(start)).transpose()?;
    let scheduler = shared.scheduler.as_deref();
    let setup = Setup::start(file, config, registry, scheduler, shared.due.now, interrupt).await?;
    let printer = RunPrinter::new(shared.format);
    let result = match window {
        Some(window) => match setup.runner().run_single(window).await {
            Ok(run) => {
                printer.push(&run);
                printer.finish().map(|summary| summary.with_run(run))
            }
            Err(error) => Err(Failure::running(error)),
        },
        None => {
            let progress = |_: &Advance, run: Option<&Run>| push_counted(&printer, run);
            let control = Control { recounts: Recounts::EachTime, stop: setup.stop(), progress: &progress };
            let advance = setup.runner().advance(&calendar, control).await;
            finish(printer, advance)
        }
    };
    setup.end(result, shared.fail_on_findings).await
}

/// Prints a window that was counted: what sinks were owed of an earlier run was printed by that run.
fn push_counted(printer: &RunPrinter, run: Option<&Run>) {
    if let Some(run) = run.filter(|run| run.counted) {
        printer.push(run);
    }
}

fn finish(printer: RunPrinter, advance: flowsigma_jobs::Result<Advance>) -> Result<Summary, Failure> {
    let advance = advance.map_err(Failure::running)?;
    printer.finish().map(|summary| summary.with_advance(advance))
}

async fn windows(args: WindowsArgs) -> Result<(), Failure> {
    let file = JobFile::read(&args.file)?;
    let calendar = file.calendar()?;
    let store = setup::open_store(&file.job)?;
    let now = args.due.now();
    let until = args.until.unwrap_or(now);
    let known = store.windows(&file.job.name).await?;
    let first = known.first().or(calendar.first().as_ref()).map(|window| window.start);
    let Some(since) = args.since.or(first) else {
        return print_states(&[], args.format);
    };
    let listed = calendar.windows(since, until).filter(|window| calendar.due(*window, now));
    let states = states(&store, &file.job.name, listed).await.map_err(Failure::running)?;
    print_states(&states, args.format)
}

async fn backfill(
    args: BackfillArgs,
    config: &Config,
    registry: Arc<ConnectionRegistry>,
    interrupt: Interrupt,
) -> Result<(), Failure> {
    let BackfillArgs { shared, from, to, dry_run, redo, concurrency } = args;
    if from >= to {
        return Err(
            anyhow::anyhow!("the time range is empty: --from, {from}, is not before --to, {to}").into()
        );
    }
    let file = JobFile::read(&shared.file)?;
    let calendar = file.calendar()?;
    let now = shared.due.now();
    let windows = calendar.windows(from, to).filter(|window| calendar.due(*window, now));
    if dry_run {
        let store = setup::open_store(&file.job)?;
        let planned = plan_backfill(&store, &file.job.name, windows, redo.into()).await?;
        let states = states(&store, &file.job.name, planned).await?;
        return print_states(&states, shared.format);
    }
    let windows: Vec<_> = windows.collect();
    let scheduler = shared.scheduler.as_deref();
    let setup = Setup::start(file, config, registry, scheduler, shared.due.now, interrupt).await?;
    let printer = RunPrinter::new(shared.format);
    let progress = |_: &Advance, run: Option<&Run>| push_counted(&printer, run);
    let control = Control { recounts: Recounts::EachTime, stop: setup.stop(), progress: &progress };
    let advance = setup.runner().backfill(windows.into_iter(), redo.into(), concurrency, control).await;
    let result = finish(printer, advance);
    setup.end(result, shared.fail_on_findings).await
}
