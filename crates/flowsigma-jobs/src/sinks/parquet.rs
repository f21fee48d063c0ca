//! Findings as a Parquet file.
//!
//! Owns: its schema. Must not know: where the file is written.
//!
//! The columns have the names of those in CSV. The file is made by the column writers of the crate `parquet`, which need
//! no Arrow.

use crate::alert::{Alert, AlertState};
use jiff::Timestamp;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use std::sync::Arc;

const SCHEMA: &str = "message findings {
    required binary id (STRING);
    required binary job (STRING);
    required int64 window_start (TIMESTAMP(MICROS, true));
    required int64 window_end (TIMESTAMP(MICROS, true));
    required int32 revision (INTEGER(32, false));
    required binary state (STRING);
    required binary direction (STRING);
    required binary address (STRING);
    required int64 outgoing (INTEGER(64, false));
    required int64 incoming (INTEGER(64, false));
    required double mean;
    required double stddev;
    required double z;
    required int64 detected (TIMESTAMP(MICROS, true));
}";

/// Returns findings as a Parquet file with one row group.
///
/// # Errors
///
/// If they cannot be encoded.
pub(super) fn file(alerts: &[Alert]) -> std::result::Result<Vec<u8>, String> {
    encode(alerts).map_err(|error| format!("the findings cannot be written as Parquet: {error}"))
}

fn encode(alerts: &[Alert]) -> Result<Vec<u8>> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties)?;
    fill(Rows { alerts, group: writer.next_row_group()? })?;
    writer.into_inner()
}

/// Writes all columns.
fn fill(mut rows: Rows<'_, '_>) -> Result<()> {
    rows.texts(|alert| &alert.id)?;
    rows.texts(|alert| &alert.job)?;
    rows.times(|alert| alert.window.start)?;
    rows.times(|alert| alert.window.end)?;
    rows.revisions()?;
    rows.texts(|alert| match alert.state {
        AlertState::New => "new",
        AlertState::Amended => "amended",
        AlertState::Withdrawn => "withdrawn",
    })?;
    rows.texts(|alert| &alert.finding.direction)?;
    rows.texts(|alert| &alert.finding.address)?;
    rows.integers(|alert| alert.finding.outgoing.cast_signed())?;
    rows.integers(|alert| alert.finding.incoming.cast_signed())?;
    rows.numbers(|alert| alert.finding.mean)?;
    rows.numbers(|alert| alert.finding.stddev)?;
    rows.numbers(|alert| alert.finding.z)?;
    rows.times(|alert| alert.detected)?;
    rows.group.close().map(|_| ())
}

/// Writes the columns of a row group in their order.
struct Rows<'a, 'f> {
    alerts: &'a [Alert],
    group: SerializedRowGroupWriter<'f, Vec<u8>>,
}

impl Rows<'_, '_> {
    fn texts(&mut self, of: impl Fn(&Alert) -> &str) -> Result<()> {
        let values: Vec<ByteArray> = self.alerts.iter().map(|alert| ByteArray::from(of(alert))).collect();
        self.column::<ByteArrayType>(&values)
    }

    fn times(&mut self, of: impl Fn(&Alert) -> Timestamp) -> Result<()> {
        self.integers(|alert| of(alert).as_microsecond())
    }

    fn integers(&mut self, of: impl Fn(&Alert) -> i64) -> Result<()> {
        let values: Vec<i64> = self.alerts.iter().map(of).collect();
        self.column::<Int64Type>(&values)
    }

    fn revisions(&mut self) -> Result<()> {
        let values: Vec<i32> = self.alerts.iter().map(|alert| alert.revision.cast_signed()).collect();
        self.column::<Int32Type>(&values)
    }

    fn numbers(&mut self, of: impl Fn(&Alert) -> f64) -> Result<()> {
        let values: Vec<f64> = self.alerts.iter().map(of).collect();
        self.column::<DoubleType>(&values)
    }

    /// Writes the next column.
    fn column<T: parquet::data_type::DataType>(&mut self, values: &[T::T]) -> Result<()> {
        let Some(mut column) = self.group.next_column()? else { return Ok(()) };
        column.typed::<T>().write_batch(values, None, None)?;
        column.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::tests::alerts;
    use bytes::Bytes;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    #[test]
    fn a_file_has_a_row_for_each_finding_and_the_columns_of_csv() {
        let reader = SerializedFileReader::new(Bytes::from(file(&alerts(2)).unwrap())).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap()).collect();
        assert_eq!(rows.len(), 2);
        let names: Vec<&str> = rows[1].get_column_iter().map(|(name, _)| name.as_str()).collect();
        let header = std::str::from_utf8(crate::sinks::csv::HEADER).unwrap();
        assert_eq!(names.join(","), header.trim_end());
        let shown: Vec<String> = rows[1].get_column_iter().map(|(_, value)| value.to_string()).collect();
        assert_eq!(shown[7], "\"10.0.0.2\"");
        assert_eq!(shown[2], "2026-01-01 00:00:00.000000 +00:00");
        assert_eq!(shown[4..7], ["1", "\"new\"", "\"outgoing\""]);
        assert_eq!(shown[8..13], ["90", "4", "10.5", "2.25", "35.0"]);
    }
}
