//! How rows are printed.
//!
//! Owns: the formats. Data goes to stdout, and nothing else does.

use datafusion::arrow::csv;
use datafusion::arrow::json::writer::JsonArray;
use datafusion::arrow::json::{Writer, WriterBuilder};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::display::FormatOptions;
use datafusion::arrow::util::pretty::pretty_format_batches_with_options;
use std::io::{Stdout, Write};

/// A time of a column without a zone. All such times are UTC, of an index as of a file, and say so: what
/// is printed is taken by `--since` as it is.
const UTC_TIME: &str = "%Y-%m-%dT%H:%M:%S%.fZ";

/// How answers are printed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
    /// For spreadsheets, with a header
    Csv,
}

/// Prints the rows of one statement as they come; a table only once it is whole.
pub(crate) enum RowPrinter {
    Table(Vec<RecordBatch>),
    Json(Box<Writer<Stdout, JsonArray>>),
    Csv {
        /// Only before the first rows.
        header: bool,
    },
}

impl RowPrinter {
    pub(crate) fn new(format: Format) -> Self {
        match format {
            Format::Table => Self::Table(Vec::new()),
            Format::Json => {
                let writer = WriterBuilder::new().with_explicit_nulls(true);
                let writer = writer.with_timestamp_format(UTC_TIME.into());
                Self::Json(Box::new(writer.build(std::io::stdout())))
            }
            Format::Csv => Self::Csv { header: true },
        }
    }

    pub(crate) fn print(&mut self, batch: RecordBatch) -> anyhow::Result<()> {
        match self {
            Self::Table(batches) => batches.push(batch),
            Self::Json(writer) => writer.write(&batch)?,
            Self::Csv { header } => {
                // Its own errors do not tell that nobody reads.
                let mut text = Vec::new();
                let writer = csv::WriterBuilder::new().with_header(*header);
                writer.with_timestamp_format(UTC_TIME.into()).build(&mut text).write(&batch)?;
                *header = false;
                print(std::str::from_utf8(&text)?)?;
            }
        }
        Ok(())
    }

    /// After the last row.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Table(batches) => {
                let options =
                    FormatOptions::new().with_display_error(true).with_timestamp_format(Some(UTC_TIME));
                print(&format!("{}\n", pretty_format_batches_with_options(&batches, &options)?))?;
            }
            Self::Json(mut writer) => {
                writer.finish()?;
                print("\n")?;
            }
            Self::Csv { .. } => {}
        }
        Ok(())
    }
}

/// To stdout. Unlike `println!` it is no panic if whoever reads it has seen enough.
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
