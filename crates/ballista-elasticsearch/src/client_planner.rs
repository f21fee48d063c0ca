//! The physical planner of a client.
//!
//! Owns: the statements that the client runs itself, and the errors for plans that cannot be sent. Must not know:
//! how a plan is sent.

use async_trait::async_trait;
use ballista_core::extension::SessionConfigExt;
use ballista_core::planner::scans_only_information_schema;
use datafusion::catalog::Session;
use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::ViewTable;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::listing::ListingTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion_elasticsearch::EsTable;
use datafusion_proto::logical_plan::AsLogicalPlan;
use datafusion_proto::protobuf::LogicalPlanNode;
use std::sync::Arc;

/// Ballista's planner, with a check for plans that cannot be serialized.
#[derive(Debug)]
pub(crate) struct ClientPlanner {
    /// The planner that submits the plan.
    pub(crate) ballista: Arc<dyn QueryPlanner + Send + Sync>,
}

#[async_trait]
impl QueryPlanner for ClientPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if let LogicalPlan::DescribeTable(_) = plan {
            // The client has the columns of the table, so it needs no job.
            return DefaultPhysicalPlanner::default().create_physical_plan(plan, session).await;
        }
        refuse_unsendable(plan)?;
        if !scans_only_information_schema(plan)? {
            let codec = session.config().ballista_logical_extension_codec();
            LogicalPlanNode::try_from_logical_plan(plan, codec.as_ref())
                .map_err(|e| refuse(&format!("a part of it has no serialized form ({})", e.message())))?;
        }
        self.ballista.create_physical_plan(plan, session).await
    }
}

/// Rejects a plan with a part that is known not to run on a cluster.
///
/// # Errors
///
/// Returns an error that says what to write instead.
pub(crate) fn refuse_unsendable(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::RecursiveQuery(query) => {
                return Err(refuse(&format!(
                    "\"{}\" is a recursive query, whose steps no executor can share; write each step as a query \
                     of its own",
                    query.name
                )));
            }
            LogicalPlan::Dml(dml) => {
                return Err(refuse(&format!(
                    "{} adds to table \"{}\", and a task that runs twice would add its rows twice; INSERT INTO a table of \
                     an index, or write COPY (SELECT …) TO a new folder",
                    dml.op.name().to_uppercase(),
                    dml.table_name
                )));
            }
            LogicalPlan::TableScan(scan) if !is_sendable(scan) => {
                return Err(refuse(&format!(
                    "\"{}\" is in the memory of this process or computed there, where executors cannot read it; \
                     write the rows as VALUES or UNNEST, or put them in a file",
                    scan.table_name
                )));
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn is_sendable(scan: &TableScan) -> bool {
    if scan.table_name.schema() == Some("information_schema") {
        return true;
    }
    let Ok(provider) = source_as_provider(&scan.source) else { return true };
    provider.is::<EsTable>()
        || provider.is::<ListingTable>()
        || provider.is::<ViewTable>()
        || provider.is::<EmptyTable>()
}

fn refuse(why: &str) -> DataFusionError {
    DataFusionError::Plan(format!("the statement cannot run on a cluster: {why}"))
}
