//! How rows are printed.
//!
//! Owns: the formats. Must not know: what the rows mean. Rows go to stdout, and nothing else does.

use comfy_table::{Table, presets};
use datafusion::arrow::csv;
use datafusion::arrow::json::writer::JsonArray;
use datafusion::arrow::json::{Writer, WriterBuilder};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::display::FormatOptions;
use datafusion::arrow::util::pretty::pretty_format_batches_with_options;
use std::io::{Stdout, Write};

/// The format of a time in a column without a zone. Such times are UTC, in indices and in files, and are printed with
/// `Z`, so that `--since` accepts them unchanged.
const UTC_TIME: &str = "%Y-%m-%dT%H:%M:%S%.fZ";

/// An output format.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    /// Tables for people
    Table,
    /// JSON for programs
    Json,
    /// CSV with a header, for spreadsheets
    Csv,
}

/// Returns an empty table for people.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_header(header);
    table
}

/// Prints the rows of one statement as they arrive. A table is printed once it is complete.
pub(crate) enum RowPrinter {
    Table(Vec<RecordBatch>),
    Json(Box<Writer<Stdout, JsonArray>>),
    Csv {
        /// Whether the header is still to be printed.
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
                // The writer's errors do not tell that stdout was closed, so it writes to memory.
                let mut text = Vec::new();
                let writer = csv::WriterBuilder::new().with_header(*header);
                writer.with_timestamp_format(UTC_TIME.into()).build(&mut text).write(&batch)?;
                *header = false;
                print(std::str::from_utf8(&text)?)?;
            }
        }
        Ok(())
    }

    /// Ends the output after the last row.
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

/// Prints to stdout. Unlike `println!`, it returns an error instead of a panic if stdout was closed.
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
