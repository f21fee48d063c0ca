//! `flowsigma sql`.
//!
//! Owns: running statements in turn. Must not know: what they are about.

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::{Format, RowPrinter};
use crate::prompt;
use crate::run::Runner;
use crate::source::URL_CONNECTION;
use anyhow::Context;
use clap::Args;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParser, Statement};
use elastic_client::{ConnectionConfig, ConnectionRegistry};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// What is run, and where.
#[derive(Args)]
pub(crate) struct SqlArgs {
    /// Statements, with semicolons between
    #[arg(short = 'c', long, value_name = "SQL", conflicts_with = "file")]
    command: Option<String>,
    /// File with statements; - is stdin
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A server without credentials, as the connection "url"; for the embedded cluster only
    #[arg(long, conflicts_with = "scheduler")]
    url: Option<String>,
    /// Scheduler to submit to, such as http://scheduler.example:50050 [default: a cluster inside
    /// this process]
    #[arg(long, value_name = "URL")]
    scheduler: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(crate) async fn sql(
    args: SqlArgs,
    registry: Arc<ConnectionRegistry>,
    interrupt: Interrupt,
) -> Result<(), Failure> {
    if let Some(url) = &args.url {
        registry.insert(URL_CONNECTION, &ConnectionConfig::from_url(url)?)?;
    }
    let text = match (args.command, args.file) {
        (Some(text), _) => Some(text),
        (None, Some(file)) if file.as_os_str() == "-" => Some(std::io::read_to_string(std::io::stdin())?),
        (None, Some(file)) => {
            Some(std::fs::read_to_string(&file).with_context(|| format!("--file {}", file.display()))?)
        }
        (None, None) => None,
    };
    // All of it is parsed before any of it is run.
    let statements = text.map(|text| parse(&text)).transpose()?;
    let runner = Runner::start(registry, args.scheduler.as_deref(), interrupt).await?;
    match statements {
        Some(statements) => {
            for statement in statements {
                run(&runner, statement, args.format).await?;
            }
            Ok(())
        }
        None => prompt::serve(&runner, args.format).await,
    }
}

pub(crate) fn parse(text: &str) -> Result<VecDeque<Statement>, DataFusionError> {
    DFParser::parse_sql(text)
}

/// Runs one statement and prints its rows, if it is one that has any.
pub(crate) async fn run(runner: &Runner, statement: Statement, format: Format) -> Result<(), Failure> {
    let plan = runner.cluster().context().state().statement_to_plan(statement).await?;
    let schema: SchemaRef = Arc::clone(plan.schema().inner());
    if schema.fields().is_empty() {
        runner.run(plan, &mut |_| Ok(())).await?;
        return Ok(());
    }
    let mut printer = None;
    runner
        .run(plan, &mut |batch| printer.get_or_insert_with(|| RowPrinter::new(format)).print(batch))
        .await?;
    // An answer without a row still has its header.
    let mut printer = printer.unwrap_or_else(|| RowPrinter::new(format));
    printer.print(RecordBatch::new_empty(schema)).map_err(Failure::running)?;
    printer.finish().map_err(Failure::running)
}
