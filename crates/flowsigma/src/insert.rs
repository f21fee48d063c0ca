//! `INSERT INTO` a table of an index.
//!
//! Owns: the document of a row, and its id. Must not know: how documents are sent (`BulkWriter`).
//!
//! The query runs on the cluster. This process writes its rows, by its own connection: a cluster never writes to a
//! server for a client.

use crate::failure::Failure;
use crate::output::{Format, RowPrinter};
use crate::run::{RowSink, Runner};
use anyhow::{Context, anyhow, bail};
use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float16Type, Float32Type, Float64Type, Schema};
use datafusion::arrow::json::writer::LineDelimited;
use datafusion::arrow::json::{Writer, WriterBuilder};
use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{LogicalPlan, WriteOp};
use datafusion_elasticsearch::EsTable;
use elastic_client::{BulkDocument, BulkWriter};
use serde_json::value::RawValue;
use std::sync::Arc;

/// The metadata column with the id of a document.
const ID: &str = "_id";
/// The form of times in documents: UTC in ISO 8601, which the default format of dates accepts.
const TIME: &str = "%Y-%m-%dT%H:%M:%S%.fZ";

/// An `INSERT INTO` a table of an index.
pub(crate) struct Insert {
    query: LogicalPlan,
    table: String,
    /// The columns of the table, in the order of the query's.
    columns: Vec<String>,
    writer: BulkWriter,
}

impl Insert {
    /// Returns the insert that a plan is, or `None` if it is another plan.
    ///
    /// # Errors
    ///
    /// If the connection of the table may only read, or if the table is of more than one index.
    pub(crate) fn of(plan: &LogicalPlan, runner: &Runner) -> anyhow::Result<Option<Self>> {
        let LogicalPlan::Dml(dml) = plan else { return Ok(None) };
        let provider = source_as_provider(&dml.target)?;
        let Some(table) = provider.downcast_ref::<EsTable>() else { return Ok(None) };
        let name = &dml.table_name;
        if dml.op != WriteOp::Insert(InsertOp::Append) {
            bail!(
                "table \"{name}\" is of an index: of the statements that write, only INSERT INTO is possible"
            );
        }
        let spec = table.spec();
        let connection = runner.registry().get(&spec.connection)?;
        let writer =
            BulkWriter::try_new(connection, &spec.index).with_context(|| format!("INSERT INTO {name}"))?;
        let columns = dml.target.schema().fields().iter().map(|field| field.name().clone()).collect();
        Ok(Some(Self { query: dml.input.as_ref().clone(), table: name.to_string(), columns, writer }))
    }

    /// Writes the rows, and prints their number.
    pub(crate) async fn run(self, runner: &Runner, format: Format) -> Result<(), Failure> {
        let Self { query, table, columns, writer } = self;
        let prefix = format!("{:032x}", rand::random::<u128>());
        let mut rows = Rows { writer, columns, table, prefix, written: 0 };
        runner.run(query, &mut rows).await?;
        let schema = Schema::new(vec![Field::new("count", DataType::UInt64, false)]);
        let count: ArrayRef = Arc::new(UInt64Array::from(vec![rows.written]));
        let count = RecordBatch::try_new(Arc::new(schema), vec![count]).map_err(Failure::running)?;
        let mut printer = RowPrinter::new(format);
        printer.print(count).map_err(Failure::running)?;
        printer.finish().map_err(Failure::running)
    }
}

/// Writes each row as a document. An id is the column `_id`, or else unique for the statement and the row, so that a
/// request that is sent again writes the row once.
struct Rows {
    writer: BulkWriter,
    columns: Vec<String>,
    table: String,
    prefix: String,
    written: u64,
}

#[async_trait]
impl RowSink for Rows {
    async fn take(&mut self, batch: RecordBatch) -> anyhow::Result<()> {
        let written = match documents(&self.columns, &batch, &self.prefix, self.written) {
            Ok(documents) => self.writer.write(documents).await.map_err(anyhow::Error::from),
            Err(error) => Err(error),
        };
        written.map_err(|error| {
            anyhow!(
                "INSERT INTO {}: {error:#}; what was written stays, at least the first {} rows, and a second run \
                 writes it again unless the statement sets {ID}",
                self.table,
                self.written
            )
        })?;
        self.written += batch.num_rows() as u64;
        Ok(())
    }
}

/// Returns the rows as documents, without their nulls. `first` is the number of rows before.
fn documents(
    columns: &[String],
    batch: &RecordBatch,
    prefix: &str,
    first: u64,
) -> anyhow::Result<Vec<BulkDocument>> {
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    let mut ids: Option<ArrayRef> = None;
    for (name, array) in columns.iter().zip(batch.columns()) {
        if name == ID {
            ids = Some(cast(array, &DataType::Utf8)?);
            continue;
        }
        if name.starts_with('_') && array.null_count() < array.len() {
            bail!("column \"{name}\" is metadata, which cannot be written: leave it out");
        }
        check(name, array)?;
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(Arc::clone(array));
    }
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
    let mut text = Vec::new();
    let mut writer: Writer<_, LineDelimited> =
        WriterBuilder::new().with_timestamp_format(TIME.into()).build(&mut text);
    writer.write(&rows)?;
    writer.finish()?;
    drop(writer);
    let mut documents = Vec::with_capacity(batch.num_rows());
    for (row, line) in std::str::from_utf8(&text)?.lines().enumerate() {
        let given = ids.as_ref().map(|ids| ids.as_string::<i32>()).filter(|ids| ids.is_valid(row));
        let id = match given {
            Some(ids) => ids.value(row).to_owned(),
            None => format!("{prefix}-{}", first + row as u64),
        };
        documents.push(BulkDocument::try_new(&id, &RawValue::from_string(line.to_owned())?)?);
    }
    if documents.len() != batch.num_rows() {
        bail!("{} of {} rows became documents", documents.len(), batch.num_rows());
    }
    Ok(documents)
}

/// Refuses values that JSON does not have, and that would be written as other ones.
fn check(name: &str, array: &ArrayRef) -> anyhow::Result<()> {
    let is_finite = match array.data_type() {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            if array.null_count() < array.len() {
                bail!("column \"{name}\" is binary, which cannot be inserted: leave it out");
            }
            true
        }
        DataType::List(_) => return check(name, array.as_list::<i32>().values()),
        DataType::Float64 => array.as_primitive::<Float64Type>().iter().flatten().all(f64::is_finite),
        DataType::Float32 => array.as_primitive::<Float32Type>().iter().flatten().all(f32::is_finite),
        DataType::Float16 => {
            array.as_primitive::<Float16Type>().iter().flatten().all(|value| value.to_f32().is_finite())
        }
        _ => true,
    };
    if !is_finite {
        bail!("column \"{name}\" has an infinite value or one that is no number, which JSON does not have");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Float64Array, Int64Array, StringArray, TimestampMillisecondArray};

    fn text(columns: Vec<(&str, ArrayRef)>) -> anyhow::Result<String> {
        let names: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let columns = columns.into_iter().map(|(name, array)| (name, array, true));
        let rows = RecordBatch::try_from_iter_with_nullable(columns)?;
        Ok(format!("{:?}", documents(&names, &rows, "p", 7)?))
    }

    #[test]
    fn a_row_is_a_document_without_its_nulls() {
        let documents = text(vec![
            ("@timestamp", Arc::new(TimestampMillisecondArray::from(vec![Some(1_500), None]))),
            ("source.ip", Arc::new(StringArray::from(vec!["10.0.0.1", "10.0.0.2"]))),
            ("bytes", Arc::new(Int64Array::from(vec![None, Some(i64::MAX)]))),
        ])
        .unwrap();
        for part in [
            r#"{\"index\":{\"_id\":\"p-7\"}}"#,
            r#"{\"@timestamp\":\"1970-01-01T00:00:01.500Z\",\"source.ip\":\"10.0.0.1\"}"#,
            r#"{\"source.ip\":\"10.0.0.2\",\"bytes\":9223372036854775807}"#,
        ] {
            assert!(documents.contains(part), "{part}: {documents}");
        }
    }

    #[test]
    fn an_id_of_the_statement_is_that_of_the_document() {
        let documents = text(vec![
            ("_id", Arc::new(StringArray::from(vec![Some("a"), None]))),
            ("n", Arc::new(Int64Array::from(vec![1, 2]))),
        ])
        .unwrap();
        for part in [r#"{\"_id\":\"a\"}}\n{\"n\":1}"#, r#"{\"_id\":\"p-8\"}}\n{\"n\":2}"#] {
            assert!(documents.contains(part), "{part}: {documents}");
        }
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN]));
        let error = text(vec![("score", numbers)]).unwrap_err().to_string();
        assert!(error.contains("column \"score\""), "{error}");
        let index: ArrayRef = Arc::new(StringArray::from(vec!["flows"]));
        let error = text(vec![("_index", index)]).unwrap_err().to_string();
        assert!(error.contains("column \"_index\" is metadata"), "{error}");
    }
}
