//! How rows are printed.
//!
//! Owns: the formats. Data goes to stdout, and nothing else does.

use datafusion::arrow::csv;
use datafusion::arrow::json::writer::JsonArray;
use datafusion::arrow::json::{Writer, WriterBuilder};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use std::io::{Stdout, Write};

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
    Csv(Box<csv::Writer<Stdout>>),
}

impl RowPrinter {
    pub(crate) fn new(format: Format) -> Self {
        match format {
            Format::Table => Self::Table(Vec::new()),
            Format::Json => {
                let writer = WriterBuilder::new().with_explicit_nulls(true).build(std::io::stdout());
                Self::Json(Box::new(writer))
            }
            Format::Csv => Self::Csv(Box::new(csv::Writer::new(std::io::stdout()))),
        }
    }

    pub(crate) fn print(&mut self, batch: RecordBatch) -> anyhow::Result<()> {
        match self {
            Self::Table(batches) => batches.push(batch),
            Self::Json(writer) => writer.write(&batch)?,
            Self::Csv(writer) => writer.write(&batch)?,
        }
        Ok(())
    }

    /// After the last row.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Table(batches) => print(&format!("{}\n", pretty_format_batches(&batches)?))?,
            Self::Json(mut writer) => {
                writer.finish()?;
                print("\n")?;
            }
            Self::Csv(_) => print("")?,
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
