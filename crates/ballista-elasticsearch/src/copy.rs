//! `COPY … TO` in a plan.
//!
//! Owns: the spec of a COPY beside its query, and the analyzer rule that adds it to the plan. Must not know: how
//! rows become bytes (DataFusion does that), or any server.
//!
//! DataFusion's protobuf form of a COPY drops the options, and its sinks append files under random names. So a
//! plan names a format of this crate instead. It contains the options, and writes with [`sink::CopySink`].

mod format;
mod options;
mod sink;
mod staging;
mod target;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

pub(crate) use format::CopyFormatFactory;
pub(crate) use sink::{CopySink, SinkSpec};
pub use staging::delete_staged_files;
pub(crate) use target::target_path;

use self::options::CopyOptions;
use self::target::{Shape, Target, absolute};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::file_format::arrow::ArrowFormatFactory;
use datafusion::datasource::file_format::csv::CsvFormatFactory;
use datafusion::datasource::file_format::json::JsonFormatFactory;
use datafusion::datasource::file_format::parquet::ParquetFormatFactory;
use datafusion::datasource::file_format::{FileFormatFactory, file_type_to_format, format_as_file_type};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::dml::CopyTo;
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

/// The output of a COPY: its format and options, without its location and partition columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopySpec {
    /// Identifies a COPY. All its attempts have the same id.
    id: CopyId,
    format: FileKind,
    options: CopyOptions,
}

/// An id of 16 hexadecimal digits. File names contain it, so a plan with any other id is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CopyId(String);

impl CopyId {
    fn new() -> Self {
        Self(format!("{:016x}", rand::random::<u64>()))
    }

    fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CopyId {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        match text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => Ok(Self(text)),
            false => Err("the id of a COPY is not 16 hexadecimal digits".into()),
        }
    }
}

/// The formats that a COPY can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    Csv,
    Json,
    Parquet,
    Arrow,
}

impl FileKind {
    /// Returns the format with this file extension.
    fn of(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "json" => Some(Self::Json),
            "parquet" => Some(Self::Parquet),
            "arrow" => Some(Self::Arrow),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }

    /// Returns DataFusion's factory for the format.
    fn factory(self) -> Arc<dyn FileFormatFactory> {
        match self {
            Self::Csv => Arc::new(CsvFormatFactory::new()),
            Self::Json => Arc::new(JsonFormatFactory::new()),
            Self::Parquet => Arc::new(ParquetFormatFactory::new()),
            Self::Arrow => Arc::new(ArrowFormatFactory::new()),
        }
    }
}

/// Replaces the format of every COPY in a plan. The rule is idempotent: a scheduler applies it again, for plans of
/// clients that do not have the rule.
#[derive(Debug)]
pub(crate) struct CopyRule;

impl AnalyzerRule for CopyRule {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let ours = plan.transform_down(|node| match node {
            LogicalPlan::Copy(copy) => {
                let copy = with_our_format(copy, config)?;
                Ok(Transformed::new(LogicalPlan::Copy(copy), true, TreeNodeRecursion::Stop))
            }
            other => Ok(Transformed::no(other)),
        });
        Ok(ours?.data)
    }

    fn name(&self) -> &str {
        "flowsigma_copy"
    }
}

fn with_our_format(copy: CopyTo, config: &ConfigOptions) -> Result<CopyTo> {
    let given = file_type_to_format(&copy.file_type)?;
    if given.is::<CopyFormatFactory>() {
        return Ok(copy);
    }
    let extension = given.get_ext();
    let Some(format) = FileKind::of(&extension) else {
        return Err(DataFusionError::Configuration(format!(
            "COPY to \"{}\": files of format {extension} cannot be written; write csv, json, parquet or arrow",
            copy.output_url
        )));
    };
    let options = CopyOptions::parse(format, &copy.options, config)
        .map_err(|e| e.context(format!("COPY to \"{}\"", copy.output_url)))?;
    if options.shape == Some(Shape::File) && !copy.partition_by.is_empty() {
        return Err(DataFusionError::Configuration(format!(
            "COPY to \"{}\": PARTITIONED BY writes a folder, and single_file_output asks for a file",
            copy.output_url
        )));
    }
    let output_url = absolute(&copy.output_url)?;
    let spec = CopySpec { id: CopyId::new(), format, options };
    Ok(CopyTo { output_url, file_type: format_as_file_type(Arc::new(CopyFormatFactory::new(spec))), ..copy })
}

/// Checks what a COPY would overwrite, on the disk of this machine.
///
/// # Errors
///
/// Returns the error that the COPY itself would return after it has read its rows.
pub(crate) fn check_target(plan: &LogicalPlan) -> Result<()> {
    let copy = match plan {
        LogicalPlan::Copy(copy) => copy,
        LogicalPlan::Analyze(analyze) => return check_target(&analyze.input),
        // Other plans with a COPY, such as EXPLAIN, write nothing.
        _ => return Ok(()),
    };
    let format = file_type_to_format(&copy.file_type)?;
    let Some(ours) = format.downcast_ref::<CopyFormatFactory>() else { return Ok(()) };
    let spec = ours.spec();
    let shape = spec.shape(!copy.partition_by.is_empty());
    Target::resolve(&copy.output_url, shape)?.admit(spec.id.as_str(), spec.options.existing).map(drop)
}

impl CopySpec {
    /// Returns whether the COPY writes a file or a folder; `None` if the location decides.
    fn shape(&self, partitioned: bool) -> Option<Shape> {
        if partitioned { Some(Shape::Folder) } else { self.options.shape }
    }
}
