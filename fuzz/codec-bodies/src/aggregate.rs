//! A pushed aggregate that arrived above a scan.
//!
//! Owns: partial aggregates made by choices, and the assertions on what is pushed down. Must not know: what servers
//! aggregate.

use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use ballista_elasticsearch::{EsPhysicalCodec, physical_codec};
use datafusion::execution::TaskContext;
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, lit};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, displayable};
use datafusion_elasticsearch::{EsAggregateExec, EsScanExec, ScanSpec};
use datafusion_proto::physical_plan::DefaultPhysicalProtoConverter;
use serde_json::json;

use crate::scan::{self, CONNECTION, CONNECTIONS, NO_CONNECTIONS, Slices, decode, encode};
use crate::wire::{self, Body};

/// Checks bytes as a pushed aggregate above a scan of two columns.
pub(crate) fn check(sent: &[u8], slices: &Slices, u: &mut Unstructured<'_>) -> Result<()> {
    let column = |name: &str, field_type: &str| {
        json!({
            "name": name, "field_type": field_type, "read_from": { "doc_values": { "format": null } },
            "array": false, "source_path": name, "indexed": true, "doc_values": true, "keyword_subfield": null,
            "normalizer": false, "ignore_above": null, "null_value": false, "mixed": false,
        })
    };
    let spec = json!({
        "version": 3, "connection": CONNECTION, "index": "flows", "query": {}, "page_size": 10,
        "keep_alive_ms": 60_000, "columns": [column("k", "keyword"), column("n", "long")],
        "aggregate": "auto",
    });
    let spec = datafusion_elasticsearch::wire::decode_scan(&spec.to_string()).expect("a scan");
    check_over(sent, spec, slices, u)
}

/// Checks bytes as a pushed aggregate above this scan.
pub(crate) fn check_over(
    sent: &[u8],
    spec: ScanSpec,
    slices: &Slices,
    u: &mut Unstructured<'_>,
) -> Result<()> {
    match wire::decode(sent) {
        Some(Body::Aggregate(_)) => {}
        Some(Body::Table(_) | Body::Scan(_) | Body::Copy(_) | Body::Sink(_)) | None => return Ok(()),
    }
    let spec = ScanSpec { connection: CONNECTION.to_owned(), ..spec };
    let plan = EsScanExec::over(Arc::clone(&CONNECTIONS), spec, Arc::clone(&slices.plan));
    let plan: Arc<dyn ExecutionPlan> = Arc::new(plan);
    let input = partial(u, &plan)?;
    assert!(decode(sent, &[]).is_none(), "an aggregate of nothing");
    assert!(decode(sent, &[plan]).is_none(), "an aggregate without the one that it replaces");
    let pushed = EsAggregateExec::try_new(Arc::clone(&input)).expect("a partial aggregate over a scan");
    match (decode(sent, &[Arc::clone(&input)]), pushed) {
        (Some(aggregate), Ok(_)) => {
            check_plan(&aggregate, &input);
            scan::check_unread(&aggregate, slices);
        }
        (None, Err(reason)) => assert!(!reason.is_empty()),
        (decoded, pushed) => panic!("{decoded:?} is decoded, and {pushed:?} is pushed down"),
    }
    Ok(())
}

/// Returns a partial aggregate by some columns of a scan.
fn partial(u: &mut Unstructured<'_>, scan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = scan.schema();
    let column = |u: &mut Unstructured<'_>| -> Result<Arc<dyn PhysicalExpr>> {
        let place = u.choose_index(schema.fields().len())?;
        Ok(Arc::new(Column::new(schema.field(place).name(), place)))
    };
    let mut keys = Vec::new();
    while !schema.fields().is_empty() && keys.len() < 3 && u.arbitrary()? {
        keys.push((column(u)?, format!("k{}", keys.len())));
    }
    let mut functions = vec![(count_udaf(), lit(1i64))];
    while !schema.fields().is_empty() && functions.len() < 4 && u.arbitrary()? {
        let function = match u.int_in_range(0..=4)? {
            0 => count_udaf(),
            1 => sum_udaf(),
            2 => min_udaf(),
            3 => max_udaf(),
            _ => avg_udaf(),
        };
        functions.push((function, column(u)?));
    }
    let mut measures = Vec::new();
    for (place, (function, arg)) in functions.into_iter().enumerate() {
        let measure = AggregateExprBuilder::new(function, vec![arg])
            .schema(Arc::clone(&schema))
            .alias(format!("m{place}"))
            .build();
        // A function does not take every type.
        measures.extend(measure.ok().map(Arc::new));
    }
    let filters = vec![None; measures.len()];
    let keys = PhysicalGroupBy::new_single(keys);
    let partial =
        AggregateExec::try_new(AggregateMode::Partial, keys, measures, filters, Arc::clone(scan), schema);
    Ok(Arc::new(partial.expect("an aggregate of some columns")))
}

/// A pushed aggregate is sent as its input alone, and arrives as it was.
fn check_plan(aggregate: &Arc<dyn ExecutionPlan>, input: &Arc<dyn ExecutionPlan>) {
    let sent = encode(&EsPhysicalCodec::new(Arc::clone(&NO_CONNECTIONS)), aggregate);
    assert_eq!(sent, wire::encode(Body::Aggregate(String::new())));
    let composed = physical_codec(&NO_CONNECTIONS);
    let among_others = encode(composed.as_ref(), aggregate);
    let again = composed
        .try_decode(
            &among_others,
            &[Arc::clone(input)],
            &TaskContext::default(),
            &DefaultPhysicalProtoConverter {},
        )
        .expect("what is encoded can be decoded");
    let partitions = input.output_partitioning().partition_count();
    for plan in [aggregate, &again] {
        assert_eq!(plan.schema(), input.schema());
        assert_eq!(plan.output_partitioning().partition_count(), partitions);
        let shown = displayable(plan.as_ref()).indent(true).to_string();
        assert!(shown.contains("EsAggregateExec"), "{shown}");
    }
}
