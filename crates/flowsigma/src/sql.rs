//! `flowsigma sql`.
//!
//! Owns: reading statements and running them in turn. Must not know: what a statement means.

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Format;
use crate::prompt;
use crate::run::Runner;
use crate::source::{URL_CONNECTION, connection_of_url};
use crate::statement::{Ran, parse, run};
use anyhow::Context;
use clap::Args;
use elastic_client::ConnectionRegistry;
use flowsigma_node::Config;
use std::collections::VecDeque;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The arguments of `flowsigma sql`.
#[derive(Args)]
pub(crate) struct SqlArgs {
    /// Statements, separated by semicolons
    #[arg(short = 'c', long, value_name = "SQL")]
    command: Option<String>,
    /// File with statements, run before those of --command; - is stdin, the default if neither
    /// option is given and stdin is no terminal
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A server without credentials, as the connection "url"; for the embedded cluster only
    #[arg(long, conflicts_with = "scheduler")]
    url: Option<String>,
    /// Scheduler to submit to, such as http://scheduler.example:50050 [default: a cluster inside
    /// this process]
    #[arg(long, value_name = "URL")]
    scheduler: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(crate) async fn sql(
    args: SqlArgs,
    config: &Config,
    registry: Arc<ConnectionRegistry>,
    interrupt: Interrupt,
) -> Result<(), Failure> {
    if let Some(url) = &args.url {
        registry.insert(URL_CONNECTION, &connection_of_url(url)?)?;
    }
    // All statements are parsed before the first one runs.
    let mut statements = VecDeque::new();
    let ask = args.file.is_none() && args.command.is_none() && std::io::stdin().is_terminal();
    let stdin = || Path::new("-").to_owned();
    let file = args.file.or_else(|| (!ask && args.command.is_none()).then(stdin));
    if let Some(file) = &file {
        let text = if file.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin())
        } else {
            std::fs::read_to_string(file)
        };
        statements.extend(parse(&text.with_context(|| format!("--file {}", file.display()))?)?);
    }
    if let Some(text) = &args.command {
        statements.extend(parse(text)?);
    }
    let runner = Runner::start(registry, config, args.scheduler.as_deref(), interrupt).await?;
    if ask {
        return prompt::serve(&runner, args.format).await;
    }
    let mut before = Ran::Nothing;
    for statement in statements {
        let ran = run(&runner, statement, args.format).await;
        match (ran, before) {
            (Ok(Ran::Nothing), _) => {}
            (Ok(Ran::Rows), _) => before = Ran::Rows,
            (Err(failure), Ran::Nothing) => return Err(failure),
            (Err(failure), Ran::Rows) => return Err(failure.after_others()),
        }
    }
    Ok(())
}
