//! The bridge between a page's bytes and its columns.
//!
//! Owns: nothing but the conversion. The reader knows no Arrow, the decoder no HTTP.

use datafusion::arrow::record_batch::RecordBatch;
use elastic_arrow::{Column, FieldType, MetaField, PageDecoder, ReadFrom};
use elastic_client::{DecodeError, DecodePage, Envelope, FieldsRequest};
use std::sync::Arc;

/// Decodes pages of one projection; shared by the slices of a partition.
#[derive(Clone)]
pub(crate) struct Decoder(pub(crate) Arc<PageDecoder>);

impl DecodePage for Decoder {
    type Rows = RecordBatch;

    fn decode(&self, body: &[u8]) -> Result<(Envelope, RecordBatch), DecodeError> {
        let page = self.0.decode(body)?;
        let e = page.envelope;
        let envelope = Envelope {
            complete: e.complete,
            timed_out: e.timed_out,
            terminated_early: e.terminated_early,
            clusters_incomplete: e.clusters_incomplete,
            shards_failed: e.shards_failed,
            shards_total: e.shards_total,
            shard_failure: e.shard_failure,
            total: e.total,
            pit_id: e.pit_id,
            scroll_id: e.scroll_id,
            hits: e.hits,
            last_sort: e.last_sort,
        };
        Ok((envelope, page.batch))
    }
}

/// What has to be asked for so that these columns can be filled.
pub(crate) fn plan_fields(columns: &[Column]) -> FieldsRequest {
    let mut request = FieldsRequest::default();
    for column in columns {
        match &column.read_from {
            ReadFrom::DocValues { format } => request.doc_values.push((column.name.clone(), format.clone())),
            ReadFrom::Metadata if column.field_type == FieldType::Metadata(MetaField::Source) => {
                request.whole_source = true;
            }
            ReadFrom::Metadata => request.metadata = true,
            ReadFrom::Source | ReadFrom::Unavailable { .. } => {
                request.source.extend(column.source_field().map(str::to_owned));
            }
        }
    }
    request
}

/// The names under which a server notes values that it left out of what these columns are read
/// from.
pub(crate) fn ignored_names(columns: &[Column]) -> Vec<String> {
    let read = columns.iter().filter(|column| matches!(column.read_from, ReadFrom::DocValues { .. }));
    let names =
        read.flat_map(|column| [&column.name, &column.source_path].into_iter().chain(&column.targets));
    let mut names: Vec<String> = names.cloned().collect();
    names.sort();
    names.dedup();
    names
}
