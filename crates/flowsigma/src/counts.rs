//! The counts of addresses: as a Parquet file, and the decision over them.
//!
//! Owns: the file's columns (address, outgoing, incoming), and the decision in this process. Must not know: where the file
//! is kept, or how flows are counted.

use anyhow::Context;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::MemTable;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::prelude::SessionContext;
use flow_detect::{Detection, Direction, Finding, Sigma, decide_rest_sql, decide_sql, read_detection};
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
    /// Returns the counts in batches of [`flow_detect::counts_sql`].
    pub(crate) fn of(batches: &[RecordBatch]) -> anyhow::Result<Self> {
        let mut counts = Self::default();
        for batch in batches {
            counts.push(batch)?;
        }
        Ok(counts)
    }

    /// Adds rows, in whatever text type they have their addresses.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        self.0.push(with_schema(batch, &schema(), "the counts")?);
        Ok(())
    }

    /// Returns them as a Parquet file.
    pub(crate) fn to_parquet(&self) -> anyhow::Result<Vec<u8>> {
        let mut writer = parquet_writer(schema())?;
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
    ///
    /// Up to `peel` times, the findings of a direction are taken out of the counts of that direction, and the rest is
    /// decided again.
    pub(crate) async fn decide(&self, sigma: Sigma, peel: u32) -> anyhow::Result<Decided> {
        let context = SessionContext::new();
        let table = MemTable::try_new(schema(), vec![self.0.clone()])?;
        context.register_table("kept", Arc::new(table))?;
        let mut detection = decide_in(&context, &decide_sql("kept", sigma)).await?;
        if peel > 0 {
            for finding in &mut detection.findings {
                finding.round = Some(1);
            }
        }
        let mut newest = detection.findings.clone();
        let mut round = 1;
        loop {
            // Also after the last round, because a warning says what is still hidden.
            let hidden = decide_rest(&context, &detection, &newest, sigma).await?;
            if hidden.is_empty() || round > peel {
                return Ok(Decided { detection, hidden });
            }
            round += 1;
            newest = hidden.into_iter().map(|finding| Finding { round: Some(round), ..finding }).collect();
            detection.add_findings(newest.iter().cloned());
        }
    }
}

/// The decision over counts.
pub(crate) struct Decided {
    pub(crate) detection: Detection,
    /// What one round more would find: the findings of `detection` hide these addresses.
    pub(crate) hidden: Vec<Finding>,
}

impl From<Detection> for Decided {
    /// Returns a decision without counts, so that it is not known which addresses are hidden.
    fn from(detection: Detection) -> Self {
        Self { detection, hidden: Vec::new() }
    }
}

async fn decide_in(context: &SessionContext, sql: &str) -> anyhow::Result<Detection> {
    let rows = context.sql(sql).await?.collect().await?;
    Ok(read_detection(&rows)?)
}

/// Decides over the counts without the findings of each direction. A direction without a finding in the newest round is
/// not decided again, because its counts have not changed.
async fn decide_rest(
    context: &SessionContext,
    detection: &Detection,
    newest: &[Finding],
    sigma: Sigma,
) -> anyhow::Result<Vec<Finding>> {
    let mut rest = Vec::new();
    for direction in [Direction::Outgoing, Direction::Incoming] {
        if !newest.iter().any(|finding| finding.direction == direction) {
            continue;
        }
        let found = detection.findings.iter().filter(|finding| finding.direction == direction);
        let found = StringArray::from_iter_values(found.map(|finding| finding.address.as_str()));
        let found = RecordBatch::try_from_iter([("address", Arc::new(found) as ArrayRef)])?;
        let table = MemTable::try_new(found.schema(), vec![vec![found]])?;
        context.register_table("found", Arc::new(table))?;
        let decided = decide_in(context, &decide_rest_sql("kept", "found", sigma)).await;
        context.deregister_table("found")?;
        rest.extend(decided?.findings.into_iter().filter(|finding| finding.direction == direction));
    }
    Ok(rest)
}

/// Returns the columns of `schema`, by name and with its types. `what` names the batch in an error.
pub(crate) fn with_schema(
    batch: &RecordBatch,
    schema: &SchemaRef,
    what: &str,
) -> anyhow::Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| {
        let column = batch
            .column_by_name(field.name())
            .with_context(|| format!("{what} have no column \"{}\"", field.name()))?;
        Ok(datafusion::arrow::compute::cast(column, field.data_type())?)
    });
    let columns = columns.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Returns a writer of a compressed Parquet file in memory.
pub(crate) fn parquet_writer(schema: SchemaRef) -> anyhow::Result<ArrowWriter<Vec<u8>>> {
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    Ok(ArrowWriter::try_new(Vec::new(), schema, Some(properties))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Int64Array, StringViewArray};

    /// One address with 1,000 outgoing flows among 30 with one each.
    fn counts() -> Counts {
        counts_of(&[(7, 1_000, 33)], (1, 33), 31)
    }

    /// `addresses` addresses with the counts of `others`, except those of `chosen`: number, outgoing, incoming.
    fn counts_of(chosen: &[(i64, i64, i64)], others: (i64, i64), addresses: i64) -> Counts {
        let count = |i, all: fn(&(i64, i64, i64)) -> i64, other| {
            chosen.iter().find(|(number, ..)| *number == i).map_or(other, all)
        };
        let outgoing: Vec<i64> = (0..addresses).map(|i| count(i, |c| c.1, others.0)).collect();
        let incoming: Vec<i64> = (0..addresses).map(|i| count(i, |c| c.2, others.1)).collect();
        let addresses: Vec<String> = (0..addresses).map(|i| format!("10.0.0.{i}")).collect();
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
                Arc::new(Int64Array::from(incoming)),
            ],
        );
        let mut counts = Counts::default();
        counts.push(&batch.unwrap()).unwrap();
        counts
    }

    #[tokio::test]
    async fn kept_counts_are_decided_as_new_ones_and_several_files_are_added_up() {
        let sigma: Sigma = "3".parse().unwrap();
        let once = counts().decide(sigma, 0).await.unwrap().detection;
        assert_eq!(once.findings.len(), 1);
        assert_eq!((once.findings[0].address.as_str(), once.findings[0].outgoing), ("10.0.0.7", 1_000));
        let file = bytes::Bytes::from(counts().to_parquet().unwrap());
        let mut kept = Counts::default();
        kept.push_parquet(file.clone()).unwrap();
        assert_eq!(kept.decide(sigma, 0).await.unwrap().detection, once);
        let mut twice = Counts::default();
        twice.push_parquet(file.clone()).unwrap();
        twice.push_parquet(file).unwrap();
        let twice = twice.decide(sigma, 0).await.unwrap().detection;
        assert_eq!((twice.findings[0].outgoing, twice.findings[0].incoming), (2_000, 66));
        assert_eq!(twice.statistics.outgoing.count, 31);
    }

    /// Address, direction and round of each finding.
    fn found(decided: &Decided) -> Vec<(&str, Direction, Option<u32>)> {
        decided.detection.findings.iter().map(|f| (f.address.as_str(), f.direction, f.round)).collect()
    }

    #[tokio::test]
    async fn findings_are_taken_out_until_nothing_stands_out_or_for_so_many_rounds() {
        let sigma: Sigma = "3".parse().unwrap();
        // Each hides the next.
        let counts = counts_of(&[(1, 1_000_000_000, 1), (2, 1_000_000, 1), (3, 1_000, 1)], (1, 1), 43);
        let first = counts.decide(sigma, 0).await.unwrap();
        let outgoing = Direction::Outgoing;
        assert_eq!(found(&first), [("10.0.0.1", outgoing, None)]);
        assert_eq!(first.hidden.len(), 1);
        assert_eq!(first.hidden[0].address, "10.0.0.2");
        let second = counts.decide(sigma, 1).await.unwrap();
        assert_eq!(found(&second), [("10.0.0.1", outgoing, Some(1)), ("10.0.0.2", outgoing, Some(2))]);
        assert_eq!(second.hidden.len(), 1);
        assert_eq!(second.hidden[0].address, "10.0.0.3");
        // The statistics are those of all addresses.
        assert_eq!(second.detection.statistics, first.detection.statistics);
        for peel in [2, 10] {
            let all = counts.decide(sigma, peel).await.unwrap();
            assert_eq!(found(&all).len(), 3);
            let last = &all.detection.findings[2];
            assert_eq!((last.address.as_str(), last.round), ("10.0.0.3", Some(3)));
            // One among 40 equal ones lies √40 away from the mean of its round.
            assert!((last.z - 40f64.sqrt()).abs() < 1e-9, "{}", last.z);
            assert!((last.mean - 1_040.0 / 41.0).abs() < 1e-9, "{}", last.mean);
            assert!(all.hidden.is_empty());
        }
    }

    #[tokio::test]
    async fn a_finding_is_taken_out_of_its_own_direction_only() {
        let counts = counts_of(&[(7, 1_000_000, 500), (8, 1_000, 100_000)], (1, 1), 40);
        let decided = counts.decide("3".parse().unwrap(), 10).await.unwrap();
        let (outgoing, incoming) = (Direction::Outgoing, Direction::Incoming);
        assert_eq!(
            found(&decided),
            [
                ("10.0.0.7", outgoing, Some(1)),
                ("10.0.0.8", outgoing, Some(2)),
                ("10.0.0.8", incoming, Some(1)),
                ("10.0.0.7", incoming, Some(2)),
            ]
        );
        // Of 39 addresses, all but the one that was taken out of this direction.
        for finding in decided.detection.findings.iter().filter(|f| f.round == Some(2)) {
            assert!((finding.z - 38f64.sqrt()).abs() < 1e-9, "{finding:?}");
        }
        assert!(decided.hidden.is_empty());
    }

    #[test]
    fn another_file_is_an_error_that_names_the_column() {
        let batch = RecordBatch::new_empty(Arc::new(Schema::empty()));
        let error = Counts::default().push(&batch).unwrap_err().to_string();
        assert_eq!(error, "the counts have no column \"address\"");
    }
}
