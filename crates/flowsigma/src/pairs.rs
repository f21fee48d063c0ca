//! Pairs of a source and a destination, as a Parquet file.
//!
//! Owns: the file's columns (source, destination, flows, first, last). Must not know: where the file is kept, or how flows
//! are counted.

use crate::counts::{parquet_writer, with_schema};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::sync::Arc;

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("source", DataType::Utf8, true),
        Field::new("destination", DataType::Utf8, true),
        Field::new("flows", DataType::Int64, true),
        Field::new("first", time.clone(), true),
        Field::new("last", time, true),
    ]))
}

/// A file of pairs that is being written. It is held in memory, compressed.
pub(crate) struct PairsFile(ArrowWriter<Vec<u8>>);

impl PairsFile {
    pub(crate) fn try_new() -> anyhow::Result<Self> {
        Ok(Self(parquet_writer(schema())?))
    }

    /// Adds rows of [`flow_detect::pairs_sql`].
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        Ok(self.0.write(&with_schema(batch, &schema(), "the pairs")?)?)
    }

    /// Returns the complete file.
    pub(crate) fn finish(self) -> anyhow::Result<Vec<u8>> {
        Ok(self.0.into_inner()?)
    }
}

/// Reads the rows of a file of pairs, batch by batch.
pub(crate) fn read_pairs(
    file: bytes::Bytes,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<RecordBatch>>> {
    Ok(ParquetRecordBatchReaderBuilder::try_new(file)?.build()?.map(|batch| Ok(batch?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{
        ArrayRef, AsArray, Int64Array, StringViewArray, TimestampMillisecondArray,
    };
    use datafusion::arrow::datatypes::TimestampMillisecondType;

    #[test]
    fn a_file_has_the_rows_that_were_written_with_times_in_utc() {
        let text = |text: &str| Arc::new(StringViewArray::from_iter_values([text])) as ArrayRef;
        let time = |millis| Arc::new(TimestampMillisecondArray::from(vec![millis])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([
            ("source", text("10.0.0.1")),
            ("destination", text("10.0.0.2")),
            ("flows", Arc::new(Int64Array::from(vec![3])) as ArrayRef),
            ("first", time(1_700_000_000_000)),
            ("last", time(1_700_000_000_999)),
        ]);
        let mut file = PairsFile::try_new().unwrap();
        file.push(&batch.unwrap()).unwrap();
        let file = file.finish().unwrap();
        let rows: Vec<_> = read_pairs(file.into()).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].schema().fields(), schema().fields());
        assert_eq!(rows[0].column(0).as_string::<i32>().value(0), "10.0.0.1");
        let last = rows[0].column(4).as_primitive::<TimestampMillisecondType>();
        assert_eq!(last.value(0), 1_700_000_000_999);
    }

    #[test]
    fn another_batch_is_an_error_that_names_the_column() {
        let batch = RecordBatch::new_empty(Arc::new(Schema::empty()));
        let error = PairsFile::try_new().unwrap().push(&batch).unwrap_err().to_string();
        assert_eq!(error, "the pairs have no column \"source\"");
    }
}
