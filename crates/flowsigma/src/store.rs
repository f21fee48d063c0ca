//! `flowsigma store`: what a store of counts holds.
//!
//! Owns: listing, showing and dropping windows. Must not know: how they were counted.

use crate::failure::Failure;
use crate::job::print_states;
use crate::kept;
use crate::output::{Format, RowPrinter, print};
use crate::pairs::read_pairs;
use crate::source::name_and_value;
use anyhow::Context;
use clap::{Args, Subcommand};
use flowsigma_jobs::{Store, WindowTimes, states};
use jiff::Timestamp;

/// The arguments of `flowsigma store`.
#[derive(Args)]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Place {
    /// The store: file:///path, s3://bucket/path, gs://bucket/path or az://container/path
    #[arg(value_name = "URL")]
    url: String,
    /// An option of the object store, such as region=eu-central-1; repeatable. Credentials come from
    /// the environment
    #[arg(long = "store-option", value_name = "NAME=VALUE", value_parser = name_and_value)]
    options: Vec<(String, String)>,
    /// The job [default: the only one]
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// List the windows of a job, or the jobs if there are several
    #[command(after_help = "Example: flowsigma store list file:///var/lib/flowsigma/hourly-flows")]
    List {
        #[command(flatten)]
        place: Place,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Print the record of a window as JSON: documents, findings, and the object of detect; or its pairs
    #[command(after_help = "Example: flowsigma store show file:///var/lib/flowsigma/hourly-flows \
                            --window 2026-01-01T00:00:00Z")]
    Show {
        #[command(flatten)]
        place: Place,
        /// The start of the window
        #[arg(long, value_name = "TIME")]
        window: Timestamp,
        /// The revision [default: the newest]
        #[arg(long, value_name = "N")]
        revision: Option<u32>,
        /// Print the pairs of source and destination instead, which --pairs or the key pairs has kept
        #[arg(long)]
        pairs: bool,
        /// Output format of the pairs [default: table]
        #[arg(long, value_enum, requires = "pairs")]
        format: Option<Format>,
    },
    /// Delete a window with all its revisions
    #[command(after_help = "Example: flowsigma store drop file:///var/lib/flowsigma/hourly-flows \
                            --window 2026-01-01T00:00:00Z")]
    Drop {
        #[command(flatten)]
        place: Place,
        /// The start of the window
        #[arg(long, value_name = "TIME")]
        window: Timestamp,
    },
}

/// Runs a command of `flowsigma store`.
pub(crate) async fn store(args: StoreArgs) -> Result<(), Failure> {
    match args.command {
        Command::List { place, format } => {
            let store = kept::open(&place.url, &place.options)?;
            let mut all = Vec::new();
            let jobs = match place.job {
                Some(job) => vec![job],
                None => store.jobs().await?,
            };
            for job in jobs {
                let windows = store.windows(&job).await?;
                all.push((job.clone(), states(&store, &job, windows).await?));
            }
            if all.len() > 1 && !matches!(format, Format::Json) {
                let lines = all.iter().map(|(job, states)| format!("{job}: {} windows\n", states.len()));
                return Ok(print(&lines.collect::<String>())?);
            }
            let states: Vec<_> = all.into_iter().flat_map(|(_, states)| states).collect();
            print_states(&states, format)
        }
        Command::Show { place, window, revision, pairs, format } => {
            let (store, job, window) = find(place, window).await?;
            let manifest = match revision {
                Some(revision) => store.manifest(&job, window, revision).await?,
                None => store.newest(&job, window).await?,
            };
            let manifest = manifest.with_context(|| {
                format!(
                    "store {}: job \"{job}\" has no such revision of the window from {}",
                    store.url(),
                    window.start
                )
            })?;
            if pairs && !manifest.pairs {
                // Only a run that was killed can have left some.
                return Err(anyhow::anyhow!(
                    "store {}: revision {} of the window from {} has no pairs: keep them by --pairs, or by pairs = true \
                     in [store] of a job",
                    store.url(),
                    manifest.revision,
                    window.start
                )
                .into());
            }
            if pairs {
                let file = store.read_pairs(&job, window, manifest.revision).await?;
                return print_pairs(file, format.unwrap_or(Format::Table)).map_err(Failure::running);
            }
            Ok(print(&format!("{}\n", serde_json::to_string(&manifest)?))?)
        }
        Command::Drop { place, window } => {
            let (store, job, window) = find(place, window).await?;
            store.drop_window(&job, window).await.map_err(Failure::running)?;
            eprintln!("the window {} to {} of job \"{job}\" is deleted", window.start, window.end);
            Ok(())
        }
    }
}

fn print_pairs(file: bytes::Bytes, format: Format) -> anyhow::Result<()> {
    let mut printer = RowPrinter::new(format);
    for batch in read_pairs(file)? {
        printer.print(batch?)?;
    }
    printer.finish()
}

async fn find(place: Place, start: Timestamp) -> anyhow::Result<(Store, String, WindowTimes)> {
    let store = kept::open(&place.url, &place.options)?;
    let job = match place.job {
        Some(job) => job,
        None => kept::only_job(&store).await?,
    };
    let windows = store.windows(&job).await?;
    let window = windows.into_iter().find(|window| window.start == start).with_context(|| {
        format!("store {}: job \"{job}\" has no window that starts at {start}", store.url())
    })?;
    Ok((store, job, window))
}
