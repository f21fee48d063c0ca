//! The codecs for tables, scans and COPYs in plans.
//!
//! Owns: the envelope. Must not know: its content, which `wire` and `copy::wire` define, or any server. Decoding
//! does no I/O. A plan names a connection, never its URL or its secrets.

use crate::copy::wire::{decode_copy, decode_sink, encode_copy, encode_sink};
use crate::copy::{CopyFormatFactory, CopySink};
use ballista_core::serde::{BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::file_format::FileFormatFactory;
use datafusion::datasource::sink::DataSinkExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{AggregateUDF, Extension, LogicalPlan, ScalarUDF, WindowUDF};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_elasticsearch::{EsAggregateExec, EsScanExec, EsTable, wire};
use datafusion_proto::logical_plan::LogicalExtensionCodec;
use datafusion_proto::physical_plan::{
    ComposedPhysicalExtensionCodec, PhysicalExtensionCodec, PhysicalProtoConverterExtension,
};
use elastic_client::ConnectionRegistry;
use prost::Message;
use std::any::Any;
use std::sync::Arc;

/// Distinguishes messages of this crate from those of other codecs.
const MAGIC: &str = "flowsigma";

/// The envelope of all messages of this crate. Tags are append-only.
#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(string, tag = "1")]
    magic: String,
    #[prost(oneof = "Body", tags = "2, 3, 4, 5, 6")]
    body: Option<Body>,
}

/// The content of a message, as JSON.
#[derive(Clone, PartialEq, prost::Oneof)]
enum Body {
    #[prost(string, tag = "2")]
    Table(String),
    #[prost(string, tag = "3")]
    Scan(String),
    #[prost(string, tag = "4")]
    Copy(String),
    #[prost(string, tag = "5")]
    Sink(String),
    /// Has no content: the input of the plan node says everything.
    #[prost(string, tag = "6")]
    Aggregate(String),
}

impl Wire {
    fn encode_into(body: Body, buf: &mut Vec<u8>) -> Result<()> {
        let wire = Self { magic: MAGIC.into(), body: Some(body) };
        wire.encode(buf).map_err(|e| DataFusionError::External(Box::new(e)))
    }

    fn decode_ours(buf: &[u8]) -> Option<Body> {
        Self::decode(buf).ok().filter(|w| w.magic == MAGIC)?.body
    }
}

/// The codec for Elasticsearch tables in logical plans. Ballista's codec handles everything else.
#[derive(Debug)]
pub struct EsLogicalCodec {
    registry: Arc<ConnectionRegistry>,
    inner: BallistaLogicalExtensionCodec,
}

impl EsLogicalCodec {
    /// Creates a codec whose decoded tables resolve their connections in `registry`.
    pub fn new(registry: Arc<ConnectionRegistry>) -> Self {
        Self { registry, inner: BallistaLogicalExtensionCodec::default() }
    }
}

impl LogicalExtensionCodec for EsLogicalCodec {
    fn try_decode(&self, buf: &[u8], inputs: &[LogicalPlan], ctx: &TaskContext) -> Result<Extension> {
        self.inner.try_decode(buf, inputs, ctx)
    }

    fn try_encode(&self, node: &Extension, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode(node, buf)
    }

    fn try_decode_table_provider(
        &self,
        buf: &[u8],
        table_ref: &TableReference,
        schema: SchemaRef,
        ctx: &TaskContext,
    ) -> Result<Arc<dyn TableProvider>> {
        match Wire::decode_ours(buf) {
            Some(Body::Table(text)) => {
                let spec = wire::decode_table(&text)?;
                let table = EsTable::from_spec(Arc::clone(&self.registry), spec);
                // The plan refers to the columns by position.
                if table.schema() != schema {
                    return Err(DataFusionError::Plan(format!(
                        "a plan arrived with other columns than the table of index \"{}\" that it reads: run \
                         one version on all nodes of the cluster",
                        table.spec().index
                    )));
                }
                Ok(Arc::new(table))
            }
            Some(Body::Scan(_) | Body::Copy(_) | Body::Sink(_) | Body::Aggregate(_)) | None => {
                self.inner.try_decode_table_provider(buf, table_ref, schema, ctx)
            }
        }
    }

    fn try_encode_table_provider(
        &self,
        table_ref: &TableReference,
        node: Arc<dyn TableProvider>,
        buf: &mut Vec<u8>,
    ) -> Result<()> {
        match (node.as_ref() as &dyn Any).downcast_ref::<EsTable>() {
            Some(table) => Wire::encode_into(Body::Table(wire::encode_table(table.spec())?), buf),
            None => self.inner.try_encode_table_provider(table_ref, node, buf),
        }
    }

    fn try_decode_file_format(&self, buf: &[u8], ctx: &TaskContext) -> Result<Arc<dyn FileFormatFactory>> {
        match Wire::decode_ours(buf) {
            Some(Body::Copy(text)) => Ok(Arc::new(CopyFormatFactory::new(decode_copy(&text)?))),
            Some(Body::Table(_) | Body::Scan(_) | Body::Sink(_) | Body::Aggregate(_)) | None => {
                self.inner.try_decode_file_format(buf, ctx)
            }
        }
    }

    fn try_encode_file_format(&self, buf: &mut Vec<u8>, node: Arc<dyn FileFormatFactory>) -> Result<()> {
        match node.downcast_ref::<CopyFormatFactory>() {
            Some(copy) => Wire::encode_into(Body::Copy(encode_copy(copy.spec())?), buf),
            None => self.inner.try_encode_file_format(buf, node),
        }
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        self.inner.try_decode_udf(name, buf)
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udf(node, buf)
    }

    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        self.inner.try_decode_udaf(name, buf)
    }

    fn try_encode_udaf(&self, node: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udaf(node, buf)
    }

    fn try_decode_udwf(&self, name: &str, buf: &[u8]) -> Result<Arc<WindowUDF>> {
        self.inner.try_decode_udwf(name, buf)
    }

    fn try_encode_udwf(&self, node: &WindowUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udwf(node, buf)
    }
}

/// The codec for scans, pushed aggregates and the sinks of COPYs in physical plans.
#[derive(Debug)]
pub struct EsPhysicalCodec {
    registry: Arc<ConnectionRegistry>,
}

impl EsPhysicalCodec {
    /// Creates a codec whose decoded scans resolve their connections in `registry`.
    pub fn new(registry: Arc<ConnectionRegistry>) -> Self {
        Self { registry }
    }
}

impl PhysicalExtensionCodec for EsPhysicalCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        _ctx: &TaskContext,
        _proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (Wire::decode_ours(buf), inputs) {
            (Some(Body::Scan(text)), [child]) => {
                let spec = wire::decode_scan(&text)?;
                Ok(Arc::new(EsScanExec::over(Arc::clone(&self.registry), spec, Arc::clone(child))))
            }
            (Some(Body::Aggregate(_)), [child]) => match EsAggregateExec::try_new(Arc::clone(child))? {
                Ok(aggregate) => Ok(Arc::new(aggregate)),
                Err(reason) => Err(DataFusionError::Plan(format!(
                    "an aggregate arrived that this version does not push down ({reason}): run one version on all \
                     nodes of the cluster"
                ))),
            },
            (Some(Body::Sink(text)), [child]) => {
                let sink = CopySink::new(decode_sink(&text)?, child.schema());
                // The plan below the sink is complete, so the sink requires no order.
                Ok(Arc::new(DataSinkExec::new(Arc::clone(child), Arc::new(sink), None)))
            }
            _ => Err(DataFusionError::Internal("neither a scan, an aggregate nor a sink of ours".into())),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        _proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        if node.is::<EsAggregateExec>() {
            return Wire::encode_into(Body::Aggregate(String::new()), buf);
        }
        let sink = || node.downcast_ref::<DataSinkExec>()?.sink().downcast_ref::<CopySink>();
        match (node.downcast_ref::<EsScanExec>(), sink()) {
            (Some(scan), _) => Wire::encode_into(Body::Scan(wire::encode_scan(scan.spec())?), buf),
            (None, Some(sink)) => Wire::encode_into(Body::Sink(encode_sink(sink.spec())?), buf),
            (None, None) => Err(DataFusionError::NotImplemented(format!(
                "{} is neither a scan, an aggregate nor a sink of ours",
                node.name()
            ))),
        }
    }
}

/// Returns a codec that combines Ballista's codec with [`EsPhysicalCodec`].
pub fn physical_codec(registry: &Arc<ConnectionRegistry>) -> Arc<dyn PhysicalExtensionCodec> {
    Arc::new(ComposedPhysicalExtensionCodec::new(vec![
        Arc::new(BallistaPhysicalExtensionCodec::default()),
        Arc::new(EsPhysicalCodec::new(Arc::clone(registry))),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::datasource::file_format::csv::CsvFormatFactory;
    use datafusion::physical_plan::empty::EmptyExec;
    use datafusion_proto::logical_plan::AsLogicalPlan;
    use datafusion_proto::physical_plan::DefaultPhysicalProtoConverter;
    use datafusion_proto::protobuf::logical_plan_node::LogicalPlanType;
    use datafusion_proto::protobuf::{CustomTableScanNode, LogicalPlanNode, ProjectionColumns};
    use serde_json::json;

    /// Returns a plan that reads the columns `asked` of a table with the one column `bytes`, and that declares the
    /// columns `claimed` for the table.
    fn arrived(claimed: &[&str], asked: &str) -> Result<LogicalPlan> {
        let spec = json!({
            "connection": "prod", "index": "flows", "query": { "match_all": {} }, "slices": null,
            "page_size": 10, "keep_alive_ms": 60_000, "read": "auto", "snapshot": null,
            "columns": [{
                "name": "bytes", "field_type": "long", "read_from": { "doc_values": { "format": null } },
                "array": false, "source_path": "bytes", "indexed": true, "doc_values": true,
                "keyword_subfield": null, "normalizer": false, "ignore_above": null, "null_value": false,
                "mixed": false,
            }],
        });
        let mut custom_table_data = Vec::new();
        Wire::encode_into(Body::Table(spec.to_string()), &mut custom_table_data)?;
        let fields: Vec<Field> =
            claimed.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
        let scan = CustomTableScanNode {
            table_name: Some(TableReference::bare("flows").into()),
            projection: Some(ProjectionColumns { columns: vec![asked.to_owned()] }),
            schema: Some((&Schema::new(fields)).try_into()?),
            filters: Vec::new(),
            custom_table_data,
        };
        let node = LogicalPlanNode { logical_plan_type: Some(LogicalPlanType::CustomScan(scan)) };
        node.try_into_logical_plan(&TaskContext::default(), &EsLogicalCodec::new(Arc::default()))
    }

    fn kept(name: &str) -> Vec<u8> {
        let path = format!("{}/../../fuzz/seeds/codec/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    fn table_again(sent: &[u8]) -> Vec<u8> {
        let codec = EsLogicalCodec::new(Arc::default());
        let Some(Body::Table(text)) = Wire::decode_ours(sent) else { panic!("not a table") };
        let schema = EsTable::from_spec(Arc::default(), wire::decode_table(&text).unwrap()).schema();
        let named = TableReference::bare("flows");
        let table = codec.try_decode_table_provider(sent, &named, schema, &TaskContext::default()).unwrap();
        let mut again = Vec::new();
        codec.try_encode_table_provider(&named, table, &mut again).unwrap();
        again
    }

    fn node_again(sent: &[u8]) -> Vec<u8> {
        let codec = EsPhysicalCodec::new(Arc::default());
        let child: Arc<dyn ExecutionPlan> = Arc::new(EmptyExec::new(Arc::new(Schema::empty())));
        let converter = DefaultPhysicalProtoConverter {};
        let node = codec.try_decode(sent, &[child], &TaskContext::default(), &converter).unwrap();
        let mut again = Vec::new();
        codec.try_encode(node, &mut again, &converter).unwrap();
        again
    }

    fn copy_again(sent: &[u8]) -> Vec<u8> {
        let codec = EsLogicalCodec::new(Arc::default());
        let format = codec.try_decode_file_format(sent, &TaskContext::default()).unwrap();
        let mut again = Vec::new();
        codec.try_encode_file_format(&mut again, format).unwrap();
        again
    }

    /// Processes of two versions may meet. This version reads the bytes of every earlier version, and still writes
    /// the bytes that were stored when its format was made. A change of these bytes needs a new format.
    #[test]
    fn what_was_sent_before_is_still_read_and_what_is_sent_stays_as_it_is() {
        type Again = fn(&[u8]) -> Vec<u8>;
        let kinds: [(&str, Again); 5] = [
            ("table", table_again),
            ("table_before_pushdown", table_again),
            ("scan", node_again),
            ("copy", copy_again),
            ("sink", node_again),
        ];
        for (first, again) in kinds {
            let expected = String::from_utf8_lossy(&kept(&format!("{first}_3"))).into_owned();
            for name in [first.to_owned(), format!("{first}_2"), format!("{first}_3")] {
                assert_eq!(String::from_utf8_lossy(&again(&kept(&name))), expected, "{name}");
            }
        }
    }

    #[test]
    fn a_format_of_a_later_version_is_an_error_that_says_so() {
        let change = |name: &str| match Wire::decode_ours(&kept(name)) {
            Some(Body::Table(text) | Body::Scan(text) | Body::Copy(text) | Body::Sink(text)) => {
                text.replacen("\"version\":3", "\"version\":4", 1)
            }
            Some(Body::Aggregate(_)) | None => panic!("{name} is none of ours"),
        };
        for (operation, error) in [
            ("a table", wire::decode_table(&change("table_3")).unwrap_err()),
            ("a scan", wire::decode_scan(&change("scan_3")).unwrap_err()),
            ("a COPY", decode_copy(&change("copy_3")).unwrap_err()),
            ("the sink of a COPY", decode_sink(&change("sink_3")).unwrap_err()),
        ] {
            let error = error.to_string();
            let expected = format!("{operation} arrived in format 4, and this version reads formats 1 to 3");
            assert!(error.contains(&expected), "{error}");
        }
    }

    #[test]
    fn a_copy_of_no_other_id_is_read() {
        let context = TaskContext::default();
        let logical = EsLogicalCodec::new(Arc::default());
        let read = |sent: &[u8]| logical.try_decode_file_format(sent, &context);
        // Files are named by this id.
        let Some(Body::Copy(text)) = Wire::decode_ours(&kept("copy")) else { panic!("not a COPY") };
        for id in ["../../../../../x", "00000000000000a", "00000000000000a\u{e9}"] {
            let mut other = Vec::new();
            Wire::encode_into(Body::Copy(text.replace("00000000000000aa", id)), &mut other).unwrap();
            let error = read(&other).unwrap_err().to_string();
            assert!(error.contains("the id of a COPY is not 16 hexadecimal digits"), "{error}");
        }
        // Ballista's codec decodes DataFusion's own formats.
        let mut csv = Vec::new();
        logical.try_encode_file_format(&mut csv, Arc::new(CsvFormatFactory::new())).unwrap();
        assert!(read(&csv).unwrap().is::<CsvFormatFactory>());
    }

    #[test]
    fn a_plan_with_other_columns_than_its_table_is_an_error() {
        assert!(arrived(&["bytes"], "bytes").is_ok());
        // A wrong position would read a column that does not exist, or `bytes` under another name.
        for (claimed, asked) in [(&["bytes", "packets"][..], "packets"), (&["packets"], "packets")] {
            let error = arrived(claimed, asked).unwrap_err().to_string();
            assert!(error.contains("other columns than the table of index \"flows\""), "{error}");
        }
    }
}
