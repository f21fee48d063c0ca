//! A scan that arrived with its slices.

use std::sync::{Arc, LazyLock};

use ballista_elasticsearch::{EsPhysicalCodec, physical_codec};
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, displayable};
use datafusion_elasticsearch::{EsScanExec, ScanSpec};
use datafusion_proto::physical_plan::{DefaultPhysicalProtoConverter, PhysicalExtensionCodec};
use elastic_client::{ConnectionConfig, ConnectionRegistry};
use futures::{FutureExt, StreamExt};

use crate::wire::{self, Body};

/// The only connection that there is when a scan is run.
pub(crate) const CONNECTION: &str = "prod";
/// Its address, which must not be in anything that is sent.
const ADDRESS: &str = "es-address.invalid";

/// Whoever decodes has no connection: to look one up would be an error.
pub(crate) static NO_CONNECTIONS: LazyLock<Arc<ConnectionRegistry>> = LazyLock::new(Arc::default);

/// What runs a scan has the one connection.
pub(crate) static CONNECTIONS: LazyLock<Arc<ConnectionRegistry>> = LazyLock::new(|| {
    let config = ConnectionConfig::from_url(&format!("http://{ADDRESS}:9200")).expect("a URL");
    let registry = ConnectionRegistry::default();
    registry.insert(CONNECTION, &config).expect("a connection without secrets");
    Arc::new(registry)
});

/// What a scan stands on: a batch of one column a partition.
pub(crate) struct Slices {
    partitions: Vec<RecordBatch>,
    pub(crate) plan: Arc<dyn ExecutionPlan>,
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

    /// With the same contexts beside the slices of each partition, as far as it has rows.
    pub(crate) fn with_contexts(columns: Vec<ArrayRef>, contexts: &[String]) -> Result<Self> {
        let slices = Self::try_new(columns)?;
        let mut fields = slices.plan.schema().fields().to_vec();
        fields.push(Arc::new(Field::new("context", DataType::Utf8, true)));
        let schema = Arc::new(Schema::new(fields));
        let mut partitions = Vec::new();
        for batch in &slices.partitions {
            let contexts = contexts.iter().map(Some).chain(std::iter::repeat(None)).take(batch.num_rows());
            let contexts = Arc::new(StringArray::from_iter(contexts));
            let columns = batch.columns().iter().cloned().chain([contexts as ArrayRef]).collect();
            partitions.push(RecordBatch::try_new(Arc::clone(&schema), columns)?);
        }
        Self::over(partitions, schema)
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
    assert_eq!(*of_ours(&again).spec(), spec, "{text}");
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
    assert_eq!(of_ours(&decoded).spec(), of_ours(scan).spec());
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
    if !datafusion_elasticsearch::wire::encode_scan(of_ours(&scan).spec()).expect("a scan").contains(ADDRESS)
    {
        assert!(!sent.windows(ADDRESS.len()).any(|part| part == ADDRESS.as_bytes()), "an address travels");
    }
    check_unread(&scan, slices);
}

/// Runs each partition of a plan above these slices whose slices cannot be read. That is an error before a request.
pub(crate) fn check_unread(plan: &Arc<dyn ExecutionPlan>, slices: &Slices) {
    for (partition, batch) in slices.partitions.iter().enumerate() {
        // Columns that cannot be decoded are refused here.
        let Ok(mut rows) = plan.execute(partition, Arc::default()) else { continue };
        match datafusion_elasticsearch::wire::from_batch(batch) {
            // They would be read.
            Ok(known) => known.iter().for_each(|slice| assert!(!slice.describe().is_empty())),
            Err(_) => {
                let first = rows.next().now_or_never();
                assert!(matches!(first, Some(Some(Err(_)))), "{first:?} for {batch:?}");
            }
        }
    }
}

pub(crate) fn spec_of(sent: &[u8]) -> Option<(ScanSpec, String)> {
    match wire::decode(sent)? {
        Body::Scan(text) => Some((datafusion_elasticsearch::wire::decode_scan(&text).ok()?, text)),
        Body::Table(_) | Body::Copy(_) | Body::Sink(_) | Body::Aggregate(_) => None,
    }
}

fn of_ours(plan: &Arc<dyn ExecutionPlan>) -> &EsScanExec {
    plan.downcast_ref().expect("a scan of ours")
}

pub(crate) fn encode(codec: &dyn PhysicalExtensionCodec, plan: &Arc<dyn ExecutionPlan>) -> Vec<u8> {
    let mut sent = Vec::new();
    codec
        .try_encode(Arc::clone(plan), &mut sent, &DefaultPhysicalProtoConverter {})
        .expect("a scan can be sent");
    sent
}

pub(crate) fn decode(sent: &[u8], children: &[Arc<dyn ExecutionPlan>]) -> Option<Arc<dyn ExecutionPlan>> {
    EsPhysicalCodec::new(Arc::clone(&NO_CONNECTIONS))
        .try_decode(sent, children, &TaskContext::default(), &DefaultPhysicalProtoConverter {})
        .ok()
}
