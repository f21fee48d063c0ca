//! The counts of addresses: as a Parquet file, and the decision over them.
//!
//! Owns: the file's columns (address, outgoing, incoming), and the decision in this process. Must not know: where the file
//! is kept, or how flows are counted.

use anyhow::Context;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::MemTable;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::prelude::SessionContext;
use flow_detect::{Detection, Sigma, decide_sql, read_detection};
use std::sync::Arc;

/// The counts of addresses, in batches with the columns of [`flow_detect::counts_sql`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(pub(crate) Vec<RecordBatch>);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("address", DataType::Utf8, true),
        Field::new("outgoing", DataType::Int64, true),
        Field::new("incoming", DataType::Int64, true),
    ]))
}

impl Counts {
    /// Adds rows, in whatever text type they have their addresses.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        let schema = schema();
        let columns = schema.fields().iter().map(|field| {
            let column = batch
                .column_by_name(field.name())
                .with_context(|| format!("the counts have no column \"{}\"", field.name()))?;
            Ok(datafusion::arrow::compute::cast(column, field.data_type())?)
        });
        let columns = columns.collect::<anyhow::Result<Vec<_>>>()?;
        self.0.push(RecordBatch::try_new(schema, columns)?);
        Ok(())
    }

    /// Returns them as a Parquet file.
    pub(crate) fn to_parquet(&self) -> anyhow::Result<Vec<u8>> {
        let properties =
            WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), schema(), Some(properties))?;
        for batch in &self.0 {
            writer.write(batch)?;
        }
        Ok(writer.into_inner()?)
    }

    /// Adds the rows of a Parquet file of [`Self::to_parquet`].
    pub(crate) fn push_parquet(&mut self, file: bytes::Bytes) -> anyhow::Result<()> {
        for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
            self.push(&batch?)?;
        }
        Ok(())
    }

    /// Decides which addresses stand out. An address with several rows has the sum of their counts.
    pub(crate) async fn decide(self, sigma: Sigma) -> anyhow::Result<Detection> {
        let context = SessionContext::new();
        let table = MemTable::try_new(schema(), vec![self.0])?;
        context.register_table("kept", Arc::new(table))?;
        let rows = context.sql(&decide_sql("kept", sigma)).await?.collect().await?;
        Ok(read_detection(&rows)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Int64Array, StringViewArray};

    /// One address with 1,000 outgoing flows among 30 with one each.
    fn counts() -> Counts {
        let addresses: Vec<String> = (0..31).map(|i| format!("10.0.0.{i}")).collect();
        let outgoing: Vec<i64> = (0..31).map(|i| if i == 7 { 1_000 } else { 1 }).collect();
        let schema = Schema::new(vec![
            Field::new("address", DataType::Utf8View, true),
            Field::new("outgoing", DataType::Int64, true),
            Field::new("incoming", DataType::Int64, true),
        ]);
        let batch = RecordBatch::try_new(
            Arc::new(schema),
            vec![
                Arc::new(StringViewArray::from_iter_values(&addresses)),
                Arc::new(Int64Array::from(outgoing)),
                Arc::new(Int64Array::from(vec![33; 31])),
            ],
        );
        let mut counts = Counts::default();
        counts.push(&batch.unwrap()).unwrap();
        counts
    }

    #[tokio::test]
    async fn kept_counts_are_decided_as_new_ones_and_several_files_are_added_up() {
        let sigma: Sigma = "3".parse().unwrap();
        let once = counts().decide(sigma).await.unwrap();
        assert_eq!(once.findings.len(), 1);
        assert_eq!((once.findings[0].address.as_str(), once.findings[0].outgoing), ("10.0.0.7", 1_000));
        let file = bytes::Bytes::from(counts().to_parquet().unwrap());
        let mut kept = Counts::default();
        kept.push_parquet(file.clone()).unwrap();
        assert_eq!(kept.decide(sigma).await.unwrap(), once);
        let mut twice = Counts::default();
        twice.push_parquet(file.clone()).unwrap();
        twice.push_parquet(file).unwrap();
        let twice = twice.decide(sigma).await.unwrap();
        assert_eq!((twice.findings[0].outgoing, twice.findings[0].incoming), (2_000, 66));
        assert_eq!(twice.statistics.outgoing.count, 31);
    }

    #[test]
    fn another_file_is_an_error_that_names_the_column() {
        let batch = RecordBatch::new_empty(Arc::new(Schema::empty()));
        let error = Counts::default().push(&batch).unwrap_err().to_string();
        assert_eq!(error, "the counts have no column \"address\"");
    }
}
