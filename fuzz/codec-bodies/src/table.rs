//! A table that arrived in a logical plan.

use std::any::Any;
use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use arbitrary::{Result, Unstructured};
use ballista_elasticsearch::EsLogicalCodec;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::{Column, ScalarValue, TableReference};
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::{EsTable, TableSpec};
use datafusion_proto::logical_plan::{AsLogicalPlan, LogicalExtensionCodec};
use datafusion_proto::protobuf::LogicalPlanNode;
use elastic_arrow::to_schema;
use futures::FutureExt;

use crate::scan;
use crate::wire::{self, Body};

static STATE: LazyLock<SessionState> = LazyLock::new(|| SessionContext::new().state());

/// Bytes as a table, and a scan of some of its columns.
pub(crate) fn check(sent: &[u8], u: &mut Unstructured<'_>) -> Result<()> {
    let Some(spec) = spec_of(sent) else {
        assert!(decode(sent, &Arc::new(Schema::empty())).is_none(), "only what is whole is decoded");
        return Ok(());
    };
    let schema = to_schema(&spec.columns);
    let table = decode(sent, &schema).expect("a whole table with its own columns");
    assert_eq!(table.schema(), schema);
    check_sent(&table, &spec);
    let mut fields: Vec<_> = schema.fields().iter().map(Arc::clone).collect();
    fields.push(Arc::new(Field::new("one more", DataType::Utf8, true)));
    // By its position in another schema a column would be another one, or none.
    assert!(decode(sent, &Arc::new(Schema::new(fields))).is_none(), "decoded with other columns");

    let mut projection = Vec::new();
    while !schema.fields().is_empty() && projection.len() < 4 && u.arbitrary()? {
        projection.push(u.choose_index(schema.fields().len())?);
    }
    check_plan(&table, &spec, &projection);
    check_scan(&table, &projection, u)
}

fn check_sent(table: &Arc<dyn TableProvider>, spec: &TableSpec) {
    let sent = encode(table);
    let again = decode(&sent, &table.schema()).expect("what is encoded can be decoded");
    assert_eq!(encode(&again), sent);
    assert_eq!(of_ours(&again).spec(), spec);
}

/// In a plan, as it is submitted.
fn check_plan(table: &Arc<dyn TableProvider>, spec: &TableSpec, projection: &[usize]) {
    let names: HashSet<&str> = spec.columns.iter().map(|column| column.name.as_str()).collect();
    let distinct: HashSet<usize> = projection.iter().copied().collect();
    // A plan names columns. Of one name there are several in no mapping, and no page of them is decoded.
    if names.len() < spec.columns.len() || distinct.len() < projection.len() {
        return;
    }
    let source = provider_as_source(Arc::clone(table));
    let plan = LogicalPlanBuilder::scan("t", source, Some(projection.to_vec())).and_then(|plan| plan.build());
    let plan = plan.expect("a scan of some columns is a plan");
    let node = LogicalPlanNode::try_from_logical_plan(&plan, &codec()).expect("a plan can be sent");
    let again = node.try_into_logical_plan(&TaskContext::default(), &codec()).expect("a plan that was sent");
    assert_eq!(again.schema(), plan.schema());
    let LogicalPlan::TableScan(scan) = again else { panic!("not a scan: {again}") };
    let table = source_as_provider(&scan.source).expect("a table");
    assert_eq!(of_ours(&table).spec(), spec);
}

fn check_scan(table: &Arc<dyn TableProvider>, projection: &[usize], u: &mut Unstructured<'_>) -> Result<()> {
    let schema = table.schema();
    let mut filters = Vec::new();
    while !schema.fields().is_empty() && filters.len() < 4 && u.arbitrary()? {
        let field = schema.field(u.choose_index(schema.fields().len())?);
        filters.push(filter(u, Expr::Column(Column::from_name(field.name())))?);
    }
    let asked: Vec<&Expr> = filters.iter().collect();
    let pushed = table.supports_filters_pushdown(&asked).expect("each filter is pushed or not");
    assert_eq!(pushed.len(), filters.len());
    let limit = u.arbitrary::<Option<usize>>()?;
    let projection = projection.to_vec();
    let planned = table.scan(&*STATE, Some(&projection), &filters, limit).now_or_never();
    let planned = planned.expect("no server is asked without a connection");
    match (&of_ours(table).spec().open_slices, planned) {
        (Some(_), plan) => {
            let plan = plan.expect("a scan of a snapshot that is open");
            assert_eq!(plan.schema().fields().len(), projection.len());
            scan::check_plan(&plan);
        }
        (None, plan) => assert!(plan.is_err(), "there is no connection, and yet a snapshot"),
    }
    Ok(())
}

fn filter(u: &mut Unstructured<'_>, column: Expr) -> Result<Expr> {
    Ok(match u.int_in_range(0..=6)? {
        0 => column.is_null(),
        1 => column.is_not_null(),
        2 => column.like(lit(u.arbitrary::<&str>()?)),
        3 => column.in_list(vec![value(u)?, value(u)?], u.arbitrary()?),
        4 => column.between(value(u)?, value(u)?),
        5 => column.gt(value(u)?),
        _ => column.eq(value(u)?),
    })
}

fn value(u: &mut Unstructured<'_>) -> Result<Expr> {
    Ok(match u.int_in_range(0..=7)? {
        0 => lit(u.arbitrary::<i64>()?),
        1 => lit(u.arbitrary::<f64>()?),
        2 => lit(u.arbitrary::<u64>()?),
        3 => lit(u.arbitrary::<bool>()?),
        4 => lit(ScalarValue::TimestampNanosecond(u.arbitrary()?, None)),
        5 => lit(ScalarValue::TimestampMillisecond(u.arbitrary()?, None)),
        6 => lit(ScalarValue::Null),
        _ => lit(u.arbitrary::<&str>()?),
    })
}

fn spec_of(sent: &[u8]) -> Option<TableSpec> {
    match wire::decode(sent)? {
        Body::Table(text) => datafusion_elasticsearch::wire::decode_table(&text).ok(),
        Body::Scan(_) | Body::Copy(_) | Body::Sink(_) | Body::Aggregate(_) => None,
    }
}

fn of_ours(table: &Arc<dyn TableProvider>) -> &EsTable {
    (table.as_ref() as &dyn Any).downcast_ref().expect("a table of ours")
}

fn codec() -> EsLogicalCodec {
    EsLogicalCodec::new(Arc::clone(&scan::NO_CONNECTIONS))
}

fn encode(table: &Arc<dyn TableProvider>) -> Vec<u8> {
    let mut sent = Vec::new();
    let named = TableReference::bare("t");
    codec().try_encode_table_provider(&named, Arc::clone(table), &mut sent).expect("a table can be sent");
    sent
}

fn decode(sent: &[u8], schema: &SchemaRef) -> Option<Arc<dyn TableProvider>> {
    let named = TableReference::bare("t");
    codec().try_decode_table_provider(sent, &named, Arc::clone(schema), &TaskContext::default()).ok()
}
