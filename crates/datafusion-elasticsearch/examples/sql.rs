//! Runs SQL over an index: `cargo run --example sql http://127.0.0.1:9200`.

use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{
    AddressOrder, EsTable, PushAggregates, TopN, functions, open_contexts, prove_filters,
};
use elastic_client::{ConnectionConfig, ConnectionRegistry};
use std::collections::HashMap;
use std::sync::Arc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("expected the URL of a server")?;
    let registry = Arc::new(ConnectionRegistry::default());
    registry.insert("prod", &ConnectionConfig::from_url(&url)?)?;
    let flows = EsTable::try_new(Arc::clone(&registry), "prod", "flows*", &HashMap::new()).await?;

    // This session compares addresses as servers do, and sends aggregates and ORDER BY with LIMIT to the server.
    let state = SessionStateBuilder::new().with_default_features().with_analyzer_rule(Arc::new(AddressOrder));
    let state = state.with_physical_optimizer_rule(Arc::new(PushAggregates));
    let state = state.with_physical_optimizer_rule(Arc::new(TopN));
    let context = SessionContext::new_with_state(state.build());
    functions().iter().for_each(|function| context.register_udf(function.as_ref().clone()));
    context.register_table("flows", Arc::new(flows))?;

    // One search context serves the whole query. It is closed even if the query fails.
    let plan = context.sql("SELECT count(*) AS flows FROM flows").await?.into_unoptimized_plan();
    let (plan, open) = open_contexts(plan).await?;
    let shown = async {
        let plan = prove_filters(plan, &context.state()).await?;
        context.execute_logical_plan(plan).await?.show().await
    };
    let shown = shown.await;
    open.close().await?;
    Ok(shown?)
}
