//! What a scan tells of itself while it reads.
//!
//! Owns: the plan's metrics, and the process's progress. Must not know: pages.

use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, Gauge, MetricBuilder, Time};
use elastic_client::{ConnectionRegistry, ReadCounters};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Copies the reader's counters into the plan's metrics, and what was read into the process's own.
pub(super) struct Report {
    /// What the readers of this partition count.
    pub(super) counters: Arc<ReadCounters>,
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
            // Of this partition: summed over partitions, it bounds what pages held at one time.
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

    pub(super) fn slice_done(&self) {
        self.registry.progress().slices.fetch_add(1, Ordering::Relaxed);
    }
}

/// Brings a metric up to its counter, and returns by how much.
fn advance(metric: &Count, counter: &AtomicU64) -> u64 {
    let more = counter.load(Ordering::Relaxed).saturating_sub(metric.value() as u64);
    metric.add(more as usize);
    more
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{ArrayRef, Int64Array};
    use elastic_client::ConnectionConfig;
    use futures::FutureExt;
    use serde_json::json;

    /// What a scan over one partition of this says first. No runtime: a request would panic.
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
        let scan = EsScanExec::over(Arc::new(registry), serde_json::from_value(spec).unwrap(), child);
        let first = scan.execute(0, Arc::default()).unwrap().next().now_or_never();
        first.expect("nothing is waited for").expect("a result").unwrap_err().to_string()
    }

    fn texts(texts: Vec<Option<&str>>) -> ArrayRef {
        Arc::new(StringArray::from(texts))
    }

    #[test]
    fn what_is_no_slice_is_an_error_before_anything_is_read() {
        let slice = r#"{"ordinal":0,"of":2,"index":"flows","source":"Scroll","cut":null,"filter":null}"#;
        for descriptors in [vec![Some("{}")], vec![None], vec![Some(slice), Some("flows")]] {
            let error = first(vec![("slice", texts(descriptors))]);
            assert!(error.contains("a slice that arrived for index \"flows\" cannot be read"), "{error}");
        }
        for other in [vec![], vec![("slice", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]] {
            let error = first(other);
            assert!(error.contains("no slices arrived for index \"flows\""), "{error}");
        }
    }
}
