//! The file format of a COPY in a plan.
//!
//! Owns: replacing the sink of the plan. Everything else is DataFusion's format. Must not know: how files are
//! published.

use super::{CopySink, CopySpec, SinkSpec};
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::{GetExt, Statistics};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use datafusion::datasource::physical_plan::{FileScanConfig, FileSinkConfig, FileSource};
use datafusion::datasource::sink::DataSinkExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::object_store::{ObjectMeta, ObjectStore};
use datafusion::physical_expr::LexRequirement;
use datafusion::physical_plan::ExecutionPlan;
use std::collections::HashMap;
use std::sync::Arc;

/// A COPY's spec in the form of a file format, which a plan can contain.
#[derive(Debug)]
pub(crate) struct CopyFormatFactory {
    spec: CopySpec,
}

impl CopyFormatFactory {
    pub(crate) fn new(spec: CopySpec) -> Self {
        Self { spec }
    }

    pub(crate) fn spec(&self) -> &CopySpec {
        &self.spec
    }
}

impl GetExt for CopyFormatFactory {
    fn get_ext(&self) -> String {
        self.spec.format.name().to_owned()
    }
}

impl FileFormatFactory for CopyFormatFactory {
    /// Uses the options of the spec, because a serialized plan has lost DataFusion's own.
    fn create(&self, state: &dyn Session, _: &HashMap<String, String>) -> Result<Arc<dyn FileFormat>> {
        let format = self.spec.format.factory().create(state, &self.spec.options.of_format())?;
        Ok(Arc::new(CopyFormat { spec: self.spec.clone(), format }))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(CopyFormat { spec: self.spec.clone(), format: self.spec.format.factory().default() })
    }
}

#[derive(Debug)]
struct CopyFormat {
    spec: CopySpec,
    format: Arc<dyn FileFormat>,
}

#[async_trait]
impl FileFormat for CopyFormat {
    fn get_ext(&self) -> String {
        self.format.get_ext()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        self.format.get_ext_with_compression(compression)
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        self.format.compression_type()
    }

    async fn infer_schema(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        self.format.infer_schema(state, store, objects).await
    }

    async fn infer_stats(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<Statistics> {
        self.format.infer_stats(state, store, table_schema, object).await
    }

    async fn create_physical_plan(
        &self,
        state: &dyn Session,
        conf: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.format.create_physical_plan(state, conf).await
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        _state: &dyn Session,
        conf: FileSinkConfig,
        order: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::clone(conf.output_schema());
        let sink = CopySink::new(SinkSpec::new(self.spec.clone(), &conf, order.as_ref()), schema);
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), order)))
    }

    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        self.format.file_source(table_schema)
    }
}
