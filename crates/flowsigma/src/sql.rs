//! `flowsigma sql`.
//!
//! Owns: running statements in turn. Must not know: what they are about.

use crate::Format;
use ballista_elasticsearch::{embedded_context, remote_context};
use clap::Args;
use datafusion::arrow::json::ArrayWriter;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::sql::parser::DFParser;
use datafusion_elasticsearch::open_snapshots;
use elastic_client::ConnectionRegistry;
use std::path::PathBuf;
use std::sync::Arc;

/// What is run, and where.
#[derive(Args)]
pub(crate) struct SqlArgs {
    /// Statements, with semicolons between
    #[arg(short = 'c', long, value_name = "SQL", required_unless_present = "file", conflicts_with = "file")]
    command: Option<String>,
    /// File with statements
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Scheduler to submit to [default: a cluster inside this process]
    #[arg(long, value_name = "URL")]
    scheduler: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(crate) async fn run(args: SqlArgs, registry: Arc<ConnectionRegistry>) -> anyhow::Result<()> {
    let text = match (args.command, args.file) {
        (Some(text), _) => text,
        (None, Some(file)) => std::fs::read_to_string(file)?,
        (None, None) => String::new(),
    };
    let statements = DFParser::parse_sql(&text)?;
    let ctx = match &args.scheduler {
        Some(url) => remote_context(registry, url).await?,
        None => embedded_context(registry).await?,
    };
    for statement in statements {
        let plan = ctx.state().statement_to_plan(statement).await?;
        let (plan, open) = open_snapshots(plan).await?;
        let answer = async { ctx.execute_logical_plan(plan).await?.collect().await }.await;
        // Closed in every case, but the query's own error goes before that of closing.
        let closed = open.close().await;
        let batches = answer?;
        closed?;
        if batches.iter().all(|b| b.num_columns() == 0) {
            continue;
        }
        match args.format {
            Format::Table => println!("{}", pretty_format_batches(&batches)?),
            Format::Json => {
                let mut writer = ArrayWriter::new(Vec::new());
                writer.write_batches(&batches.iter().collect::<Vec<_>>())?;
                writer.finish()?;
                println!("{}", String::from_utf8(writer.into_inner())?);
            }
        }
    }
    Ok(())
}
