//! The sink of a COPY. It writes with DataFusion's sink to a hidden folder, and publishes complete files.
//!
//! Owns: one attempt, from its first row to its publication. Must not know: how files are published.
//!
//! DataFusion gives a sink all rows as one partition. So one task writes the whole COPY, and the result does not
//! depend on the distribution of rows over earlier tasks.

use super::staging::Attempt;
use super::target::{Shape, Target};
use super::{CopySpec, FileKind};
use async_trait::async_trait;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::datasource::physical_plan::{FileGroup, FileOutputMode, FileSinkConfig};
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexRequirement, PhysicalSortRequirement};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType};
use std::fmt;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What an executor needs to run a COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SinkSpec {
    pub(super) copy: CopySpec,
    pub(super) location: String,
    pub(super) partition_by: Vec<String>,
    pub(super) keep_partition_columns: bool,
    /// The order of the rows, which Parquet files declare.
    pub(super) sorted_by: Vec<SortedBy>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SortedBy {
    pub(super) column: String,
    pub(super) index: usize,
    pub(super) descending: bool,
    pub(super) nulls_first: bool,
}

impl SinkSpec {
    pub(super) fn new(copy: CopySpec, conf: &FileSinkConfig, order: Option<&LexRequirement>) -> Self {
        let of_session = conf.keep_partition_by_columns;
        Self {
            location: conf.original_url.clone(),
            partition_by: conf.table_partition_cols.iter().map(|(name, _)| name.clone()).collect(),
            keep_partition_columns: copy.options.keep_partition_columns.unwrap_or(of_session),
            // As in DataFusion, a file can only declare an order by plain columns.
            sorted_by: order
                .and_then(|order| order.iter().map(SortedBy::of).collect::<Option<Vec<_>>>())
                .unwrap_or_default(),
            copy,
        }
    }

    /// Returns the URL of the target.
    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    fn shape(&self) -> Option<Shape> {
        self.copy.shape(!self.partition_by.is_empty())
    }

    fn order(&self) -> Option<LexRequirement> {
        LexRequirement::new(self.sorted_by.iter().map(|sorted| {
            PhysicalSortRequirement::new(
                Arc::new(Column::new(&sorted.column, sorted.index)),
                Some(SortOptions { descending: sorted.descending, nulls_first: sorted.nulls_first }),
            )
        }))
    }
}

impl SortedBy {
    fn of(requirement: &PhysicalSortRequirement) -> Option<Self> {
        let (column, options) = (requirement.expr.downcast_ref::<Column>()?, requirement.options?);
        Some(Self {
            column: column.name().to_owned(),
            index: column.index(),
            descending: options.descending,
            nulls_first: options.nulls_first,
        })
    }
}

/// Writes the rows of a COPY exactly once.
#[derive(Debug)]
pub(crate) struct CopySink {
    spec: SinkSpec,
    schema: SchemaRef,
    stop: CancellationToken,
}

impl CopySink {
    pub(crate) fn new(spec: SinkSpec, schema: SchemaRef) -> Self {
        Self { spec, schema, stop: CancellationToken::new() }
    }

    pub(crate) fn spec(&self) -> &SinkSpec {
        &self.spec
    }

    /// Returns the same sink for one task. It publishes nothing after `stop` is cancelled.
    pub(crate) fn stopped_by(&self, stop: CancellationToken) -> Self {
        Self { spec: self.spec.clone(), schema: Arc::clone(&self.schema), stop }
    }

    /// Writes with DataFusion's own sink for the format.
    async fn write(
        &self,
        attempt: &Attempt,
        rows: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> Result<u64> {
        let session = SessionStateBuilder::new()
            .with_config(context.session_config().clone())
            .with_runtime_env(context.runtime_env())
            .build();
        let CopySpec { format, options, .. } = &self.spec.copy;
        let format = format.factory().create(&session, &options.of_format())?;
        let url = ListingTableUrl::try_new(attempt.output()?, None)?;
        let config = FileSinkConfig {
            original_url: url.to_string(),
            object_store_url: url.object_store(),
            file_group: FileGroup::default(),
            table_paths: vec![url],
            output_schema: Arc::clone(&self.schema),
            table_partition_cols: self
                .spec
                .partition_by
                .iter()
                .map(|name| (name.clone(), DataType::Null))
                .collect(),
            insert_op: InsertOp::Append,
            keep_partition_by_columns: self.spec.keep_partition_columns,
            file_extension: Attempt::unfinished(&extension(format.as_ref())),
            file_output_mode: match attempt.shape() {
                Shape::File => FileOutputMode::SingleFile,
                Shape::Folder => FileOutputMode::Directory,
            },
        };
        let no_rows = Arc::new(EmptyExec::new(Arc::clone(&self.schema)));
        let plan = format.create_writer_physical_plan(no_rows, &session, config, self.spec.order()).await?;
        let Some(writer) = plan.downcast_ref::<DataSinkExec>() else {
            return Err(DataFusionError::Internal(format!("{} is not a file sink", plan.name())));
        };
        writer.sink().write_all(rows, context).await
    }
}

/// Returns the file extension that DataFusion uses in a folder.
fn extension(format: &dyn FileFormat) -> String {
    let compressed = format.compression_type().and_then(|c| format.get_ext_with_compression(&c).ok());
    compressed.unwrap_or_else(|| format.get_ext())
}

impl DisplayAs for CopySink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SinkSpec { copy, location, .. } = &self.spec;
        write!(f, "CopySink(format={}, to={location})", FileKind::name(copy.format))
    }
}

#[async_trait]
impl DataSink for CopySink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(&self, rows: SendableRecordBatchStream, context: &Arc<TaskContext>) -> Result<u64> {
        let spec = self.spec.clone();
        let attempt = on_disk(move || {
            let target = Target::resolve(&spec.location, spec.shape())?;
            Attempt::begin(target, spec.copy.id.as_str(), spec.copy.options.existing)
        })
        .await?;
        let written = tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                Err(DataFusionError::Execution("the COPY was cancelled before its files were published".into()))
            }
            written = self.write(&attempt, rows, context) => written,
        };
        match written {
            Ok(count) => on_disk(move || attempt.publish()).await.map(|()| count),
            Err(error) => {
                on_disk(move || {
                    attempt.discard();
                    Ok(())
                })
                .await?;
                Err(error)
            }
        }
    }
}

async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| DataFusionError::External(Box::new(e)))?
}
