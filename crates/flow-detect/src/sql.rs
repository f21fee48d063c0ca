//! The statement of a detection.
//!
//! Owns: its text, and the proof that its numbers are exact. Must not know: the types of the table, or the engine.
//!
//! # Why the decision is exact
//! With n addresses, counts x, S = Σx and Q = Σx², a count lies more than k = num/den population
//! standard deviations above the mean if and only if `n·x − S > 0` and
//! `den²·(n·x − S)² > num²·(n·Q − S²)`. Both sides are integers, so the order in which partial sums
//! arrive cannot change the result, as it does with floating point.
//!
//! DataFusion's decimal `sum` wraps on overflow. Its decimal `*` and `-` fail on overflow. So sums must be bounded,
//! and products need only be wide enough for real data. A count is a `BIGINT`, below 2⁶³:
//! - S is a sum in 128 bits, which wraps at 2⁶⁴ addresses or more; Q is a sum in 256 bits, which wraps at 2¹²⁹.
//! - products are 256 bits wide (`DECIMAL(76, 0)`). If every count is the greatest `BIGINT` and k has its greatest
//!   value, they hold up to 2·10¹⁰ addresses; above that the statement fails.

use crate::sigma::Sigma;
use crate::spec::DetectSpec;

/// Returns the statement of a detection: counts, statistics and decision, with one scan of the table.
///
/// Its rows are the addresses that stand out, ordered by address, and one row without an address, so that the
/// statistics are returned even if no address stands out. No row at all means that nothing was counted. The order also
/// brings the rows into one partition: a client of a cluster fetches partitions one after another, each over a
/// connection of its own.
///
/// Every address needs the totals, but a statement that names `counts` twice would read the table twice as often. So
/// one aggregate computes both. The row of totals is copied into each bucket of addresses, and a window over the
/// bucket, which streams, puts it beside every address. No task gathers all addresses, and every operator that holds
/// some can spill.
pub fn plan_sql(spec: &DetectSpec) -> String {
    format!(
        "-- Addresses whose outgoing or incoming flows lie more than {sigma} standard deviations above the mean.\n\
         WITH\n{counts},\n{decision}",
        sigma = spec.sigma,
        counts = counts_cte(spec),
        decision = decision_sql(spec.sigma),
    )
}

/// Returns a statement with the counts of [`plan_sql`] alone: address, outgoing, incoming, ordered by address.
pub fn counts_sql(spec: &DetectSpec) -> String {
    format!("WITH\n{}\nSELECT address, outgoing, incoming FROM counts ORDER BY address", counts_cte(spec))
}

/// Returns the statement of the decision alone: the rows of [`plan_sql`], from a table with rows of [`counts_sql`]. An
/// address that has several rows, such as one of each window, has the sum of their counts.
pub fn decide_sql(table: &str, sigma: Sigma) -> String {
    decide_from(&quote_identifier(table), sigma)
}

/// Returns the statement of [`decide_sql`] over the addresses that are not in the column `address` of the table `found`.
pub fn decide_rest_sql(table: &str, found: &str, sigma: Sigma) -> String {
    let (table, found) = (quote_identifier(table), quote_identifier(found));
    decide_from(&format!("{table} LEFT ANTI JOIN {found} ON {table}.address = {found}.address"), sigma)
}

fn decide_from(rows: &str, sigma: Sigma) -> String {
    format!(
        "\
WITH
counts AS (
  SELECT
    address,
    CAST(sum(outgoing) AS BIGINT) AS outgoing,
    CAST(sum(incoming) AS BIGINT) AS incoming
  FROM {rows}
  GROUP BY address
),
{decision}",
        decision = decision_sql(sigma),
    )
}

/// Returns a statement with the pairs of a source and a destination: source, destination, flows (`BIGINT`), and the
/// first and the last time of a flow, in milliseconds UTC, ordered by source and destination. A flow counts only if it
/// has both addresses.
pub fn pairs_sql(spec: &DetectSpec) -> String {
    let (source, destination) =
        (quote_identifier(&spec.source_field), quote_identifier(&spec.destination_field));
    format!(
        "\
SELECT
  source,
  destination,
  CAST(count(*) AS BIGINT) AS flows,
  arrow_cast(min(flow_time), '{MILLIS}') AS \"first\",
  arrow_cast(max(flow_time), '{MILLIS}') AS \"last\"
FROM (
    SELECT CAST({source} AS VARCHAR) AS source, CAST({destination} AS VARCHAR) AS destination, {time} AS flow_time
    FROM {table}
    WHERE {source} IS NOT NULL AND {destination} IS NOT NULL{scope}
)
GROUP BY source, destination
ORDER BY source, destination",
        time = quote_identifier(&spec.time_field),
        table = quote_identifier(&spec.table),
        scope = scope(spec),
    )
}

/// Returns a statement with the rows of [`counts_sql`], computed by a full outer join of two counts as in the notebook,
/// so that one can be checked against the other on the same data.
pub fn counts_by_join_sql(spec: &DetectSpec) -> String {
    let count = |field: &str, count: &str| {
        let flows = direction(spec, field, "1", "1");
        format!("SELECT address, count(*) AS {count} FROM (\n{flows}\n) GROUP BY address")
    };
    format!(
        "\
SELECT
  coalesce(o.address, i.address) AS address,
  CAST(coalesce(o.outgoing, 0) AS BIGINT) AS outgoing,
  CAST(coalesce(i.incoming, 0) AS BIGINT) AS incoming
FROM ({outgoing}) AS o
FULL OUTER JOIN ({incoming}) AS i ON o.address = i.address
ORDER BY address",
        outgoing = count(&spec.source_field, "outgoing"),
        incoming = count(&spec.destination_field, "incoming"),
    )
}

/// Returns a CTE with the rows of a full outer join of both counts, from one scan: grouping sets count the sources and
/// the destinations of the same flows, and a second aggregate brings both counts of an address together. A join would
/// hold one side in memory; an aggregate spills.
///
/// The first aggregate stands directly over the table and groups by its columns, so that a table may push it down.
fn counts_cte(spec: &DetectSpec) -> String {
    let (source, destination) =
        (quote_identifier(&spec.source_field), quote_identifier(&spec.destination_field));
    format!(
        "\
-- Every address once; absent on one side is 0 there.
counts AS (
  SELECT
    address,
    CAST(sum(CASE WHEN is_source THEN flows ELSE 0 END) AS BIGINT) AS outgoing,
    CAST(sum(CASE WHEN is_source THEN 0 ELSE flows END) AS BIGINT) AS incoming
  FROM (
    SELECT
      is_source,
      CAST(CASE WHEN is_source THEN source ELSE destination END AS VARCHAR) AS address,
      flows
    FROM (
      SELECT
        {source} AS source,
        {destination} AS destination,
        grouping({source}) = 0 AS is_source,
        count(*) AS flows
      FROM {table}
      WHERE ({source} IS NOT NULL OR {destination} IS NOT NULL){scope}
      GROUP BY GROUPING SETS (({source}), ({destination}))
    )
  )
  WHERE address IS NOT NULL
  GROUP BY address
)",
        table = quote_identifier(&spec.table),
        scope = scope(spec),
    )
}

/// The type of times in a statement. A time without a zone is UTC.
const MILLIS: &str = "Timestamp(Millisecond, None)";

/// The number of buckets: the values of two hex digits of a hash.
const BUCKETS: u32 = 256;

/// Returns the statement from a CTE `counts` (address, outgoing, incoming) to the result.
pub(crate) fn decision_sql(sigma: Sigma) -> String {
    let numerator_squared = sigma.numerator() * sigma.numerator();
    let denominator_squared = sigma.denominator() * sigma.denominator();
    format!(
        "\
-- Exact integer sums in one pass over counts: a row for each address, and one over all of them.
summed AS (
  SELECT
    address,
    grouping(address) AS is_total,
    count(*) AS n,
{outgoing_sums},
{incoming_sums}
  FROM counts
  GROUP BY GROUPING SETS ((address), ())
),
-- The addresses in {BUCKETS} buckets, and the row over all of them in each.
copied AS (
  SELECT *, unnest(CASE WHEN is_total = 1 THEN range(0, {BUCKETS}) ELSE range(0, 1) END) AS copy
  FROM summed
),
placed AS (
  SELECT
    *,
    CASE WHEN is_total = 1 THEN lpad(to_hex(copy), 2, '0') ELSE left(md5(address), 2) END AS bucket
  FROM copied
),
-- In each bucket the row over all addresses comes first, and is put beside every row.
totals AS (
  SELECT
    address,
    copy,
    CASE WHEN is_total = 0 THEN outgoing_max END AS outgoing,
    CASE WHEN is_total = 0 THEN incoming_max END AS incoming,
    first_value(n) OVER bucket AS n,
{outgoing_totals},
{incoming_totals}
  FROM placed
  WINDOW bucket AS (
    PARTITION BY bucket ORDER BY is_total DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
  )
),
-- n times the deviation from the mean, and n² times the variance: still integers.
deviations AS (
  SELECT
    *,
{outgoing_deviation},
{incoming_deviation}
  FROM totals
),
-- deviation > k * standard deviation, squared and without a fraction: k² = {numerator_squared}/{denominator_squared}.
decided AS (
  SELECT
    *,
{outgoing_decision},
{incoming_decision}
  FROM deviations
)
-- Floating point from here on, and only to be shown.
SELECT
  address,
  outgoing,
  incoming,
  outgoing_stands_out,
  incoming_stands_out,
  n,
{outgoing_shown},
{incoming_shown}
FROM decided
WHERE outgoing_stands_out OR incoming_stands_out OR (address IS NULL AND copy = 0 AND n > 0)
ORDER BY address",
        outgoing_sums = sums("outgoing"),
        incoming_sums = sums("incoming"),
        outgoing_totals = totals("outgoing"),
        incoming_totals = totals("incoming"),
        outgoing_deviation = deviation("outgoing"),
        incoming_deviation = deviation("incoming"),
        outgoing_decision = decision("outgoing", numerator_squared, denominator_squared),
        incoming_decision = decision("incoming", numerator_squared, denominator_squared),
        outgoing_shown = shown("outgoing"),
        incoming_shown = shown("incoming"),
    )
}

fn sums(x: &str) -> String {
    format!(
        "    sum(CAST({x} AS DECIMAL(20, 0))) AS {x}_sum,
    sum(CAST({x} AS DECIMAL(76, 0)) * CAST({x} AS DECIMAL(76, 0))) AS {x}_squares,
    max({x}) AS {x}_max,
    min({x}) AS {x}_min"
    )
}

fn totals(x: &str) -> String {
    let columns = ["sum", "squares", "max", "min"]
        .map(|column| format!("    first_value({x}_{column}) OVER bucket AS {x}_{column}"));
    columns.join(",\n")
}

fn deviation(x: &str) -> String {
    format!(
        "    CAST(n AS DECIMAL(76, 0)) * CAST({x} AS DECIMAL(76, 0)) - CAST({x}_sum AS DECIMAL(76, 0))
      AS {x}_deviation,
    CAST(n AS DECIMAL(76, 0)) * {x}_squares
      - CAST({x}_sum AS DECIMAL(76, 0)) * CAST({x}_sum AS DECIMAL(76, 0)) AS {x}_variance"
    )
}

fn decision(x: &str, numerator_squared: u64, denominator_squared: u64) -> String {
    format!(
        "    address IS NOT NULL AND {x} > 0 AND {x}_deviation > 0
      AND CAST({denominator_squared} AS DECIMAL(76, 0)) * {x}_deviation * {x}_deviation
        > CAST({numerator_squared} AS DECIMAL(76, 0)) * {x}_variance AS {x}_stands_out"
    )
}

fn shown(x: &str) -> String {
    format!(
        "  CAST({x}_sum AS DOUBLE) / CAST(n AS DOUBLE) AS {x}_mean,
  sqrt(CAST({x}_variance AS DOUBLE)) / CAST(n AS DOUBLE) AS {x}_stddev,
  {x}_max,
  {x}_min,
  CAST({x}_deviation AS DOUBLE) / nullif(sqrt(CAST({x}_variance AS DOUBLE)), 0.0) AS {x}_z"
    )
}

/// Returns a statement with the number of documents of the window, with and without addresses.
pub fn documents_sql(spec: &DetectSpec) -> String {
    let table = quote_identifier(&spec.table);
    format!("SELECT count(*) AS documents FROM {table} WHERE true{}", scope(spec))
}

/// Returns the conditions of the window and of the filter, each after an AND.
fn scope(spec: &DetectSpec) -> String {
    let time = quote_identifier(&spec.time_field);
    let mut conditions = String::new();
    if let Some(since) = spec.since {
        conditions += &format!("\n      AND {time} >= {}", instant(since));
    }
    if let Some(until) = spec.until {
        conditions += &format!("\n      AND {time} < {}", instant(until));
    }
    if let Some(filter) = &spec.filter {
        // On lines of its own, so that a comment at its end does not hide the closing parenthesis.
        conditions += &format!("\n      AND (\n{filter}\n      )");
    }
    conditions
}

/// Returns a query with a row for each flow that has an address in `field`.
fn direction(spec: &DetectSpec, field: &str, outgoing: &str, incoming: &str) -> String {
    let field = quote_identifier(field);
    let predicate = format!("{field} IS NOT NULL{}", scope(spec));
    format!(
        "    SELECT CAST({field} AS VARCHAR) AS address, {outgoing} AS outgoing, {incoming} AS incoming
    FROM {table}
    WHERE {predicate}",
        table = quote_identifier(&spec.table),
    )
}

/// Returns an instant as SQL. The planner folds it to a literal with the type of a millisecond column, so that such a
/// column is compared without a cast.
fn instant(epoch_millis: i64) -> String {
    format!("arrow_cast({epoch_millis}, '{MILLIS}')")
}

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
