//! One SQL statement and its rows.
//!
//! Owns: which statements are refused, and which have rows. Must not know: where the statement comes from.

use crate::failure::Failure;
use crate::insert::Insert;
use crate::output::{Format, RowPrinter};
use crate::run::Runner;
use anyhow::anyhow;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, Statement as Command};
use datafusion::sql::parser::{DFParser, Statement};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

pub(crate) fn parse(text: &str) -> Result<VecDeque<Statement>, DataFusionError> {
    DFParser::parse_sql(text)
}

/// Whether a successful statement has read or written data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    /// It only defined something, such as a table, a view or a setting.
    Nothing,
    /// It returned rows, or wrote them.
    Rows,
}

/// Runs one statement and prints its rows, if it has any.
pub(crate) async fn run(runner: &Runner, statement: Statement, format: Format) -> Result<Ran, Failure> {
    let context = runner.cluster().context();
    let state = context.state();
    check_copy(&statement, &state)?;
    let plan = match state.statement_to_plan(statement).await? {
        // The prepared statement with its parameters, which then runs like any other.
        plan @ LogicalPlan::Statement(Command::Execute(_)) => {
            context.execute_logical_plan(plan).await?.into_unoptimized_plan()
        }
        plan => plan,
    };
    if let LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) = &plan {
        return Err(anyhow!(
            "table {} would be kept in the memory of this process, where executors cannot read it: write \
             COPY (SELECT …) TO 'FOLDER/' STORED AS PARQUET, then CREATE EXTERNAL TABLE {} STORED AS \
             PARQUET LOCATION 'FOLDER/'",
            create.name,
            create.name
        )
        .into());
    }
    if let Some(insert) = Insert::of(&plan, runner)? {
        insert.run(runner, format).await?;
        return Ok(Ran::Rows);
    }
    let schema: SchemaRef = Arc::clone(plan.schema().inner());
    if matches!(plan, LogicalPlan::Ddl(_) | LogicalPlan::Statement(_)) || schema.fields().is_empty() {
        runner.run(plan, &mut |_: RecordBatch| Ok(())).await?;
        return Ok(Ran::Nothing);
    }
    let mut printer = None;
    runner
        .run(plan, &mut |batch: RecordBatch| {
            printer.get_or_insert_with(|| RowPrinter::new(format)).print(batch)
        })
        .await?;
    // A result without rows still has a header.
    let mut printer = printer.unwrap_or_else(|| RowPrinter::new(format));
    printer.print(RecordBatch::new_empty(schema)).map_err(Failure::running)?;
    printer.finish().map_err(Failure::running)?;
    Ok(Ran::Rows)
}

/// Refuses an unknown format and an option that is given twice. DataFusion's planner would take the format from the
/// target's extension, and the last of the two values.
fn check_copy(statement: &Statement, state: &SessionState) -> anyhow::Result<()> {
    let copy = match statement {
        Statement::CopyTo(copy) => copy,
        Statement::Explain(explain) => return check_copy(&explain.statement, state),
        _ => return Ok(()),
    };
    if let Some(format) = copy.stored_as.as_ref().filter(|name| state.get_file_format_factory(name).is_none())
    {
        anyhow::bail!(
            "COPY to \"{}\": STORED AS {format} is no format; write CSV, JSON, PARQUET or ARROW",
            copy.target
        );
    }
    let mut names = HashSet::new();
    let given = copy.options.iter().map(|(name, _)| name.to_lowercase());
    if let Some(twice) =
        given.map(|n| n.trim_start_matches("format.").to_owned()).find(|n| !names.insert(n.clone()))
    {
        anyhow::bail!("COPY to \"{}\": option \"{twice}\" is given twice", copy.target);
    }
    Ok(())
}
