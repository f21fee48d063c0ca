//! A pushed filter answers as DataFusion does: random mappings, documents and predicates, read with
//! pushdown, without it, and from memory as the documents say.
//!
//! `FLOWSIGMA_SEED` chooses other ones, by a number or `random`; `FLOWSIGMA_CASES` says how many
//! predicates in all.

mod fields;
mod predicates;

use crate::golden::{alone, options, registry, servers};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field as ArrowField, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::{MemTable, source_as_provider};
use datafusion::error::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use datafusion_elasticsearch::{AddressOrder, EsTable, QueryContexts, TopN, open_contexts};
use elastic_client::{Connection, ConnectionRegistry, Method, Request};
use fields::pick;
use fields::{Cell, Field, Support, to_scalar};
use flowsigma_tests::bulk::{Found, bulk};
use predicates::predicate;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const FIELDS: usize = 10;

/// Indices of a server that are asked at a time.
const WORKERS: usize = 4;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The same seed in each run unless FLOWSIGMA_SEED is set, so that a run does not fail by a bug of DataFusion that
/// another seed would find.
fn seed() -> u64 {
    let seed = match std::env::var("FLOWSIGMA_SEED").as_deref() {
        Ok("random") => rand::random::<u32>().into(),
        _ => number("FLOWSIGMA_SEED", 55),
    };
    eprintln!("FLOWSIGMA_SEED={seed}");
    seed
}

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

async fn support(connection: &Connection) -> Support {
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

fn context() -> SessionContext {
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(SessionConfig::new().with_target_partitions(1))
        .with_physical_optimizer_rule(Arc::new(TopN))
        .with_analyzer_rule(Arc::new(AddressOrder))
        .build();
    let ctx = SessionContext::new_with_state(state);
    for function in datafusion_elasticsearch::functions() {
        ctx.register_udf(function.as_ref().clone());
    }
    ctx
}

/// The rest of a query: which rows, and if not all of them which first.
#[derive(Clone)]
struct Rest {
    predicate: String,
    order: String,
}

impl Rest {
    fn all(predicate: impl Into<String>) -> Self {
        Self { predicate: predicate.into(), order: String::new() }
    }

    /// The first few by some of `fields`. `id` makes the order total. Not where dates are cut: DataFusion 55
    /// takes `CAST(a AS DATE) = …` to say that `a` is one value, and then does not order by it.
    fn first(rng: &mut StdRng, predicate: impl Into<String>, fields: &[Field]) -> Self {
        let predicate =
            Some(predicate.into()).filter(|p| !p.contains("AS DATE") && !p.contains("date_trunc"));
        let predicate = predicate.unwrap_or_else(|| "true".into());
        let way = |rng: &mut StdRng| {
            let order = pick(rng, &["", " ASC", " DESC"]);
            format!("{order}{}", pick(rng, &["", " NULLS FIRST", " NULLS LAST"]))
        };
        let mut keys = Vec::new();
        // DataFusion takes -0.0 here for 0.0 and there for less, so that floats have no one order.
        for field in fields.iter().filter(|field| !field.array && !field.kind.is_float()) {
            if keys.is_empty() || rng.random_bool(0.2) {
                keys.push(format!("{}{}", field.name, way(rng)));
            }
        }
        keys.push(format!("id{}", way(rng)));
        let order = format!(" ORDER BY {} LIMIT {}", keys.join(", "), rng.random_range(1..=15));
        Self { predicate, order }
    }
}

/// One field by which first rows are asked for, then some of the others.
fn from_some(rng: &mut StdRng, fields: &[Field]) -> Vec<Field> {
    fields[rng.random_range(0..fields.len())..].to_vec()
}

struct Response {
    /// Each row's values, rows in order.
    rows: Vec<Vec<ScalarValue>>,
    /// The physical plan.
    plan: String,
}

async fn run(ctx: &SessionContext, sql: &str) -> Result<Response> {
    let physical = ctx.sql(sql).await?.create_physical_plan().await?;
    let plan = displayable(physical.as_ref()).indent(false).to_string();
    let mut rows = Vec::new();
    for batch in collect(physical, ctx.task_ctx()).await? {
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| ScalarValue::try_from_array(column, row));
            rows.push(values.collect::<Result<Vec<_>>>()?);
        }
    }
    rows.sort_by(|a, b| a[0].partial_cmp(&b[0]).unwrap());
    Ok(Response { rows, plan })
}

/// Both tables over one point in time, so that thousands of queries need not open their own.
async fn hold(ctx: &SessionContext) -> QueryContexts {
    let sql = "SELECT id FROM pushed UNION ALL SELECT id FROM unpushed";
    let plan = ctx.state().create_logical_plan(sql).await.unwrap();
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

/// One random index with its three tables.
struct Index {
    ctx: SessionContext,
    open: QueryContexts,
    fields: Vec<Field>,
    name: String,
    /// The column with several values.
    several: Option<usize>,
}

/// Whether one scalar column of one document has several values.
#[derive(Clone, Copy, PartialEq)]
enum Several {
    None,
    Some,
}

impl Index {
    async fn make(
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
        let ctx = context();
        for (table, pushdown) in [("pushed", "true"), ("unpushed", "false")] {
            // Half of the indices in many pages.
            let page_size = if number % 2 == 0 { "20" } else { "1000" };
            let arrays = ("arrays", arrays.as_str());
            // In memory, too, a value that the server left out is null.
            let ignored = ("ignored", "null");
            let with = options(&[arrays, ignored, ("pushdown", pushdown), ("page_size", page_size)]);
            let es = EsTable::try_new(Arc::clone(registry), "test", &name, &with).await.unwrap();
            ctx.register_table(table, Arc::new(es)).unwrap();
        }
        let schema = ctx.table("pushed").await.unwrap().schema().as_arrow().clone();
        let mut wanted = vec![Arc::new(schema.field_with_name("id").unwrap().clone())];
        wanted.extend(fields.iter().map(|f| Arc::new(schema.field_with_name(&f.name).unwrap().clone())));
        let boolean = datafusion::arrow::datatypes::DataType::Boolean;
        wanted.push(Arc::new(ArrowField::new("several", boolean, true)));
        ctx.register_table("memory", memory(Arc::new(Schema::new(wanted)), &rows)).unwrap();
        let open = hold(&ctx).await;
        Self { ctx, open, fields, name, several: found }
    }

    async fn drop_from(self, connection: &Connection) {
        self.open.close().await.unwrap();
        delete(connection, &self.name).await;
    }

    fn columns(&self) -> String {
        let names: Vec<&str> = self.fields.iter().map(|f| f.name.as_str()).collect();
        format!("id, {}", names.join(", "))
    }

    async fn ask(&self, table: &str, Rest { predicate, order }: &Rest) -> Result<Response> {
        run(&self.ctx, &format!("SELECT {} FROM {table} WHERE {predicate}{order}", self.columns())).await
    }

    /// Of the rows that are asked for, those of the document with several values.
    async fn ask_several(&self, Rest { predicate, order }: &Rest) -> Result<Response> {
        let asked = format!("SELECT * FROM memory WHERE {predicate}{order}");
        run(&self.ctx, &format!("SELECT {} FROM ({asked}) WHERE several", self.columns())).await
    }

    fn describe(&self, Rest { predicate, order }: &Rest) -> String {
        let fields: Vec<String> = self.fields.iter().map(|f| format!("{} {}", f.name, f.mapping())).collect();
        format!("{} WHERE {predicate}{order}\n{}", self.name, fields.join("\n"))
    }
}

#[derive(Debug, Default)]
struct Tally {
    cases: u64,
    pushed: u64,
    /// Of which the server was asked for the first rows.
    ordered: u64,
    errors: u64,
    rows: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.pushed += other.pushed;
        self.ordered += other.ordered;
        self.errors += other.errors;
        self.rows += other.rows;
    }
}

/// The rows that only one of two answers has.
fn difference(left: &Response, right: &Response) -> String {
    let only = |a: &Response, b: &Response| -> Vec<String> {
        a.rows.iter().filter(|row| !b.rows.contains(row)).map(|row| format!("{row:?}")).collect()
    };
    format!("only here: {:#?}\nonly there: {:#?}", only(left, right), only(right, left))
}

async fn compare(index: &Index, rest: &Rest, tally: &mut Tally) {
    let operation = index.describe(rest);
    let pushed = index.ask("pushed", rest).await;
    let unpushed = index.ask("unpushed", rest).await;
    let memory = index.ask("memory", rest).await;
    tally.cases += 1;
    match (pushed, unpushed, memory) {
        (Ok(pushed), Ok(unpushed), Ok(memory)) => {
            assert!(
                unpushed.rows == memory.rows,
                "unpushed and memory differ: {operation}\n{}",
                difference(&unpushed, &memory)
            );
            assert!(
                pushed.rows == unpushed.rows,
                "pushed and unpushed differ: {operation}\n{}\n{}",
                difference(&pushed, &unpushed),
                pushed.plan
            );
            let ordered = pushed.plan.contains(", order=");
            tally.ordered += u64::from(ordered);
            tally.pushed += u64::from(ordered || !pushed.plan.contains("query={\"match_all\":{}}"));
            tally.rows += pushed.rows.len();
        }
        (Err(_), Err(_), _) => tally.errors += 1,
        (pushed, unpushed, _) => panic!(
            "only one is an error: {operation}\npushed {:?}\nunpushed {:?}",
            pushed.map(|a| a.rows.len()),
            unpushed.map(|a| a.rows.len())
        ),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_filter_answers_as_datafusion_does() {
    let seed = seed();
    let servers = servers();
    let mut alone_on_each = Vec::new();
    // In one order, since two may wait for each other else.
    for url in servers.iter().collect::<std::collections::BTreeSet<_>>() {
        alone_on_each.push(alone(url).await);
    }
    let indices = 24;
    let cases = number("FLOWSIGMA_CASES", 2000).div_ceil((indices * servers.len()) as u64);
    let mut running = tokio::task::JoinSet::new();
    for url in servers {
        let registry = registry(&url);
        let support = support(&registry.get("test").unwrap()).await;
        for worker in 0..WORKERS {
            let (url, registry) = (url.clone(), Arc::clone(&registry));
            running.spawn(async move {
                let mut tally = Tally::default();
                for number in (worker..indices).step_by(WORKERS) {
                    let mut rng = StdRng::seed_from_u64(seed + number as u64);
                    let name = format!("diff_{number}");
                    let index =
                        Index::make(&registry, &mut rng, name, (number, support), Several::None).await;
                    compare(&index, &Rest::all("true"), &mut tally).await;
                    for case in 0..cases {
                        let predicate = predicate(&mut rng, &index.fields, 2);
                        compare(&index, &Rest::all(&predicate), &mut tally).await;
                        if case % 2 == 0 {
                            let fields = from_some(&mut rng, &index.fields);
                            let predicate = if case % 4 == 0 { predicate } else { "true".into() };
                            compare(&index, &Rest::first(&mut rng, predicate, &fields), &mut tally).await;
                        }
                    }
                    index.drop_from(&registry.get("test").unwrap()).await;
                }
                (url, tally)
            });
        }
    }
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    while let Some(done) = running.join_next().await {
        let (url, tally) = done.unwrap();
        tallies.entry(url).or_default().add(tally);
    }
    for (url, tally) in tallies {
        eprintln!("{url}: {tally:?}");
        let enough = tally.pushed * 2 > tally.cases
            && tally.ordered > 40
            && tally.errors * 10 < tally.cases
            && tally.rows > 0;
        assert!(enough, "{url}: too few cases say anything: {tally:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_never_hides_a_document_that_any_of_its_values_would_keep() {
    let seed = seed();
    for url in servers() {
        let _alone = alone(&url).await;
        let registry = registry(&url);
        let support = support(&registry.get("test").unwrap()).await;
        let (mut refused, mut answered) = (0, 0);
        for number in 0..20 {
            let mut rng = StdRng::seed_from_u64(seed + number as u64);
            let name = format!("several_{number}");
            let index = Index::make(&registry, &mut rng, name, (number, support), Several::Some).await;
            // Values may be one to the server: the same twice, or too long.
            let cases = index.several.map_or(0, |_| 24);
            for case in 0..cases {
                let predicate = match index.several {
                    Some(at) if case % 2 == 0 => predicate(&mut rng, &index.fields[at..=at], 1),
                    _ => predicate(&mut rng, &index.fields, 1),
                };
                let rest = match index.several {
                    Some(at) if case % 3 == 0 => {
                        let predicate = if case % 6 == 0 { predicate } else { "true".into() };
                        Rest::first(&mut rng, predicate, &index.fields[at..=at])
                    }
                    _ => Rest::all(predicate),
                };
                let operation = index.describe(&rest);
                let Ok(kept) = index.ask_several(&rest).await else { continue };
                if let Ok(response) = index.ask("unpushed", &rest).await {
                    // A contradiction reads nothing, not even these documents.
                    assert!(!response.plan.contains("EsScanExec"), "{operation}\n{}", response.plan);
                }
                match index.ask("pushed", &rest).await {
                    Err(_) => refused += 1,
                    Ok(response) => {
                        answered += 1;
                        let memory = index.ask("memory", &rest).await.unwrap();
                        assert!(
                            kept.rows.is_empty(),
                            "{operation}\nhidden: {:?}\n{}",
                            kept.rows,
                            response.plan
                        );
                        assert!(
                            response.rows == memory.rows,
                            "{operation}\n{}",
                            difference(&response, &memory)
                        );
                    }
                }
            }
            index.drop_from(&registry.get("test").unwrap()).await;
        }
        eprintln!("{url}: {refused} refused, {answered} answered");
        assert!(refused > 0 && answered > 0, "{url}: {refused} refused, {answered} answered");
    }
}
