//! A pushed filter answers as DataFusion does: random mappings, documents and predicates, read with
//! pushdown, without it, and from memory as the documents say.
//!
//! `FLOWSIGMA_SEED` chooses other ones, by a number or `random`; `FLOWSIGMA_CASES` says how many
//! predicates in all.

mod aggregates;
mod fields;
mod index;
mod predicates;

use crate::golden::{alone, registry, servers};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use datafusion_elasticsearch::{AddressOrder, EsScanExec, PushAggregates, TopN, prove_filters};
use fields::{Field, pick};
use index::{Index, Several, support};
use predicates::predicate;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
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
pub(crate) fn seed() -> u64 {
    let seed = match std::env::var("FLOWSIGMA_SEED").as_deref() {
        Ok("random") => rand::random::<u32>().into(),
        _ => number("FLOWSIGMA_SEED", 55),
    };
    eprintln!("FLOWSIGMA_SEED={seed}");
    seed
}

fn context(partitions: usize) -> SessionContext {
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(SessionConfig::new().with_target_partitions(partitions))
        .with_physical_optimizer_rule(Arc::new(PushAggregates))
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

/// Whether filters are proved exact before a statement is planned.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Proofs {
    Made,
    Skipped,
}

struct Response {
    /// Each row's values.
    rows: Vec<Vec<ScalarValue>>,
    /// The physical plan.
    plan: String,
    /// The number of slices that the server has aggregated.
    aggregated: usize,
}

impl Response {
    /// With the rows in the order of their first values.
    fn in_order(mut self) -> Self {
        self.rows.sort_by(|a, b| a[0].partial_cmp(&b[0]).unwrap());
        self
    }

    /// Whether DataFusion repeats no filter.
    fn is_exact(&self) -> bool {
        self.plan.contains("EsScanExec") && !self.plan.contains("FilterExec")
    }
}

/// Returns the sum of a metric over all scans of a plan.
fn scanned(plan: &Arc<dyn ExecutionPlan>, metric: &str) -> usize {
    let mut sum = 0;
    let all = Arc::clone(plan).apply(|node| {
        if node.is::<EsScanExec>() {
            sum += node.metrics().and_then(|m| m.sum_by_name(metric)).map_or(0, |value| value.as_usize());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    all.unwrap();
    sum
}

async fn run(ctx: &SessionContext, sql: &str, proofs: Proofs) -> Result<Response> {
    let state = ctx.state();
    let mut plan = state.create_logical_plan(sql).await?;
    if proofs == Proofs::Made {
        plan = prove_filters(plan, &state).await?;
    }
    let physical = state.create_physical_plan(&plan).await?;
    let plan = displayable(physical.as_ref()).indent(false).to_string();
    let mut rows = Vec::new();
    for batch in collect(Arc::clone(&physical), ctx.task_ctx()).await? {
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| ScalarValue::try_from_array(column, row));
            rows.push(values.collect::<Result<Vec<_>>>()?);
        }
    }
    Ok(Response { rows, plan, aggregated: scanned(&physical, "aggregated_slices") })
}

#[derive(Debug, Default)]
struct Tally {
    cases: u64,
    pushed: u64,
    /// Of which the server was asked for the first rows.
    ordered: u64,
    /// Cases with proofs in which no filter was repeated.
    exact: u64,
    /// Cases in which the scan got the LIMIT of a statement.
    limited: u64,
    errors: u64,
    rows: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.pushed += other.pushed;
        self.ordered += other.ordered;
        self.exact += other.exact;
        self.limited += other.limited;
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
    let proved = index.ask_with(Proofs::Made, "pushed", rest).await;
    tally.cases += 1;
    match (&proved, &pushed) {
        (Ok(proved), Ok(pushed)) => {
            assert!(
                proved.rows == pushed.rows,
                "with and without proofs differ: {operation}\n{}\n{}",
                difference(proved, pushed),
                proved.plan
            );
            tally.exact += u64::from(proved.is_exact() && rest.predicate != "true");
        }
        (Err(_), Err(_)) => {}
        _ => {
            panic!("only one is an error, with or without proofs: {operation}\n{:?}", proved.map(|r| r.plan))
        }
    }
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

/// A LIMIT below which no filter is repeated gives so many of the rows, and all of them if there are fewer.
async fn compare_limit(index: &Index, predicate: &str, most: usize, tally: &mut Tally) {
    let rest = Rest { predicate: predicate.to_owned(), order: format!(" LIMIT {most}") };
    let operation = index.describe(&rest);
    let all = index.ask("memory", &Rest::all(predicate)).await;
    let (Ok(all), Ok(some)) = (all, index.ask_with(Proofs::Made, "pushed", &rest).await) else { return };
    assert_eq!(some.rows.len(), most.min(all.rows.len()), "{operation}\n{}", some.plan);
    for (at, row) in some.rows.iter().enumerate() {
        let unknown = !all.rows.contains(row) || some.rows[..at].contains(row);
        assert!(!unknown, "{operation}\n{row:?}\n{}", some.plan);
    }
    tally.limited += u64::from(some.plan.contains(", limit="));
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
                        if case % 3 == 0 {
                            compare_limit(&index, &predicate, rng.random_range(1..=20), &mut tally).await;
                        }
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
            && tally.exact * 20 > tally.cases
            && tally.limited > 20
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
                let proofs = if case % 4 < 2 { Proofs::Made } else { Proofs::Skipped };
                match index.ask_with(proofs, "pushed", &rest).await {
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
