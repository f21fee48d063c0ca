//! What a scan has read, from the metrics of a job.
//!
//! Owns: the names of the metrics. Must not know: how they are fetched.

use ballista_core::serde::protobuf::{OperatorMetric, OperatorMetricsSet, OperatorWithMetrics};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion_elasticsearch::EsScanExec;

/// The metrics of one scan of a finished job, summed over all of its slices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// The number of rows that were read.
    pub documents: u64,
    /// The number of documents that the servers counted for the query; for files, the number of rows that were
    /// read.
    pub matched: u64,
    /// The number of requests that were retried.
    pub retries: u64,
    /// The number of slices in the scheduler's plan; 0 for files.
    pub slices: u64,
    /// The number of slices that were read to their end.
    pub slices_read: u64,
    /// The number of slices among them that the server has aggregated.
    pub slices_aggregated: u64,
}

/// Decodes the metrics of one operator.
pub(crate) fn metrics_of(metrics: Vec<OperatorMetric>) -> Result<MetricsSet> {
    OperatorMetricsSet { metrics }.try_into().map_err(|e| DataFusionError::External(Box::new(e)))
}

/// Returns the report of an operator, or `None` if it is no scan.
///
/// # Errors
///
/// If the scheduler reports metrics that this version cannot read.
pub(crate) fn scan_report(operator: OperatorWithMetrics) -> Result<Option<ScanReport>> {
    let of_files =
        operator.operator_type == "DataSourceExec" && operator.operator_desc.contains("file_groups");
    if operator.operator_type != "EsScanExec" && !of_files {
        return Ok(None);
    }
    let metrics = metrics_of(operator.metrics)?;
    let sum = |name: &str| metrics.sum_by_name(name).map_or(0, |value| value.as_usize() as u64);
    if of_files {
        let rows = metrics.output_rows().unwrap_or(0) as u64;
        return Ok(Some(ScanReport { documents: rows, matched: rows, ..ScanReport::default() }));
    }
    let Some(slices) = EsScanExec::slices_of(&operator.operator_desc) else {
        return Err(DataFusionError::Execution(format!(
            "the scheduler does not report the number of slices of a scan; run one version on the scheduler, \
             all executors and the client: {}",
            operator.operator_desc
        )));
    };
    Ok(Some(ScanReport {
        documents: sum("documents"),
        matched: sum("matched"),
        retries: sum("retries"),
        slices,
        slices_read: sum("slices"),
        slices_aggregated: sum("aggregated_slices"),
    }))
}
