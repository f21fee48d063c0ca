//! The scan of an index.
//!
//! Owns: reading the slices of a partition in turn. Must not know: how it travels.
//!
//! It is a unary node over an in-memory table of slice descriptors, one partition a group of
//! slices. Ballista cuts a stage into tasks by trimming leaves, and of leaves it knows only its own
//! and DataFusion's: any other would be run whole by every task, and multiply rows in silence.

use crate::decode::{Decoder, ignored_names, plan_fields};
use crate::error::{from_arrow, from_client};
use datafusion::arrow::array::{AsArray, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, Gauge, MetricBuilder, MetricsSet, Time,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use elastic_arrow::{Column, PageDecoder, to_schema};
use elastic_client::{ConnectionRegistry, IgnoredValues, PageOptions, ReadCounters, Slice, SliceReader};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

/// What a scan reads, as it travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScanSpec {
    /// The connection's name.
    pub connection: String,
    /// The table's index, for display.
    pub index: String,
    /// The projected columns.
    pub columns: Vec<Column>,
    /// The query sent.
    pub query: Value,
    /// Rows a page at most.
    pub page_size: NonZeroU32,
    /// Milliseconds.
    pub keep_alive_ms: u64,
    /// As many rows of a slice are enough.
    #[serde(default)]
    pub limit: Option<NonZeroU32>,
    /// The documents in which a value that doc values lack is an error; none if it is null.
    #[serde(default)]
    pub ignored: Option<Value>,
}

/// Reads slices page by page.
#[derive(Debug)]
pub struct EsScanExec {
    registry: Arc<ConnectionRegistry>,
    spec: ScanSpec,
    slices: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    stop: CancellationToken,
}

impl EsScanExec {
    /// One partition a group of slices.
    pub fn try_new(
        registry: Arc<ConnectionRegistry>,
        spec: ScanSpec,
        partitions: &[Vec<Slice>],
    ) -> Result<Self> {
        let schema = Arc::new(Schema::new(vec![Field::new("slice", DataType::Utf8, false)]));
        let mut rows = Vec::with_capacity(partitions.len());
        for group in partitions {
            let texts: std::result::Result<Vec<String>, _> =
                group.iter().map(serde_json::to_string).collect();
            let texts = texts.map_err(|e| DataFusionError::External(Box::new(e)))?;
            let column = Arc::new(StringArray::from(texts));
            rows.push(vec![RecordBatch::try_new(Arc::clone(&schema), vec![column])?]);
        }
        let child = MemorySourceConfig::try_new_exec(&rows, schema, None)?;
        Ok(Self::over(registry, spec, child))
    }

    /// Over a child of slice descriptors, as it arrived. No I/O.
    pub fn over(registry: Arc<ConnectionRegistry>, spec: ScanSpec, slices: Arc<dyn ExecutionPlan>) -> Self {
        let count = slices.properties().output_partitioning().partition_count();
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(to_schema(&spec.columns)),
            Partitioning::UnknownPartitioning(count),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        let (metrics, stop) = (ExecutionPlanMetricsSet::new(), CancellationToken::new());
        Self { registry, spec, slices, properties, metrics, stop }
    }

    /// Cancelled, all of its streams fail with what they read next: for who cannot drop them.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// What travels beside the child.
    pub fn spec(&self) -> &ScanSpec {
        &self.spec
    }
}

impl DisplayAs for EsScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.spec.columns.iter().map(|c| c.name.as_str()).collect();
        write!(
            f,
            "EsScanExec: connection={}, index={}, columns=[{}], query={}",
            self.spec.connection,
            self.spec.index,
            names.join(", "),
            self.spec.query
        )?;
        match self.spec.limit {
            Some(limit) => write!(f, ", limit={limit}"),
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
        Ok(Arc::new(Self { stop: self.stop.clone(), ..scan }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let connection = self.registry.get(&self.spec.connection).map_err(from_client)?;
        let decoder = PageDecoder::new(self.spec.columns.clone()).map_err(from_arrow)?;
        let decoder = Decoder(Arc::new(decoder));
        let options = PageOptions {
            query: self.spec.query.clone(),
            fields: plan_fields(&self.spec.columns),
            page_size: self.spec.page_size,
            keep_alive: Duration::from_millis(self.spec.keep_alive_ms),
            limit: self.spec.limit,
            ignored: self
                .spec
                .ignored
                .clone()
                .map(|query| IgnoredValues { fields: ignored_names(&self.spec.columns), query }),
        };
        let counters = Arc::new(ReadCounters::default());
        let report = Report::new(&self.metrics, partition, Arc::clone(&counters), Arc::clone(&self.registry));
        let report = Arc::new(report);
        let stop = self.stop.clone();
        let descriptors = self.slices.execute(partition, context)?;
        let batches = descriptors
            .map(|batch| -> Result<_> {
                let batch = batch?;
                let texts = batch.column(0).as_string::<i32>();
                let slices: Vec<Result<Slice>> = texts
                    .iter()
                    .map(|text| {
                        serde_json::from_str(text.unwrap_or_default())
                            .map_err(|e| DataFusionError::External(Box::new(e)))
                    })
                    .collect();
                Ok(futures::stream::iter(slices))
            })
            .try_flatten()
            .map_ok(move |slice| {
                let span = info_span!("slice", index = slice.index, slice = slice.ordinal + 1, of = slice.of);
                let reader = SliceReader::new(
                    Arc::clone(&connection),
                    slice,
                    options.clone(),
                    decoder.clone(),
                    Arc::clone(&counters),
                );
                let (report, stop) = (Arc::clone(&report), stop.clone());
                futures::stream::try_unfold(reader, move |mut reader| {
                    let (report, stop) = (Arc::clone(&report), stop.clone());
                    let read = async move {
                        let page = stop.run_until_cancelled(reader.next_page()).await;
                        let Some(page) = page else {
                            return Err(DataFusionError::Execution("the read was cancelled".into()));
                        };
                        report.update();
                        let page = page.map_err(from_client)?;
                        if page.is_none() {
                            report.slice_done();
                        }
                        Ok(page.map(|rows| (rows, reader)))
                    };
                    read.instrument(span.clone())
                })
            })
            .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Copies the reader's counters into the plan's metrics, and what was read into the process's own.
struct Report {
    counters: Arc<ReadCounters>,
    registry: Arc<ConnectionRegistry>,
    documents: Count,
    matched: Count,
    bytes: Count,
    pages: Count,
    retries: Count,
    peak_page_bytes: Gauge,
    server_wait: Time,
    decode: Time,
}

impl Report {
    fn new(
        metrics: &ExecutionPlanMetricsSet,
        partition: usize,
        counters: Arc<ReadCounters>,
        registry: Arc<ConnectionRegistry>,
    ) -> Self {
        let counter = |name| MetricBuilder::new(metrics).counter(name, partition);
        Self {
            counters,
            registry,
            documents: counter("documents"),
            matched: counter("matched"),
            bytes: counter("bytes"),
            pages: counter("pages"),
            retries: counter("retries"),
            // Of this partition: summed over partitions, it bounds what pages held at one time.
            peak_page_bytes: MetricBuilder::new(metrics).gauge("peak_page_bytes", partition),
            server_wait: MetricBuilder::new(metrics).subset_time("server_wait", partition),
            decode: MetricBuilder::new(metrics).subset_time("decode", partition),
        }
    }

    fn update(&self) {
        let (counters, progress) = (&self.counters, self.registry.progress());
        progress.documents.fetch_add(advance(&self.documents, &counters.documents), Ordering::Relaxed);
        progress.matched.fetch_add(advance(&self.matched, &counters.matched), Ordering::Relaxed);
        advance(&self.bytes, &counters.bytes);
        advance(&self.pages, &counters.pages);
        advance(&self.retries, &counters.retries);
        self.peak_page_bytes.set(counters.peak_page_bytes.load(Ordering::Relaxed) as usize);
        for (time, nanos) in
            [(&self.server_wait, &counters.wait_nanos), (&self.decode, &counters.decode_nanos)]
        {
            let more = nanos.load(Ordering::Relaxed).saturating_sub(time.value() as u64);
            time.add_duration(Duration::from_nanos(more));
        }
    }

    fn slice_done(&self) {
        self.registry.progress().slices.fetch_add(1, Ordering::Relaxed);
    }
}

/// Brings a metric up to its counter, and returns by how much.
fn advance(metric: &Count, counter: &AtomicU64) -> u64 {
    let more = counter.load(Ordering::Relaxed).saturating_sub(metric.value() as u64);
    metric.add(more as usize);
    more
}
