//! Search contexts of clients that open none.
//!
//! Owns: opening them before a job is queued. Must not know: jobs, or who submits them.

use crate::message::one_line;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion_elasticsearch::{QueryContexts, open_matching_contexts, prove_filters};
use tonic::Status;

/// Opens the search contexts of clients that open none themselves, such as other programs, and proves which filters are
/// exact.
pub(super) async fn open_and_prove(
    plan: LogicalPlan,
    state: &SessionState,
) -> Result<(LogicalPlan, QueryContexts), Status> {
    let refused = |error| Status::invalid_argument(one_line(&error));
    let (plan, contexts) = open_matching_contexts(plan, state).await.map_err(refused)?;
    if contexts.slices() == 0 {
        return Ok((plan, contexts));
    }
    match prove_filters(plan, state).await {
        Ok(plan) => Ok((plan, contexts)),
        Err(error) => {
            contexts.close().await.ok();
            Err(refused(error))
        }
    }
}
