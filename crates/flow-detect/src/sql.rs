//! The statement. Owns its text and the proof that its numbers are exact; must not know the types of
//! the table or who runs it.
//!
//! # Why the decision is exact
//! With n addresses, counts x, S = Σx and Q = Σx², a count lies more than k = num/den population
//! standard deviations above the mean if and only if `n·x − S > 0` and
//! `den²·(n·x − S)² > num²·(n·Q − S²)`. Both sides are integers, so the order in which partial sums
//! arrive cannot change an answer, as it does with floating point.
//!
//! DataFusion's decimal `sum` wraps on overflow, its decimal `*` and `-` are errors on overflow. So
//! sums must be bounded, and products need only be big enough for real work. A count is a `BIGINT`,
//! below 2⁶³:
//! - S is a sum in 128 bits and would need 2⁶⁴ addresses to wrap; Q is a sum in 256 bits and would
//!   need 2¹²⁹.
//! - products are 256 bits wide (`DECIMAL(76, 0)`): with every count at the greatest `BIGINT` and k
//!   at its greatest, they hold up to 2·10¹⁰ addresses; above that the statement fails.

use crate::{DetectSpec, Sigma};

/// The one statement: counts, statistics and decision, with two scans of the table.
///
/// Its rows are the addresses that stand out, and always the least address, so that the statistics
/// are there when nothing stands out. No row at all means that nothing was counted.
pub fn plan_sql(spec: &DetectSpec) -> String {
    format!(
        "-- Addresses whose outgoing or incoming flows lie more than {sigma} standard deviations above the mean.\n\
         WITH\n{directions},\n{counts},\n{decision}",
        sigma = spec.sigma,
        directions = direction_ctes(spec),
        counts = COUNTS_CTE.replace("{outgoing}", outgoing_name(spec)),
        decision = decision_sql(spec.sigma),
    )
}

/// The counts alone: address, outgoing, incoming, as [`plan_sql`] joins them, ordered by address.
pub fn counts_sql(spec: &DetectSpec) -> String {
    format!(
        "WITH\n{directions},\n{counts}\nSELECT address, outgoing, incoming FROM counts ORDER BY address",
        directions = direction_ctes(spec),
        counts = COUNTS_CTE.replace("{outgoing}", outgoing_name(spec)),
    )
}

/// The same rows as [`counts_sql`] without a join, so that the join can be checked on the same data.
pub fn counts_by_union_sql(spec: &DetectSpec) -> String {
    let both = "\
SELECT
  address,
  CAST(sum(outgoing) AS BIGINT) AS outgoing,
  CAST(sum(incoming) AS BIGINT) AS incoming
FROM (
  SELECT address, outgoing, 0 AS incoming FROM {outgoing}
  UNION ALL
  SELECT address, 0 AS outgoing, incoming FROM incoming
)
GROUP BY address
ORDER BY address";
    format!("WITH\n{}\n{}", direction_ctes(spec), both.replace("{outgoing}", outgoing_name(spec)))
}

const COUNTS_CTE: &str = "\
-- Every address once; absent on one side is 0 there.
counts AS (
  SELECT
    coalesce(o.address, i.address) AS address,
    CAST(coalesce(o.outgoing, 0) AS BIGINT) AS outgoing,
    CAST(coalesce(i.incoming, 0) AS BIGINT) AS incoming
  FROM {outgoing} AS o
  FULL OUTER JOIN incoming AS i ON o.address = i.address
)";

/// From a CTE `counts` (address, outgoing, incoming) to the answer.
pub(crate) fn decision_sql(sigma: Sigma) -> String {
    let numerator_squared = sigma.numerator() * sigma.numerator();
    let denominator_squared = sigma.denominator() * sigma.denominator();
    format!(
        "\
-- Exact integer sums beside every address: windows over everything, so that counts is named once.
totals AS (
  SELECT
    address,
    outgoing,
    incoming,
    min(address) OVER () AS first_address,
    count(*) OVER () AS n,
{outgoing_totals},
{incoming_totals}
  FROM counts
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
WHERE outgoing_stands_out OR incoming_stands_out OR address = first_address
ORDER BY address",
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

fn totals(x: &str) -> String {
    format!(
        "    sum(CAST({x} AS DECIMAL(20, 0))) OVER () AS {x}_sum,
    sum(CAST({x} AS DECIMAL(76, 0)) * CAST({x} AS DECIMAL(76, 0))) OVER () AS {x}_squares,
    max({x}) OVER () AS {x}_max,
    min({x}) OVER () AS {x}_min"
    )
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
        "    {x} > 0 AND {x}_deviation > 0
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

fn direction_ctes(spec: &DetectSpec) -> String {
    let outgoing =
        direction_cte(spec, outgoing_name(spec), "outgoing", &spec.source_field, "Flows by source.");
    let incoming =
        direction_cte(spec, "incoming", "incoming", &spec.destination_field, "Flows by destination.");
    format!("{outgoing},\n{incoming}")
}

fn direction_cte(spec: &DetectSpec, name: &str, count: &str, field: &str, title: &str) -> String {
    let field = quote_identifier(field);
    let time = quote_identifier(&spec.time_field);
    let mut predicate = format!("{field} IS NOT NULL");
    if let Some(since) = spec.since {
        predicate += &format!("\n    AND {time} >= {}", instant(since));
    }
    if let Some(until) = spec.until {
        predicate += &format!("\n    AND {time} < {}", instant(until));
    }
    if let Some(filter) = &spec.filter {
        // On lines of its own: a comment in it must not take what follows with it.
        predicate += &format!("\n    AND (\n{filter}\n    )");
    }
    format!(
        "\
-- {title}
{name} AS (
  SELECT CAST({field} AS VARCHAR) AS address, count(*) AS {count}
  FROM {table}
  WHERE {predicate}
  GROUP BY 1
)",
        table = quote_identifier(&spec.table),
    )
}

/// The first CTE must not hide the table from the second, should the table bear its name.
fn outgoing_name(spec: &DetectSpec) -> &'static str {
    if spec.table == "outgoing" { "outgoing_flows" } else { "outgoing" }
}

/// Folded to a literal when planned; of the type of a millisecond column, so that such a column is
/// compared as it is.
fn instant(epoch_millis: i64) -> String {
    format!("arrow_cast({epoch_millis}, 'Timestamp(Millisecond, None)')")
}

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
