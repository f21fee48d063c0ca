//! The physical planner of a scheduler.
//!
//! Owns: applying the pushdown of aggregates and of top-N. Must not know: what they do.
//!
//! Ballista's adaptive planner ignores the optimizer rules of the session. But it calls the session's planner for
//! the plan that it starts from.

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion_elasticsearch::{PushAggregates, TopN};
use std::sync::Arc;

/// DataFusion's planner, followed by the pushdown of aggregates and of top-N.
#[derive(Debug)]
pub(crate) struct EsQueryPlanner;

#[async_trait]
impl QueryPlanner for EsQueryPlanner {
    async fn create_physical_plan(
        &self,
        logical_plan: &LogicalPlan,
        state: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = DefaultPhysicalPlanner::default().create_physical_plan(logical_plan, state).await?;
        let plan = PushAggregates.optimize(plan, state.config().options())?;
        TopN.optimize(plan, state.config().options())
    }
}
