//! A plan that nearly might be granted, made by choices.

use std::collections::HashMap;
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::common::file_options::file_type::FileType;
use datafusion::datasource::ViewTable;
use datafusion::datasource::file_format::csv::{CsvFormat, CsvFormatFactory};
use datafusion::datasource::file_format::format_as_file_type;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{
    Expr, JoinType, LogicalPlan, LogicalPlanBuilder, col, exists, in_subquery, lit, scalar_subquery,
};
use datafusion_elasticsearch::{EsTable, wire};
use fuzz_bodies::json::one_of;
use serde_json::{Value, json};

use crate::folder::{FOLDER, LINK};
use crate::scan::{CONNECTION, NO_CONNECTIONS};

/// What the names of granted indices begin with.
pub(crate) const INDEX: &str = "flows-";

const INDICES: &[&str] =
    &["flows-1", "flows-*", "flows-1,flows-2", "flows-*,-flows-9", "secret", "*", "_all", "", "..", "."];
/// What names of indices are put together of.
const INDEX_PARTS: &[&str] = &[
    "flows-", "secret", "*", ",", "-", "/", "..", "%2F", "<", ">", ":", "?", " ", "_all", "+", "{now}",
    "\u{0}",
];
/// What paths are put together of, behind a folder.
const PATH_PARTS: &[&str] = &[
    "flows.csv",
    LINK,
    "..",
    ".",
    "%2e%2e",
    "..%2Fsecret",
    "secret",
    "*",
    "#1",
    "in",
    "out",
    "\u{e9}",
    " ",
    "?",
    "%",
];
const PREFIXES: &[&str] =
    &["", "file://", "file://localhost", "file:", "s3://bucket", "http://127.0.0.1:9", "FILE://"];
const OTHERS: &[&str] =
    &["/proc/self/environ", "file:///proc/self/environ", "/dev/stdin", "flows.csv", "/", "", "/etc/passwd"];
const DEPTH: usize = 5;

/// A choice that makes no plan is none.
enum Unmade {
    Choice(arbitrary::Error),
    Plan,
}

impl From<arbitrary::Error> for Unmade {
    fn from(error: arbitrary::Error) -> Self {
        Self::Choice(error)
    }
}

impl From<DataFusionError> for Unmade {
    fn from(_: DataFusionError) -> Self {
        Self::Plan
    }
}

type Made<T> = std::result::Result<T, Unmade>;

pub(crate) fn made(u: &mut Unstructured<'_>) -> Result<LogicalPlan> {
    match plan(u, DEPTH) {
        Ok(plan) => Ok(plan),
        Err(Unmade::Choice(error)) => Err(error),
        Err(Unmade::Plan) => Err(arbitrary::Error::IncorrectFormat),
    }
}

/// Plans of one column, `a`.
fn plan(u: &mut Unstructured<'_>, depth: usize) -> Made<LogicalPlan> {
    if depth == 0 || u.is_empty() {
        return leaf(u);
    }
    let below = |u: &mut Unstructured<'_>| plan(u, depth - 1);
    let built = match u.int_in_range(0..=17)? {
        0..=2 => return leaf(u),
        3 => LogicalPlanBuilder::from(below(u)?).filter(col("a").gt(lit(1)))?,
        4 | 5 => {
            let inner = Arc::new(below(u)?);
            LogicalPlanBuilder::from(below(u)?).filter(subquery(u, inner)?)?
        }
        6 => {
            let inner = Arc::new(below(u)?);
            LogicalPlanBuilder::from(below(u)?).project([subquery(u, inner)?.alias("a")])?
        }
        7 => LogicalPlanBuilder::from(below(u)?).union(below(u)?)?,
        8 => {
            let (left, right) = (below(u)?, below(u)?);
            let left = LogicalPlanBuilder::from(left).alias("l")?;
            let right = LogicalPlanBuilder::from(right).alias("r")?.build()?;
            let kind =
                *u.choose(&[JoinType::Inner, JoinType::Full, JoinType::LeftSemi, JoinType::RightAnti])?;
            let on = vec![col("l.a").eq(col("r.a"))];
            let joined = left.join_on(right, kind, on)?;
            let shown = if kind == JoinType::RightAnti { "r.a" } else { "l.a" };
            joined.project([col(shown).alias("a")])?
        }
        9 => LogicalPlanBuilder::from(below(u)?).alias("t")?,
        10 => LogicalPlanBuilder::from(below(u)?).limit(1, Some(2))?,
        11 => LogicalPlanBuilder::from(below(u)?).distinct()?,
        12 => {
            let inner = Arc::new(below(u)?);
            let order = if u.arbitrary()? { subquery(u, inner)? } else { col("a") };
            LogicalPlanBuilder::from(below(u)?).sort([order.sort(true, false)])?
        }
        13 => LogicalPlanBuilder::from(below(u)?).explain(u.arbitrary()?, u.arbitrary()?)?,
        14 => {
            let view: Arc<dyn TableProvider> = Arc::new(ViewTable::new(below(u)?, None));
            LogicalPlanBuilder::scan("v", provider_as_source(view), None)?
        }
        15 => {
            let csv: Arc<dyn FileType> = format_as_file_type(Arc::new(CsvFormatFactory::new()));
            LogicalPlanBuilder::copy_to(below(u)?, location(u)?, csv, HashMap::new(), Vec::new())?
        }
        16 => {
            let target = provider_as_source(files(u)?);
            LogicalPlanBuilder::insert_into(below(u)?, "t", target, InsertOp::Append)?
        }
        _ => LogicalPlanBuilder::from(below(u)?).aggregate([col("a")], Vec::<Expr>::new())?,
    };
    Ok(built.build()?)
}

fn subquery(u: &mut Unstructured<'_>, inner: Arc<LogicalPlan>) -> Made<Expr> {
    Ok(match u.int_in_range(0..=3)? {
        0 => in_subquery(col("a"), inner),
        1 => exists(inner),
        2 => lit(1).gt(scalar_subquery(inner)),
        // Deep in an expression.
        _ => col("a").is_null().or(col("a").gt(scalar_subquery(inner)).is_true()),
    })
}

fn leaf(u: &mut Unstructured<'_>) -> Made<LogicalPlan> {
    let table: Arc<dyn TableProvider> = match u.int_in_range(0..=6)? {
        0 => {
            return Ok(LogicalPlanBuilder::values(vec![vec![lit(1i64)]])?
                .project([col("column1").alias("a")])?
                .build()?);
        }
        1 | 2 => files(u)?,
        _ => index(u)?,
    };
    Ok(LogicalPlanBuilder::scan("t", provider_as_source(table), None)?.build()?)
}

fn files(u: &mut Unstructured<'_>) -> Made<Arc<dyn TableProvider>> {
    let mut urls = vec![ListingTableUrl::parse(location(u)?)?];
    if u.ratio(1, 6)? {
        urls.push(ListingTableUrl::parse(location(u)?)?);
    }
    let config = ListingTableConfig::new_with_multi_paths(urls)
        .with_listing_options(ListingOptions::new(Arc::new(CsvFormat::default())))
        .with_schema(Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)])));
    Ok(Arc::new(ListingTable::try_new(config)?))
}

fn location(u: &mut Unstructured<'_>) -> Result<String> {
    if u.ratio(1, 8)? {
        return one_of(u, OTHERS).map(str::to_owned);
    }
    let folder = one_of(u, &["in", "in", "out", "out", "secret", ""])?;
    let mut text = format!("{}{}/{folder}", one_of(u, PREFIXES)?, FOLDER.display());
    for _ in 0..u.int_in_range(0..=4)? {
        let between = one_of(u, &["/", "/", "/", "//", "\\", "%2F", ""])?;
        text = format!("{text}{between}{}", one_of(u, PATH_PARTS)?);
    }
    Ok(text)
}

fn index(u: &mut Unstructured<'_>) -> Made<Arc<dyn TableProvider>> {
    let snapshot = match u.int_in_range(0..=3)? {
        0 => Value::Null,
        slices => {
            let mut made = Vec::new();
            for ordinal in 1..slices {
                let filter = if u.ratio(1, 3)? { query(u, 2)? } else { Value::Null };
                made.push(json!({
                    "ordinal": ordinal, "of": 3, "index": expression(u)?, "source": "Scroll", "cut": null,
                    "filter": filter,
                }));
            }
            made.into()
        }
    };
    let spec = json!({
        "connection": one_of(u, &[CONNECTION, CONNECTION, CONNECTION, "lab", ""])?,
        "index": expression(u)?, "query": query(u, 3)?, "slices": null, "page_size": 10, "keep_alive_ms": 60_000,
        "read": "auto", "snapshot": snapshot,
        "columns": [{
            "name": "a", "field_type": "long", "read_from": { "doc_values": { "format": null } },
            "array": false, "source_path": "a", "indexed": true, "doc_values": true, "keyword_subfield": null,
            "normalizer": false, "ignore_above": null, "null_value": false, "mixed": false,
        }],
    });
    let spec = wire::decode_table(&spec.to_string()).map_err(|_| Unmade::Plan)?;
    Ok(Arc::new(EsTable::from_spec(NO_CONNECTIONS.clone(), spec)))
}

fn expression(u: &mut Unstructured<'_>) -> Result<String> {
    if u.ratio(2, 3)? {
        return one_of(u, INDICES).map(str::to_owned);
    }
    let mut text = String::new();
    for _ in 0..u.int_in_range(1..=6)? {
        text.push_str(one_of(u, INDEX_PARTS)?);
    }
    Ok(text)
}

/// Queries that look something up elsewhere, in others.
fn query(u: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    Ok(match u.int_in_range(0..=if depth == 0 { 7 } else { 10 })? {
        0..=2 => json!({ "match_all": {} }),
        3 => json!({ "terms": { "a": { "index": expression(u)?, "id": "1", "path": "a" } } }),
        4 => json!({ "geo_shape": { "a": { "indexed_shape": { "index": expression(u)?, "id": "1" } } } }),
        5 => json!({ "geo_shape": { "a": { "indexed_shape": { "id": "1" } } } }),
        6 => json!({ "more_like_this": { "like": [{ "_index": expression(u)?, "_id": "1" }] } }),
        7 => json!({ "wrapper": { "query": "eyJtYXRjaF9hbGwiOnt9fQ==" } }),
        8 => json!({ "bool": { "must_not": [query(u, depth - 1)?], "filter": query(u, depth - 1)? } }),
        9 => json!({ "term": { "_index": expression(u)? } }),
        _ => json!({ "percolate": { "field": "a", "index": expression(u)?, "id": "1" } }),
    })
}
