//! A scan that arrived with its slices.

use std::sync::{Arc, LazyLock};

use ballista_elasticsearch::{EsPhysicalCodec, physical_codec};
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, displayable};
use datafusion_elasticsearch::{EsScanExec, ScanSpec};
use datafusion_proto::physical_plan::{DefaultPhysicalProtoConverter, PhysicalExtensionCodec};
use elastic_client::{ConnectionConfig, ConnectionRegistry, Slice};
use futures::{FutureExt, StreamExt};
use serde_json::json;

use crate::wire::{self, Body};

/// The only connection that there is when a scan is run.
pub(crate) const CONNECTION: &str = "prod";
/// Where that is, and so in nothing that travels.
const ADDRESS: &str = "es-address.invalid";

/// Whoever decodes has no connection: to look one up would be an error.
pub(crate) static NO_CONNECTIONS: LazyLock<Arc<ConnectionRegistry>> = LazyLock::new(Arc::default);

static CONNECTIONS: LazyLock<Arc<ConnectionRegistry>> = LazyLock::new(|| {
    let config = ConnectionConfig::from_url(&format!("http://{ADDRESS}:9200")).expect("a URL");
    let registry = ConnectionRegistry::default();
    registry.insert(CONNECTION, &config).expect("a connection without secrets");
    Arc::new(registry)
});

/// What a scan stands on: a batch of one column a partition.
pub(crate) struct Slices {
    partitions: Vec<RecordBatch>,
    plan: Arc<dyn ExecutionPlan>,
}

impl Slices {
    /// All columns of one type.
    pub(crate) fn try_new(columns: Vec<ArrayRef>) -> Result<Self> {
        let fields: Vec<Field> = columns
            .iter()
            .take(1)
            .map(|column| Field::new("slice", column.data_type().clone(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let mut partitions = Vec::new();
        for column in columns {
            partitions.push(RecordBatch::try_new(Arc::clone(&schema), vec![column])?);
        }
        Self::over(partitions, Arc::clone(&schema))
    }

    /// Rows that have no column.
    pub(crate) fn without_columns() -> Result<Self> {
        let schema = Arc::new(Schema::empty());
        let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), vec![], &options)?;
        Self::over(vec![batch], schema)
    }

    fn over(partitions: Vec<RecordBatch>, schema: Arc<Schema>) -> Result<Self> {
        let rows: Vec<Vec<RecordBatch>> = partitions.iter().map(|batch| vec![batch.clone()]).collect();
        let plan = MemorySourceConfig::try_new_exec(&rows, schema, None)?;
        Ok(Self { partitions, plan })
    }
}

/// Bytes as a scan over these slices, or as the sink of a COPY above them.
pub(crate) fn check(sent: &[u8], slices: &Slices) {
    if let Some(Body::Sink(_)) = wire::decode(sent) {
        check_sink(sent, slices);
        return;
    }
    let Some(scan) = decode(sent, &[Arc::clone(&slices.plan)]) else {
        assert!(spec_of(sent).is_none(), "a whole scan is refused: {}", sent.escape_ascii());
        return;
    };
    assert!(decode(sent, &[]).is_none(), "a scan of nothing");
    let (spec, text) = spec_of(sent).expect("only what is whole is decoded");
    let again = check_plan(&scan);
    let decoded = json!(of_ours(&again).spec());
    assert_eq!(decoded, json!(spec), "{text}");
    assert_eq!(of_ours(&again).spec().columns, spec.columns, "{text}");
    check_run(ScanSpec { connection: CONNECTION.to_owned(), ..spec }, slices);
}

/// A sink that is decoded is sent again as it came, but for the names that it does not know.
fn check_sink(sent: &[u8], slices: &Slices) {
    let children = [Arc::clone(&slices.plan)];
    let Some(sink) = decode(sent, &children) else { return };
    assert!(decode(sent, &[]).is_none(), "a sink of nothing");
    let codec = EsPhysicalCodec::new(Arc::clone(&NO_CONNECTIONS));
    let sent = encode(&codec, &sink);
    let again = decode(&sent, &children).expect("what is encoded can be decoded");
    assert_eq!(encode(&codec, &again), sent);
    let shown = displayable(again.as_ref()).indent(true).to_string();
    assert!(shown.contains("CopySink"), "{shown}");
}

/// Sends a scan and returns what arrives.
pub(crate) fn check_plan(scan: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    let children: Vec<Arc<dyn ExecutionPlan>> = scan.children().into_iter().map(Arc::clone).collect();
    let sent = encode(&EsPhysicalCodec::new(Arc::clone(&NO_CONNECTIONS)), scan);
    let again = decode(&sent, &children).expect("what is encoded can be decoded");
    assert_eq!(encode(&EsPhysicalCodec::new(Arc::clone(&NO_CONNECTIONS)), &again), sent);
    assert_eq!(again.schema(), scan.schema());
    assert_eq!(again.schema().fields().len(), of_ours(scan).spec().columns.len());
    let partitions = children[0].output_partitioning().partition_count();
    assert_eq!(again.output_partitioning().partition_count(), partitions);
    // Both codecs of a node together.
    let composed = physical_codec(&NO_CONNECTIONS);
    let among_others = encode(composed.as_ref(), &again);
    let decoded = composed
        .try_decode(&among_others, &children, &TaskContext::default(), &DefaultPhysicalProtoConverter {})
        .expect("what is encoded can be decoded");
    assert_eq!(json!(of_ours(&decoded).spec()), json!(of_ours(scan).spec()));
    let shown = displayable(again.as_ref()).indent(true).to_string();
    assert!(shown.contains("EsScanExec"), "{shown}");
    replace_children_if_necessary(again, children).expect("a scan takes its own child")
}

/// Whatever the slices are, a scan neither panics nor reads before it knows that all are some.
fn check_run(spec: ScanSpec, slices: &Slices) {
    let scan = EsScanExec::over(Arc::clone(&CONNECTIONS), spec, Arc::clone(&slices.plan));
    let sent = encode(&EsPhysicalCodec::new(Arc::clone(&CONNECTIONS)), &(Arc::new(scan) as _));
    let scan = EsPhysicalCodec::new(Arc::clone(&CONNECTIONS))
        .try_decode(
            &sent,
            &[Arc::clone(&slices.plan)],
            &TaskContext::default(),
            &DefaultPhysicalProtoConverter {},
        )
        .expect("what is encoded can be decoded");
    // An input may hold the address too.
    if !json!(of_ours(&scan).spec()).to_string().contains(ADDRESS) {
        assert!(!sent.windows(ADDRESS.len()).any(|part| part == ADDRESS.as_bytes()), "an address travels");
    }
    for (partition, batch) in slices.partitions.iter().enumerate() {
        // Columns that cannot be decoded are refused here.
        let Ok(mut rows) = scan.execute(partition, Arc::default()) else { continue };
        let descriptors = batch.columns().first().and_then(|column| column.as_any().downcast_ref());
        let known: Option<Vec<Slice>> = descriptors.and_then(|texts: &StringArray| {
            texts.iter().map(|text| serde_json::from_str(text?).ok()).collect()
        });
        match known {
            // They would be read.
            Some(known) => known.iter().for_each(|slice| assert!(!slice.describe().is_empty())),
            None => {
                let first = rows.next().now_or_never();
                assert!(matches!(first, Some(Some(Err(_)))), "{first:?} for {batch:?}");
            }
        }
    }
}

fn spec_of(sent: &[u8]) -> Option<(ScanSpec, String)> {
    match wire::decode(sent)? {
        Body::Scan(text) => Some((serde_json::from_str(&text).ok()?, text)),
        Body::Table(_) | Body::Copy(_) | Body::Sink(_) => None,
    }
}

fn of_ours(plan: &Arc<dyn ExecutionPlan>) -> &EsScanExec {
    plan.downcast_ref().expect("a scan of ours")
}

fn encode(codec: &dyn PhysicalExtensionCodec, plan: &Arc<dyn ExecutionPlan>) -> Vec<u8> {
    let mut sent = Vec::new();
    codec
        .try_encode(Arc::clone(plan), &mut sent, &DefaultPhysicalProtoConverter {})
        .expect("a scan can be sent");
    sent
}

fn decode(sent: &[u8], children: &[Arc<dyn ExecutionPlan>]) -> Option<Arc<dyn ExecutionPlan>> {
    EsPhysicalCodec::new(Arc::clone(&NO_CONNECTIONS))
        .try_decode(sent, children, &TaskContext::default(), &DefaultPhysicalProtoConverter {})
        .ok()
}
