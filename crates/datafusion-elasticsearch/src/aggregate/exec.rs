//! The plan node that has the server aggregate each slice.
//!
//! Owns: which slices are aggregated by the server, and which are scanned. Must not know: how groups are requested.
//!
//! Its input is the partial aggregate over a scan that it replaces. It sends one request for each slice of that scan,
//! and runs its input over those slices whose groups are not proved. So the input is what a slice costs without the
//! server's help, and everything that a plan is (serialized, stopped, measured) applies to it as to any other.

use super::groups::{Groups, prove, read_first, read_page};
use super::plan::{self, AggregatePlan};
use super::request::{Form, first, forms, next};
use super::{find_scan, state};
use crate::exec::{EsScanExec, SliceRead};
use crate::options::Aggregate;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use elastic_client::{Error, Slice, SliceSource, fetch_totals};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use std::sync::Arc;

/// How many slices of a partition are aggregated at a time. Each holds the text of a response, and its groups.
const CONCURRENT_SLICES: usize = 2;

/// The plan node that aggregates the slices of an index on the server.
#[derive(Debug)]
pub struct EsAggregateExec {
    /// The partial aggregate that this node replaces.
    input: Arc<dyn ExecutionPlan>,
    plan: Arc<AggregatePlan>,
}

/// The groups of a slice, or why they are not proved.
enum Outcome {
    Rows(Vec<RecordBatch>),
    Scan(String),
}

impl EsAggregateExec {
    /// Creates the node over the partial aggregate that it replaces, which is over projections over a scan. No I/O. The
    /// inner `Err` says why the server cannot compute the aggregate.
    ///
    /// # Errors
    ///
    /// Returns an error if `input` is another plan.
    pub fn try_new(input: Arc<dyn ExecutionPlan>) -> Result<std::result::Result<Self, String>> {
        let other =
            || DataFusionError::Plan("only a partial aggregate over a scan is aggregated by servers".into());
        let aggregate = input.downcast_ref::<AggregateExec>().ok_or_else(other)?;
        let scan = find_scan(aggregate.input()).ok_or_else(other)?;
        if *aggregate.mode() != AggregateMode::Partial {
            return Err(other());
        }
        if scan.spec().limit.is_some() {
            return Ok(Err("the scan has a limit".into()));
        }
        let planned = plan::plan(aggregate, &scan.spec().columns)?;
        Ok(planned.map(|plan| Self { plan: Arc::new(plan), input }))
    }

    fn scan(&self) -> Result<&EsScanExec> {
        let scan =
            self.input.downcast_ref::<AggregateExec>().and_then(|aggregate| find_scan(aggregate.input()));
        scan.ok_or_else(|| DataFusionError::Internal("an aggregate has lost its scan".into()))
    }
}

impl DisplayAs for EsAggregateExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EsAggregateExec: groups=[")?;
        for (at, keys) in self.plan.sets.iter().enumerate() {
            let names: Vec<&str> = keys.iter().map(|key| self.plan.name(key.column)).collect();
            write!(f, "{}({})", if at == 0 { "" } else { ", " }, names.join(", "))?;
        }
        write!(f, "]")
    }
}

impl ExecutionPlan for EsAggregateExec {
    fn name(&self) -> &str {
        "EsAggregateExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [input] = <[_; 1]>::try_from(children)
            .map_err(|_| DataFusionError::Internal("an aggregate has one child".into()))?;
        match Self::try_new(input)? {
            Ok(node) => Ok(Arc::new(node)),
            Err(reason) => {
                Err(DataFusionError::Internal(format!("no longer aggregated by the server: {reason}")))
            }
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let scan = self.scan()?;
        let slices = scan.slices(partition, &context)?;
        let run = Arc::new(Run {
            read: scan.reader(partition)?,
            forms: forms(&self.plan),
            plan: Arc::clone(&self.plan),
            input: Arc::clone(&self.input),
            aggregate: scan.spec().aggregate,
            context,
        });
        let batches = slices
            .map_ok(move |slice| Arc::clone(&run).slice(slice))
            .try_buffered(CONCURRENT_SLICES)
            .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

/// The aggregation of the slices of one partition.
struct Run {
    read: Arc<SliceRead>,
    /// How the groups of each set are requested.
    forms: Vec<Form>,
    plan: Arc<AggregatePlan>,
    input: Arc<dyn ExecutionPlan>,
    aggregate: Aggregate,
    context: Arc<TaskContext>,
}

impl Run {
    /// Returns the rows of the partial aggregate for a slice.
    async fn slice(self: Arc<Self>, slice: Slice) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        match self.read.unless_stopped(self.groups(&slice)).await? {
            Outcome::Rows(rows) => Ok(futures::stream::iter(rows.into_iter().map(Ok)).boxed()),
            Outcome::Scan(reason) if self.aggregate == Aggregate::Always => {
                Err(DataFusionError::Execution(format!(
                    "{} is not aggregated by the server: {reason}; set the table option aggregate = \"auto\" to scan \
                     such slices",
                    slice.describe()
                )))
            }
            Outcome::Scan(reason) => {
                tracing::info!(slice = slice.describe(), reason, "the slice is scanned, not aggregated");
                let scanned = self.scanned(slice)?;
                Ok(scanned.boxed())
            }
        }
    }

    /// Runs the replaced aggregate over one slice.
    fn scanned(&self, slice: Slice) -> Result<SendableRecordBatchStream> {
        let slices = [vec![slice]];
        let over_slice =
            Arc::clone(&self.input).transform_up(|node| match node.downcast_ref::<EsScanExec>() {
                Some(scan) => {
                    let scan: Arc<dyn ExecutionPlan> = Arc::new(scan.only(&slices)?);
                    Ok(Transformed::yes(scan))
                }
                None => Ok(Transformed::no(node)),
            })?;
        over_slice.data.execute(0, Arc::clone(&self.context))
    }

    async fn groups(&self, slice: &Slice) -> std::result::Result<Outcome, Error> {
        if slice.source == SliceSource::Scroll {
            return Ok(Outcome::Scan("a slice of a scroll can only be read".into()));
        }
        self.read.refuse_ignored(slice).await?;
        let totals = match self.fetch(slice, &first(&self.plan, &self.forms)).await {
            Ok(totals) => totals,
            Err(error) if is_refused(&error) => return Ok(Outcome::Scan(error.to_string())),
            Err(error) => return Err(error),
        };
        let documents = totals.documents;
        let sets = match read_first(&self.plan, &self.forms, documents, &totals.aggregations) {
            Ok(sets) => sets,
            Err(reason) => return Ok(Outcome::Scan(reason)),
        };
        drop(totals);
        // Of further pages, a scan is faster: https://github.com/opensearch-project/sql/issues/5249 measured large ones.
        let more = sets.iter().find(|groups| groups.after.is_some() && self.aggregate == Aggregate::Auto);
        if let Some(groups) = more {
            return Ok(Outcome::Scan(format!("there are more than {} groups", groups.groups.len())));
        }
        let mut rows = Vec::with_capacity(sets.len());
        for (set, groups) in sets.into_iter().enumerate() {
            match self.rows(slice, set, documents, groups).await? {
                Ok(batches) => rows.extend(batches),
                Err(reason) => return Ok(Outcome::Scan(reason)),
            }
        }
        self.read.aggregated(documents);
        Ok(Outcome::Rows(rows))
    }

    /// Returns the rows of a set, a batch for each page. `page` is the first one. Each page becomes rows before the next
    /// one is fetched. The inner `Err` says why the groups are not proved.
    async fn rows(
        &self,
        slice: &Slice,
        set: usize,
        documents: u64,
        mut page: Groups,
    ) -> std::result::Result<std::result::Result<Vec<RecordBatch>, String>, Error> {
        let keys = &self.plan.sets[set];
        let mut counted: u64 = 0;
        let mut rows = Vec::new();
        loop {
            counted = counted.saturating_add(page.documents());
            // Without a document there is no group, except for the one over everything.
            page.groups.retain(|group| group.documents > 0 || keys.is_empty());
            match state::rows(&self.plan, &self.input.schema(), set, &page.groups) {
                Ok(batch) => rows.push(batch),
                Err(error) => return Ok(Err(error.to_string())),
            }
            let (Some(after), Form::Pages { size }) = (page.after, self.forms[set]) else { break };
            drop(page.groups);
            let totals = match self.fetch(slice, &next(&self.plan, set, size, &after)).await {
                Ok(totals) => totals,
                Err(error) if is_refused(&error) => return Ok(Err(error.to_string())),
                Err(error) => return Err(error),
            };
            page = match read_page(&self.plan, set, size, &totals.aggregations) {
                Ok(page) => page,
                Err(reason) => return Ok(Err(reason)),
            };
        }
        Ok(prove(&self.plan, keys, counted, documents).map(|()| rows))
    }

    async fn fetch(
        &self,
        slice: &Slice,
        aggregations: &serde_json::Value,
    ) -> std::result::Result<elastic_client::Totals, Error> {
        let options = &self.read.options;
        fetch_totals(
            &self.read.connection,
            slice,
            "aggregate",
            &options.query,
            Some(aggregations),
            options.read.keep_alive,
        )
        .boxed()
        .await
    }
}

/// Whether the server does not aggregate, but may still be read: it has too many groups, too little memory, takes too
/// long, or does not say that it has seen every document.
fn is_refused(error: &Error) -> bool {
    match error {
        Error::Status { status, .. } => !matches!(status, 401 | 403 | 404),
        Error::Unreachable { .. } | Error::DeadlineExceeded { .. } | Error::TooLarge { .. } => true,
        Error::Incomplete { .. } => true,
        _ => false,
    }
}
