//! Random aggregates, computed by servers, by DataFusion over scans, and from memory.
//!
//! Owns: the statements, and which digits of a result may differ. Must not know: how servers aggregate.

use super::fields::{Field, Kind, pick};
use super::index::{Index, Several, support};
use super::predicates::predicate;
use super::{Proofs, Response, difference, number, run, seed};
use crate::golden::{alone, registry, servers};
use datafusion::error::{DataFusionError, Result};
use datafusion::scalar::ScalarValue;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Indices of each server.
const INDICES: usize = 23;
/// Indices of each server in which one column of one document has several values.
const INDICES_OF_SEVERAL: usize = 19;

/// A statement over any of the tables.
struct Statement {
    select: Vec<String>,
    predicate: String,
    group_by: String,
    /// How far apart two results may be, for each value of a row.
    tolerances: Vec<f64>,
}

impl Statement {
    fn random(rng: &mut StdRng, fields: &[Field]) -> Self {
        // Most statements are of what servers can group and compute.
        let easy: Vec<&Field> =
            fields.iter().filter(|field| !field.array && is_grouped(field.kind)).collect();
        let all: Vec<&Field> = fields.iter().filter(|field| !field.array).collect();
        let is_easy = !easy.is_empty() && rng.random_bool(0.7);
        let from = if is_easy { &easy } else { &all };
        let (first, second) = (key(rng, from), key(rng, from));
        let (group_by, mut select) = match rng.random_range(0..10) {
            0 => (String::new(), vec![]),
            1..=4 => (first.clone(), vec![first.clone()]),
            5 | 6 => (format!("{first}, {second}"), vec![first.clone(), second.clone()]),
            _ => {
                let sets = [
                    format!("GROUPING SETS (({first}), ({second}))"),
                    format!("GROUPING SETS (({first}), ())"),
                    format!("ROLLUP ({first}, {second})"),
                    format!("CUBE ({first}, {second})"),
                ];
                let which = rng.random_range(0..sets.len());
                let mut keys = vec![first.clone(), format!("grouping({first})")];
                if which != 1 {
                    keys.extend([second.clone(), format!("grouping({second})")]);
                }
                (sets[which].clone(), keys)
            }
        };
        let mut tolerances = vec![0.0; select.len()];
        // Without a measure it is a SELECT DISTINCT.
        for _ in 0..rng.random_range(usize::from(group_by.is_empty())..=3) {
            let (measure, tolerance) = measure(rng, from, is_easy);
            select.push(measure);
            tolerances.push(tolerance);
        }
        let predicate = match rng.random_bool(0.5) {
            true => "true".to_owned(),
            false => predicate(rng, fields, 1),
        };
        let group_by = if group_by.is_empty() { group_by } else { format!(" GROUP BY {group_by}") };
        Self { select, predicate, group_by, tolerances }
    }

    fn over(&self, table: &str) -> String {
        let select: Vec<String> =
            self.select.iter().enumerate().map(|(at, item)| format!("{item} AS r{at}")).collect();
        format!("SELECT {} FROM {table} WHERE {}{}", select.join(", "), self.predicate, self.group_by)
    }

    /// Returns the response with its rows in one order. Two rows differ by values that are no measures.
    async fn ask(&self, index: &Index, table: &str, proofs: Proofs) -> Result<Response> {
        let mut response = run(&index.ctx, &self.over(table), proofs).await?;
        response.rows.iter_mut().flatten().for_each(without_sign);
        response.rows.sort_by_cached_key(|row| {
            let exact = row.iter().zip(&self.tolerances).filter(|(_, tolerance)| **tolerance == 0.0);
            exact.map(|(value, _)| format!("{value:?}")).collect::<Vec<_>>()
        });
        Ok(response)
    }

    fn is_same(&self, left: &Response, right: &Response) -> bool {
        left.rows.len() == right.rows.len()
            && left.rows.iter().zip(&right.rows).all(|(left, right)| {
                let values = left.iter().zip(right).zip(&self.tolerances);
                values.into_iter().all(|((left, right), tolerance)| is_near(left, right, *tolerance))
            })
    }
}

/// DataFusion groups both zeros together, and which of them is the least depends on the order of rows.
fn without_sign(value: &mut ScalarValue) {
    match value {
        ScalarValue::Float32(Some(number)) if *number == 0.0 => *number = 0.0,
        ScalarValue::Float64(Some(number)) if *number == 0.0 => *number = 0.0,
        _ => {}
    }
}

fn is_near(left: &ScalarValue, right: &ScalarValue, tolerance: f64) -> bool {
    match (left, right) {
        (ScalarValue::Float64(Some(left)), ScalarValue::Float64(Some(right))) => {
            left == right || (left.is_nan() && right.is_nan()) || (left - right).abs() <= tolerance
        }
        _ => left == right,
    }
}

/// Returns a group expression.
fn key(rng: &mut StdRng, fields: &[&Field]) -> String {
    let field = pick(rng, fields);
    let name = &field.name;
    if matches!(field.kind, Kind::Date(_) | Kind::DateNanos) && rng.random_bool(0.8) {
        let unit = pick(rng, &["second", "minute", "hour", "day", "week", "month", "quarter", "year"]);
        return match rng.random_range(0..10) {
            0 => format!("CAST({name} AS DATE)"),
            1 => {
                let zone = pick(rng, &["+05:30", "-03:00", "Europe/Berlin"]);
                format!(
                    "date_trunc('{unit}', arrow_cast({name}, 'Timestamp(Millisecond, Some(\"{zone}\"))'))"
                )
            }
            2 => format!("date_bin(INTERVAL '7 hours', CAST({name} AS DATE))"),
            3 => {
                let every = pick(rng, &["1 day", "7 days", "90 minutes", "13 milliseconds"]);
                format!("date_bin(INTERVAL '{every}', {name})")
            }
            _ => format!("date_trunc('{unit}', {name})"),
        };
    }
    match rng.random_range(0..8) {
        0 => format!("CAST({name} AS VARCHAR)"),
        1 if matches!(field.kind, Kind::Keyword) => format!("lower({name})"),
        _ => name.clone(),
    }
}

/// Returns an aggregate function, and how far two of its results may be apart: DataFusion adds doubles in any order.
fn measure(rng: &mut StdRng, fields: &[&Field], is_easy: bool) -> (String, f64) {
    let field = pick(rng, fields);
    let name = &field.name;
    let tolerance = match field.kind {
        Kind::Whole("long" | "unsigned_long", ..) => Some(1e6),
        Kind::Whole(..) => Some(0.0),
        Kind::Float("double") => None,
        Kind::Float(_) | Kind::Scaled(_) => Some(1e-6),
        _ => None,
    };
    let whole = matches!(field.kind, Kind::Whole(..));
    // Of texts, addresses and truth values servers have no least.
    if is_easy && !whole && !matches!(field.kind, Kind::Date(_)) {
        let count = if rng.random_bool(0.5) { "count(*)".to_owned() } else { format!("count({name})") };
        return (count, 0.0);
    }
    match (rng.random_range(0..10), tolerance) {
        (0 | 1, _) => ("count(*)".to_owned(), 0.0),
        (2 | 3, _) => (format!("count({name})"), 0.0),
        (4, Some(tolerance)) => (format!("sum({name})"), if whole { 0.0 } else { tolerance }),
        (5, Some(tolerance)) => (format!("avg({name})"), tolerance),
        (6, _) => (format!("count(DISTINCT {name})"), 0.0),
        (at, _) => (format!("{}({name})", if at % 2 == 0 { "min" } else { "max" }), 0.0),
    }
}

/// Whether servers group by the values of such a field.
fn is_grouped(kind: Kind) -> bool {
    match kind {
        Kind::Keyword | Kind::Lower | Kind::Ip | Kind::Boolean | Kind::Date(_) => true,
        Kind::Whole(name, ..) => name != "unsigned_long",
        Kind::Text
        | Kind::TextWithKeyword
        | Kind::TextWithShortKeyword
        | Kind::Wildcard
        | Kind::Float(_)
        | Kind::Scaled(_)
        | Kind::DateNanos => false,
    }
}

#[derive(Debug, Default)]
struct Tally {
    cases: usize,
    /// Of which the plan has the server aggregate.
    pushed: usize,
    /// Of which a slice was aggregated by the server, with `auto` and with `always`.
    aggregated: [usize; 2],
    /// Of which `always` is an error, because a slice is not aggregated.
    not_always: usize,
    errors: usize,
}

/// Whether the error says that a slice is not aggregated, and nothing else is wrong.
fn is_not_aggregated(error: &DataFusionError) -> bool {
    error.to_string().contains("is not aggregated by the server")
}

async fn compare(index: &Index, statement: &Statement, proofs: Proofs, several: Several, tally: &mut Tally) {
    let fields: Vec<String> = index.fields.iter().map(|f| format!("{} {}", f.name, f.mapping())).collect();
    let sql = statement.over("t");
    let operation = format!("{} {proofs:?} {sql}\n{}", index.name, fields.join("\n"));
    let auto = statement.ask(index, "pushed", proofs).await;
    let never = statement.ask(index, "never", proofs).await;
    let always = statement.ask(index, "always", proofs).await;
    tally.cases += 1;
    let check = |how: &str, left: &Response, right: &Response| {
        assert!(
            statement.is_same(left, right),
            "{how} differ: {operation}\n{}\n{}",
            difference(left, right),
            left.plan
        );
    };
    let never = match (&auto, never) {
        (Ok(auto), Ok(never)) => {
            assert!(!never.plan.contains("EsAggregateExec"), "{operation}\n{}", never.plan);
            check("auto and never", auto, &never);
            tally.pushed += usize::from(auto.plan.contains("EsAggregateExec"));
            tally.aggregated[0] += usize::from(auto.aggregated > 0);
            Some(never)
        }
        (Err(_), Err(_)) => {
            tally.errors += 1;
            None
        }
        (Ok(auto), Err(error)) => panic!("only never is an error: {operation}\n{error}\n{}", auto.plan),
        (Err(error), Ok(_)) => panic!("only auto is an error: {operation}\n{error}"),
    };
    match (&always, &never) {
        (Ok(always), Some(never)) => {
            check("always and never", always, never);
            tally.aggregated[1] += usize::from(always.aggregated > 0);
        }
        (Ok(always), None) => panic!("only always is no error: {operation}\n{}", always.plan),
        (Err(error), Some(_)) if is_not_aggregated(error) => tally.not_always += 1,
        (Err(error), Some(_)) => panic!("only always is an error: {operation}\n{error}"),
        (Err(_), None) => {}
    }
    // A document with several values makes several rows in memory.
    if let (Several::None, Some(never)) = (several, &never) {
        let memory = statement.ask(index, "memory", Proofs::Skipped).await;
        let memory = memory.unwrap_or_else(|e| panic!("only memory is an error: {operation}\n{e}"));
        check("never and memory", never, &memory);
    }
}

async fn compare_all(url: &str, several: Several, indices: usize) -> Tally {
    let seed = seed();
    let _alone = alone(url).await;
    let registry = registry(url);
    let support = support(&registry.get("test").unwrap()).await;
    let cases = number("FLOWSIGMA_CASES", 2000).div_ceil(6 * indices as u64);
    let mut tally = Tally::default();
    for number in 0..indices {
        let mut rng = StdRng::seed_from_u64(seed + 1000 + number as u64);
        let name = format!("aggregated_{number}");
        let index = Index::make(&registry, &mut rng, name, (number, support), several).await;
        for case in 0..cases {
            // Of an index with several values, half of the statements name that column alone.
            let fields = match index.several {
                Some(at) if case % 2 == 0 => &index.fields[at..=at],
                _ => index.fields.as_slice(),
            };
            let statement = Statement::random(&mut rng, fields);
            let proofs = if case % 4 == 3 { Proofs::Skipped } else { Proofs::Made };
            compare(&index, &statement, proofs, several, &mut tally).await;
        }
        index.drop_from(&registry.get("test").unwrap()).await;
    }
    eprintln!("{url} {tally:?}");
    tally
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_of_the_server_are_those_of_datafusion() {
    for url in servers() {
        let tally = compare_all(&url, Several::None, INDICES).await;
        let enough = tally.pushed * 4 > tally.cases
            && tally.aggregated[0] * 5 > tally.cases
            && tally.aggregated[1] * 5 > tally.cases
            && tally.not_always * 4 < tally.cases
            && tally.errors * 5 < tally.cases;
        assert!(enough, "{url}: too few cases say anything: {tally:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_with_several_values_is_an_error_of_aggregates_as_of_scans() {
    for url in servers() {
        let tally = compare_all(&url, Several::Some, INDICES_OF_SEVERAL).await;
        assert!(tally.errors * 5 > tally.cases && tally.aggregated[0] * 10 > tally.cases, "{url}: {tally:?}");
    }
}
