//! A random index, and its tables.
//!
//! Owns: creating and loading it, and the statements over each table. Must not know: what is compared.

use super::fields::{Cell, Field, Support, to_scalar};
use super::{FIELDS, Proofs, Response, Rest, context, run};
use crate::golden::options;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::{MemTable, source_as_provider};
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion_elasticsearch::{EsTable, QueryContexts, open_contexts};
use elastic_client::{Connection, ConnectionRegistry, Method, Request};
use flowsigma_tests::bulk::{Found, bulk};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::sync::Arc;

async fn delete(connection: &Connection, index: &str) {
    let delete = Request::new(Method::Delete, format!("/{index}"), "delete a test index")
        .with_param("ignore_unavailable", "true");
    connection.send(&delete).await.unwrap();
}

async fn create(
    connection: &Connection,
    index: &str,
    properties: &Value,
    shards: u32,
) -> Result<(), elastic_client::Error> {
    delete(connection, index).await;
    let create = Request::new(Method::Put, format!("/{index}"), "create a test index").with_body(&json!({
        "settings": { "number_of_shards": shards, "number_of_replicas": 0 },
        "mappings": { "properties": properties },
    }));
    connection.send(&create).await.map(|_| ())
}

async fn load(connection: &Connection, index: &str, documents: &[Value]) {
    // The same documents in the same shards, whenever they are loaded.
    let by_id = documents.iter().enumerate().map(|(id, document)| (id.to_string(), document));
    let response = bulk(connection, index, by_id, Found::AtOnce).await.unwrap();
    let failed =
        response["items"].as_array().unwrap().iter().position(|item| item["index"]["error"].is_object());
    if let Some(at) = failed {
        panic!("{index}: {} was refused: {}", documents[at], response["items"][at]);
    }
}

pub(super) async fn support(connection: &Connection) -> Support {
    let has = async |properties: Value| {
        let made = create(connection, "diff_probe", &json!({ "f": properties }), 1).await;
        delete(connection, "diff_probe").await;
        made.is_ok()
    };
    Support {
        wildcard: has(json!({ "type": "wildcard" })).await,
        unsigned_long: has(json!({ "type": "unsigned_long" })).await,
        scaled_float: has(json!({ "type": "scaled_float", "scaling_factor": 10 })).await,
    }
}

/// A table of memory: the fields after `id`, and whatever is behind them.
fn memory(schema: SchemaRef, rows: &[Vec<Vec<Cell>>]) -> Arc<MemTable> {
    let columns = schema.fields().iter().enumerate().map(|(i, field)| {
        let values = rows.iter().map(|row| to_scalar(&row[i], field.data_type()));
        ScalarValue::iter_to_array(values).unwrap()
    });
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap();
    Arc::new(MemTable::try_new(schema, vec![vec![batch]]).unwrap())
}

/// All tables over one point in time, so that thousands of queries need not open their own.
async fn hold(ctx: &SessionContext) -> QueryContexts {
    let each: Vec<String> = TABLES.iter().map(|(table, _)| format!("SELECT id FROM {table}")).collect();
    let plan = ctx.state().create_logical_plan(&each.join(" UNION ALL ")).await.unwrap();
    let (plan, open) = open_contexts(plan).await.unwrap();
    let held = plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            ctx.deregister_table(scan.table_name.clone())?;
            ctx.register_table(scan.table_name.clone(), source_as_provider(&scan.source)?)?;
        }
        Ok(TreeNodeRecursion::Continue)
    });
    held.unwrap();
    open
}

/// The tables over an index, with their options.
const TABLES: [(&str, &[(&str, &str)]); 4] = [
    ("pushed", &[]),
    ("unpushed", &[("pushdown", "false")]),
    ("always", &[("aggregate", "always")]),
    ("never", &[("aggregate", "never")]),
];

/// One random index with its tables, and one of memory.
pub(super) struct Index {
    pub(super) ctx: SessionContext,
    open: QueryContexts,
    pub(super) fields: Vec<Field>,
    pub(super) name: String,
    /// The column with several values.
    pub(super) several: Option<usize>,
}

/// Whether one scalar column of one document has several values.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Several {
    None,
    Some,
}

impl Index {
    pub(super) async fn make(
        registry: &Arc<ConnectionRegistry>,
        rng: &mut StdRng,
        name: String,
        (number, support): (usize, Support),
        several: Several,
    ) -> Self {
        let connection = registry.get("test").unwrap();
        let mut fields: Vec<Field> =
            (0..FIELDS).map(|i| Field::random(rng, number * FIELDS + i, support)).collect();
        if several == Several::Some {
            fields.iter_mut().for_each(|field| field.array = false);
        }
        let mut properties = json!({ "id": { "type": "long" } });
        for field in &fields {
            properties[&field.name] = field.mapping();
        }
        let made = create(&connection, &name, &properties, rng.random_range(1..=2)).await;
        made.unwrap_or_else(|e| panic!("{name} {properties}: {e}"));
        let mut documents = Vec::new();
        let mut rows = Vec::new();
        let (odd_document, odd_field) = (rng.random_range(0..30), rng.random_range(0..FIELDS));
        let mut found = None;
        for id in 0..rng.random_range(30..=60) {
            let mut document = json!({ "id": id });
            let mut choices = vec![vec![vec![Cell::Whole(id)]]];
            for (i, field) in fields.iter().enumerate() {
                let odd = several == Several::Some && (id, i) == (odd_document, odd_field);
                let (sent, read) = field.random_value(rng, odd);
                if let Some(sent) = sent {
                    document[&field.name] = sent;
                }
                // Of a scalar column each of its values makes a row.
                let each: Vec<Vec<Cell>> = match read.len() {
                    _ if field.array => vec![read],
                    0 => vec![vec![]],
                    _ => read.into_iter().map(|cell| vec![cell]).collect(),
                };
                choices = choices
                    .iter()
                    .flat_map(|row| {
                        each.iter().map(|cells| [row.as_slice(), std::slice::from_ref(cells)].concat())
                    })
                    .collect();
            }
            found = found.or((choices.len() > 1).then_some(odd_field));
            let several = Cell::Truth(choices.len() > 1);
            rows.extend(choices.into_iter().map(|row| [row, vec![vec![several.clone()]]].concat()));
            documents.push(document);
        }
        load(&connection, &name, &documents).await;
        let arrays: Vec<&str> = fields.iter().filter(|f| f.array).map(|f| f.name.as_str()).collect();
        let arrays = arrays.join(",");
        let ctx = context(if number % 3 == 0 { 4 } else { 1 });
        for (table, own) in TABLES {
            // Half of the indices in many pages.
            let page_size = if number % 2 == 0 { "20" } else { "1000" };
            let arrays = ("arrays", arrays.as_str());
            // In memory, too, a value that the server left out is null.
            let ignored = ("ignored", "null");
            let with = options(&[&[arrays, ignored, ("page_size", page_size)], own].concat());
            let es = EsTable::try_new(Arc::clone(registry), "test", &name, &with).await.unwrap();
            ctx.register_table(table, Arc::new(es)).unwrap();
        }
        let schema = ctx.table("pushed").await.unwrap().schema().as_arrow().clone();
        let mut wanted = vec![Arc::new(schema.field_with_name("id").unwrap().clone())];
        wanted.extend(fields.iter().map(|f| Arc::new(schema.field_with_name(&f.name).unwrap().clone())));
        let boolean = DataType::Boolean;
        wanted.push(Arc::new(ArrowField::new("several", boolean, true)));
        ctx.register_table("memory", memory(Arc::new(Schema::new(wanted)), &rows)).unwrap();
        let open = hold(&ctx).await;
        Self { ctx, open, fields, name, several: found }
    }

    pub(super) async fn drop_from(self, connection: &Connection) {
        self.open.close().await.unwrap();
        delete(connection, &self.name).await;
    }

    fn columns(&self) -> String {
        let names: Vec<&str> = self.fields.iter().map(|f| f.name.as_str()).collect();
        format!("id, {}", names.join(", "))
    }

    pub(super) async fn ask(&self, table: &str, rest: &Rest) -> Result<Response> {
        self.ask_with(Proofs::Skipped, table, rest).await
    }

    pub(super) async fn ask_with(
        &self,
        proofs: Proofs,
        table: &str,
        Rest { predicate, order }: &Rest,
    ) -> Result<Response> {
        let sql = format!("SELECT {} FROM {table} WHERE {predicate}{order}", self.columns());
        Ok(run(&self.ctx, &sql, proofs).await?.in_order())
    }

    /// Of the rows that are asked for, those of the document with several values.
    pub(super) async fn ask_several(&self, Rest { predicate, order }: &Rest) -> Result<Response> {
        let asked = format!("SELECT * FROM memory WHERE {predicate}{order}");
        let sql = format!("SELECT {} FROM ({asked}) WHERE several", self.columns());
        Ok(run(&self.ctx, &sql, Proofs::Skipped).await?.in_order())
    }

    pub(super) fn describe(&self, Rest { predicate, order }: &Rest) -> String {
        let fields: Vec<String> = self.fields.iter().map(|f| format!("{} {}", f.name, f.mapping())).collect();
        format!("{} WHERE {predicate}{order}\n{}", self.name, fields.join("\n"))
    }
}
