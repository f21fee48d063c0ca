//! Runs SQL over an index, on a cluster in this process: `cargo run --example cluster http://127.0.0.1:9200`.

use ballista_elasticsearch::{Cluster, Job};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::common::collect;
use datafusion_elasticsearch::open_contexts;
use elastic_client::{ConnectionConfig, ConnectionRegistry};
use flowsigma_node::node_runtime;
use std::sync::Arc;

async fn run(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    let registry = Arc::new(ConnectionRegistry::default());
    registry.insert("prod", &ConnectionConfig::from_url(url)?)?;
    let cluster = Cluster::embedded(registry).await?;
    let table = "CREATE EXTERNAL TABLE flows STORED AS ELASTICSEARCH LOCATION 'elasticsearch://prod/flows*'";
    cluster.context().sql(table).await?;

    // One search context serves the whole job. It is closed even if the job fails.
    let plan = cluster.context().sql("SELECT count(*) AS flows FROM flows").await?;
    let (plan, open) = open_contexts(cluster.prepare(plan.into_unoptimized_plan())?).await?;
    let (_job, rows) = Job::submit(&cluster, plan).await?;
    let rows = collect(rows).await;
    open.close().await?;
    println!("{}", pretty_format_batches(&rows?)?);
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("expected the URL of a server")?;
    let runtime = node_runtime()?;
    let done = runtime.block_on(run(&url));
    // The cluster has tasks that run until the process ends.
    runtime.shutdown_background();
    done
}
