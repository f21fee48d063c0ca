//! A statement on plain DataFusion over the table of `datafusion-elasticsearch`: what Ballista adds is the difference.
//!
//! Owns: one session, and the answer as JSON. Must not know: Ballista, or the programs of Flowsigma.

use anyhow::{Result, bail};
use datafusion::arrow::json::ArrayWriter;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{AddressOrder, EsTable, TopN, functions, open_contexts, prove_filters};
use elastic_client::{ConnectionConfig, ConnectionRegistry};
use std::collections::HashMap;
use std::sync::Arc;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, index, statement, options @ ..] = arguments.as_slice() else {
        bail!(
            "expected the URL of a server, an index, a statement over the table flows, and NAME=VALUE options"
        );
    };
    let options: HashMap<String, String> = options
        .iter()
        .filter_map(|option| option.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let registry = Arc::new(ConnectionRegistry::default());
    registry.insert("bench", &ConnectionConfig::from_url(url)?)?;
    let flows = EsTable::try_new(Arc::clone(&registry), "bench", index, &options).await?;
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_analyzer_rule(Arc::new(AddressOrder))
        .with_physical_optimizer_rule(Arc::new(TopN));
    let context = SessionContext::new_with_state(state.build());
    functions().iter().for_each(|function| context.register_udf(function.as_ref().clone()));
    context.register_table("flows", Arc::new(flows))?;
    let plan = context.sql(statement).await?.into_unoptimized_plan();
    let (plan, open) = open_contexts(plan).await?;
    let rows = run(&context, plan).await;
    open.close().await?;
    let mut writer = ArrayWriter::new(std::io::stdout());
    writer.write_batches(&rows?.iter().collect::<Vec<_>>())?;
    writer.finish()?;
    println!();
    Ok(())
}

async fn run(context: &SessionContext, plan: LogicalPlan) -> Result<Vec<RecordBatch>, DataFusionError> {
    let plan = prove_filters(plan, &context.state()).await?;
    context.execute_logical_plan(plan).await?.collect().await
}
