//! The scan of an index.
//!
//! Owns: reading the slices of a partition, a few at a time. Must not know: how the plan is sent.
//!
//! `EsScanExec` is a unary plan node over an in-memory table of slice descriptors, with one partition for each
//! group of slices. Ballista restricts a stage to the partitions of a task at its leaves, and it knows only its
//! own leaves and those of DataFusion. Every task would run any other leaf with all partitions, and silently
//! multiply rows.

mod report;
mod slice_read;

use crate::decode::{Decoder, ignored_names};
use crate::error::{from_arrow, from_client};
use crate::spec::ScanSpec;
use crate::wire;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use elastic_arrow::to_schema;
use elastic_client::{ConnectionRegistry, IgnoredValues, PageOptions, Slice, SortKey, check_index};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use report::Report;
pub(crate) use slice_read::SliceRead;
use std::num::NonZeroU32;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How many slices of a partition are read at a time, so that the server works while a page is decoded. The connection
/// limits the requests of the whole process.
const CONCURRENT_SLICES: usize = 3;

/// The plan node that reads the slices of an index page by page.
#[derive(Debug)]
pub struct EsScanExec {
    registry: Arc<ConnectionRegistry>,
    spec: ScanSpec,
    slices: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    stop: CancellationToken,
    /// Filters that DataFusion repeats although the query finds no extra document. Only planning needs them, so
    /// they are not serialized.
    strict: Vec<Arc<dyn PhysicalExpr>>,
    /// Why the server does not compute the aggregate above. Only `EXPLAIN` shows it.
    not_aggregated: Option<String>,
}

impl EsScanExec {
    /// Creates a scan with one partition for each group of slices.
    ///
    /// # Errors
    ///
    /// Returns an error if the slices cannot be serialized.
    pub fn try_new(
        registry: Arc<ConnectionRegistry>,
        spec: ScanSpec,
        partitions: &[Vec<Slice>],
    ) -> Result<Self> {
        let mut rows = Vec::with_capacity(partitions.len());
        for group in partitions {
            rows.push(vec![wire::to_batch(group).map_err(DataFusionError::External)?]);
        }
        let child = MemorySourceConfig::try_new_exec(&rows, wire::schema(), None)?;
        Ok(Self::over(registry, spec, child))
    }

    /// Creates a scan over a child whose rows are slice descriptors, such as one that the scheduler sent. No I/O.
    pub fn over(registry: Arc<ConnectionRegistry>, spec: ScanSpec, slices: Arc<dyn ExecutionPlan>) -> Self {
        let count = slices.properties().output_partitioning().partition_count();
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(to_schema(&spec.columns)),
            Partitioning::UnknownPartitioning(count),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        let (metrics, stop) = (ExecutionPlanMetricsSet::new(), CancellationToken::new());
        Self { registry, spec, slices, properties, metrics, stop, strict: Vec::new(), not_aggregated: None }
    }

    /// Returns the same scan with a shutdown signal: after `stop` is cancelled, its streams fail at their next
    /// request. This serves callers that cannot drop the streams.
    pub fn stopped_by(&self, stop: CancellationToken) -> Self {
        let scan = Self::over(Arc::clone(&self.registry), self.spec.clone(), Arc::clone(&self.slices));
        Self { stop, strict: self.strict.clone(), ..scan }
    }

    /// Returns the same scan over other slices, with a partition for each group. It shares metrics and shutdown signal
    /// with this one.
    pub(crate) fn only(&self, partitions: &[Vec<Slice>]) -> Result<Self> {
        let scan = Self::try_new(Arc::clone(&self.registry), self.spec.clone(), partitions)?;
        Ok(Self { stop: self.stop.clone(), metrics: self.metrics.clone(), ..scan })
    }

    /// Returns the same scan with the reason why the server does not compute the aggregate above.
    pub(crate) fn not_aggregated(&self, reason: String) -> Self {
        let scan = Self::over(Arc::clone(&self.registry), self.spec.clone(), Arc::clone(&self.slices));
        Self { stop: self.stop.clone(), strict: self.strict.clone(), not_aggregated: Some(reason), ..scan }
    }

    pub(crate) fn with_strict(self, strict: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        Self { strict, ..self }
    }

    pub(crate) fn is_strict(&self, filter: &Arc<dyn PhysicalExpr>) -> bool {
        self.strict.contains(filter)
    }

    /// Returns the same scan limited to the first `limit` rows of each slice in this order (top-N pushdown).
    pub(crate) fn top_n(&self, order: Vec<SortKey>, limit: NonZeroU32) -> Self {
        let spec = ScanSpec { order, limit: Some(limit), ..self.spec.clone() };
        Self::over(Arc::clone(&self.registry), spec, Arc::clone(&self.slices))
    }

    /// Returns the number of slices of a scan, parsed from its line in `EXPLAIN`. Returns `None` if `shown` is
    /// another plan node, or the number is unknown.
    pub fn slices_of(shown: &str) -> Option<u64> {
        shown.strip_prefix("EsScanExec: slices=")?.split(',').next()?.parse().ok()
    }

    /// Returns the number of slices over all partitions; `None` if the child does not report it.
    fn slice_count(&self) -> Option<usize> {
        let statistics = StatisticsContext::new().compute(self.slices.as_ref(), &StatisticsArgs::new());
        statistics.ok()?.num_rows.get_value().copied()
    }

    /// Returns the slices of a partition.
    pub(crate) fn slices(
        &self,
        partition: usize,
        context: &Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<Slice>>> {
        let index = self.spec.index.clone();
        let descriptors = self.slices.execute(partition, Arc::clone(context))?;
        let slices = descriptors.map(move |batch| -> Result<_> {
            let slices = read_slices(&batch?, &index)?;
            Ok(futures::stream::iter(slices.into_iter().map(Ok::<_, DataFusionError>)))
        });
        Ok(slices.try_flatten().boxed())
    }

    /// Returns the reader of the slices of a partition.
    pub(crate) fn reader(&self, partition: usize) -> Result<Arc<SliceRead>> {
        let connection = self.registry.get(&self.spec.connection).map_err(from_client)?;
        let decoder = Decoder::try_new(&self.spec.columns).map_err(from_arrow)?;
        let options = PageOptions {
            query: self.spec.query.clone(),
            fields: decoder.fields(),
            read: self.spec.read,
            limit: self.spec.limit,
            order: self.spec.order.clone(),
            ignored: self
                .spec
                .ignored
                .clone()
                .map(|query| IgnoredValues { fields: ignored_names(&self.spec.columns), query }),
        };
        Ok(Arc::new(SliceRead {
            connection,
            options,
            decoder,
            report: Report::new(&self.metrics, partition, Arc::clone(&self.registry)),
            stop: self.stop.clone(),
        }))
    }

    /// Returns what another process needs to build the same scan with [`EsScanExec::over`], beside the child.
    pub fn spec(&self) -> &ScanSpec {
        &self.spec
    }
}

impl DisplayAs for EsScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.spec.columns.iter().map(|c| c.name.as_str()).collect();
        write!(
            f,
            "EsScanExec: slices={}, connection={}, index={}, columns=[{}], query={}",
            self.slice_count().map_or_else(|| "unknown".into(), |count| count.to_string()),
            self.spec.connection,
            self.spec.index,
            names.join(", "),
            self.spec.query
        )?;
        if self.spec.counts() {
            write!(f, ", count")?;
        }
        for (at, key) in self.spec.order.iter().enumerate() {
            let before = if at == 0 { ", order=" } else { ", " };
            write!(f, "{before}{} {}", key.field, if key.descending { "DESC" } else { "ASC" })?;
        }
        if let Some(limit) = self.spec.limit {
            write!(f, ", limit={limit}")?;
        }
        match &self.not_aggregated {
            Some(reason) => write!(f, ", not aggregated by the server: {reason}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for EsScanExec {
    fn name(&self) -> &str {
        "EsScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.slices]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
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
        let [child] = <[_; 1]>::try_from(children)
            .map_err(|_| DataFusionError::Internal("a scan has one child".into()))?;
        let scan = Self::over(Arc::clone(&self.registry), self.spec.clone(), child);
        let not_aggregated = self.not_aggregated.clone();
        Ok(Arc::new(Self { stop: self.stop.clone(), strict: self.strict.clone(), not_aggregated, ..scan }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let read = self.reader(partition)?;
        let (schema, limit) = (self.schema(), self.spec.limit);
        let counts = self.spec.counts().then(|| context.session_config().batch_size());
        // After a limit is reached, what other slices have read is lost.
        let concurrent = if limit.is_some() { 1 } else { CONCURRENT_SLICES };
        let batches = self
            .slices(partition, &context)?
            .map_ok(move |slice| match counts {
                Some(batch_rows) => Arc::clone(&read).count(slice, Arc::clone(&schema), limit, batch_rows),
                None => Arc::clone(&read).rows(slice),
            })
            .try_flatten_unordered(concurrent);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Decodes the slices that a batch describes: all of them before the first one is read. A batch from the network
/// may have any content.
fn read_slices(batch: &RecordBatch, index: &str) -> Result<Vec<Slice>> {
    let slices = wire::from_batch(batch).map_err(|e| {
        DataFusionError::External(e).context(format!(
            "the slices that arrived for index \"{index}\" cannot be read: run one version on all nodes of the \
             cluster"
        ))
    })?;
    for slice in &slices {
        check_index(&slice.index).map_err(from_client)?;
    }
    Ok(slices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
    use datafusion::arrow::datatypes::Schema;
    use elastic_client::ConnectionConfig;
    use futures::FutureExt;
    use serde_json::json;

    /// Returns the first error of a scan over one partition with these slices. There is no runtime, so a request
    /// would panic.
    fn first(slices: Vec<(&str, ArrayRef)>) -> String {
        let registry = ConnectionRegistry::default();
        let config = ConnectionConfig::from_url("http://127.0.0.1:1").unwrap();
        registry.insert("prod", &config).unwrap();
        let spec = json!({
            "connection": "prod", "index": "flows", "columns": [], "query": { "match_all": {} },
            "page_size": 10, "keep_alive_ms": 60_000,
        });
        let batch = match slices.is_empty() {
            true => RecordBatch::new_empty(Arc::new(Schema::empty())),
            false => RecordBatch::try_from_iter(slices).unwrap(),
        };
        let schema = batch.schema();
        let child = MemorySourceConfig::try_new_exec(&[vec![batch]], schema, None).unwrap();
        let scan = EsScanExec::over(Arc::new(registry), wire::decode_scan(&spec.to_string()).unwrap(), child);
        let first = scan.execute(0, Arc::default()).unwrap().next().now_or_never();
        first.expect("nothing is waited for").expect("a result").unwrap_err().to_string()
    }

    fn texts(texts: Vec<Option<&str>>) -> ArrayRef {
        Arc::new(StringArray::from(texts))
    }

    #[test]
    fn a_slice_of_what_is_no_index_is_an_error_before_anything_is_read() {
        for source in [json!("Scroll"), json!({ "Pit": { "id": "p", "sort": "Doc" } })] {
            let slice = json!({ "ordinal": 0, "of": 1, "index": "..", "source": source });
            let error = first(vec![("slice", texts(vec![Some(&slice.to_string())]))]);
            assert!(error.contains("index \"..\" is not sent to a server"), "{error}");
        }
    }

    #[test]
    fn what_is_no_slice_is_an_error_before_anything_is_read() {
        let slice = r#"{"ordinal":0,"of":2,"index":"flows","source":"Scroll","cut":null,"filter":null}"#;
        for descriptors in [vec![Some("{}")], vec![None], vec![Some(slice), Some("flows")]] {
            let error = first(vec![("slice", texts(descriptors))]);
            assert!(error.contains("the slices that arrived for index \"flows\" cannot be read"), "{error}");
        }
        for other in [vec![], vec![("slice", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]] {
            let error = first(other);
            assert!(error.contains("the slices that arrived for index \"flows\" cannot be read"), "{error}");
            assert!(error.contains("expected a column of slices, and none arrived"), "{error}");
        }
    }
}
