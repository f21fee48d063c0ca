//! The rows of a slice as a stream.
//!
//! Owns: reading a slice page by page, or only its count, until the shutdown signal. Must not know: plans.

use super::report::Report;
use crate::decode::Decoder;
use crate::error::from_client;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::error::{DataFusionError, Result};
use elastic_client::{Connection, PageOptions, Slice, SliceReader, refuse_ignored};
use futures::stream::BoxStream;
use futures::{StreamExt, TryFutureExt};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, info_span};

/// The reader of the slices of one partition.
pub(crate) struct SliceRead {
    pub(crate) connection: Arc<Connection>,
    pub(crate) options: PageOptions,
    pub(super) decoder: Decoder,
    pub(super) report: Report,
    pub(super) stop: CancellationToken,
}

impl SliceRead {
    fn reader(&self, slice: Slice) -> (SliceReader<Decoder>, Span) {
        let span = info_span!("slice", index = slice.index, slice = slice.ordinal + 1, of = slice.of);
        let reader = SliceReader::new(
            Arc::clone(&self.connection),
            slice,
            self.options.clone(),
            self.decoder.clone(),
            Arc::clone(&self.report.counters),
        );
        (reader, span)
    }

    /// Waits for a request, unless the shutdown signal comes before.
    pub(crate) async fn unless_stopped<T>(
        &self,
        request: impl Future<Output = Result<T, elastic_client::Error>>,
    ) -> Result<T> {
        let Some(done) = self.stop.run_until_cancelled(request).await else {
            return Err(DataFusionError::Execution("the read was cancelled".into()));
        };
        self.report.update();
        done.map_err(from_client)
    }

    /// Fails if a document of the slice has a dropped value that the options forbid.
    pub(crate) async fn refuse_ignored(&self, slice: &Slice) -> Result<(), elastic_client::Error> {
        match &self.options.ignored {
            Some(ignored) => {
                refuse_ignored(&self.connection, slice, ignored, self.options.read.keep_alive).await
            }
            None => Ok(()),
        }
    }

    /// Counts a slice whose documents the server has aggregated, all of them.
    pub(crate) fn aggregated(&self, documents: u64) {
        let counters = &self.report.counters;
        counters.documents.fetch_add(documents, Ordering::Relaxed);
        counters.matched.fetch_add(documents, Ordering::Relaxed);
        self.report.slice_aggregated();
    }

    /// Returns all rows, one batch for each page.
    pub(super) fn rows(self: Arc<Self>, slice: Slice) -> BoxStream<'static, Result<RecordBatch>> {
        let (reader, span) = self.reader(slice);
        let pages = futures::stream::try_unfold(reader, move |mut reader| {
            let this = Arc::clone(&self);
            let read = async move {
                let page = this.unless_stopped(reader.next_page()).await?;
                if page.is_none() {
                    this.report.slice_done();
                }
                Ok(page.map(|rows| (rows, reader)))
            };
            read.instrument(span.clone())
        });
        pages.boxed()
    }

    /// Returns as many rows without columns as the server counts, at most `limit`, in batches of `batch_rows`.
    pub(super) fn count(
        self: Arc<Self>,
        slice: Slice,
        schema: SchemaRef,
        limit: Option<NonZeroU32>,
        batch_rows: usize,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let (reader, span) = self.reader(slice);
        let count = async move {
            let count = self.unless_stopped(reader.count()).await?;
            self.report.slice_done();
            let wanted = limit.map_or(count, |limit| count.min(limit.get().into()));
            Ok(futures::stream::iter(empty_rows(schema, wanted, batch_rows)))
        };
        count.instrument(span).try_flatten_stream().boxed()
    }
}

/// Returns batches with `rows` rows in total and no columns.
fn empty_rows(
    schema: SchemaRef,
    mut rows: u64,
    batch_rows: usize,
) -> impl Iterator<Item = Result<RecordBatch>> {
    std::iter::from_fn(move || {
        let count = usize::try_from(rows).unwrap_or(usize::MAX).min(batch_rows);
        rows -= count as u64;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        (count > 0).then(|| Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), vec![], &options)?))
    })
}
