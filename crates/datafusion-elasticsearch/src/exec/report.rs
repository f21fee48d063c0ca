//! The metrics of a scan while it reads.
//!
//! Owns: the metrics of the plan node, and the progress of the process. Must not know: pages.

use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, Gauge, MetricBuilder, Time};
use elastic_client::{ConnectionRegistry, ReadCounters};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Copies the counters of the readers into the metrics of the plan node, and adds them to the progress of the
/// process.
pub(crate) struct Report {
    /// The counters of the readers of this partition.
    pub(super) counters: Arc<ReadCounters>,
    registry: Arc<ConnectionRegistry>,
    documents: Count,
    matched: Count,
    bytes: Count,
    pages: Count,
    retries: Count,
    slices: Count,
    aggregated: Count,
    peak_page_bytes: Gauge,
    server_wait: Time,
    decode: Time,
}

impl Report {
    pub(super) fn new(
        metrics: &ExecutionPlanMetricsSet,
        partition: usize,
        registry: Arc<ConnectionRegistry>,
    ) -> Self {
        let counter = |name| MetricBuilder::new(metrics).counter(name, partition);
        Self {
            counters: Arc::default(),
            registry,
            documents: counter("documents"),
            matched: counter("matched"),
            bytes: counter("bytes"),
            pages: counter("pages"),
            retries: counter("retries"),
            slices: counter("slices"),
            aggregated: counter("aggregated_slices"),
            // The peak of this partition. The sum over partitions is an upper bound of the memory that pages take
            // at one time.
            peak_page_bytes: MetricBuilder::new(metrics).gauge("peak_page_bytes", partition),
            server_wait: MetricBuilder::new(metrics).subset_time("server_wait", partition),
            decode: MetricBuilder::new(metrics).subset_time("decode", partition),
        }
    }

    pub(super) fn update(&self) {
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

    /// Counts a slice that the server has aggregated.
    pub(super) fn slice_aggregated(&self) {
        self.update();
        self.aggregated.add(1);
        self.slice_done();
    }

    /// Counts a slice that was read to its end.
    pub(super) fn slice_done(&self) {
        self.slices.add(1);
        self.registry.progress().slices.fetch_add(1, Ordering::Relaxed);
    }
}

/// Raises a metric to the value of its counter, and returns the difference.
fn advance(metric: &Count, counter: &AtomicU64) -> u64 {
    let more = counter.load(Ordering::Relaxed).saturating_sub(metric.value() as u64);
    metric.add(more as usize);
    more
}
