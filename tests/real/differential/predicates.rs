//! Random predicates in SQL.
//!
//! Owns: what is asked of which field. Must not know: documents.

use super::fields::{Field, Kind, pick, quoted, random_text};
use rand::Rng;
use rand::rngs::StdRng;

const COMPARISONS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

const NETWORKS: [&str; 9] = [
    "10.0.0.0/8",
    "10.0.0.0/31",
    "0.0.0.0/0",
    "::/0",
    "2001:db8::/32",
    "192.168.1.1",
    "::ffff:10.0.0.0/104",
    "10.0.0.1/24",
    "::/64",
];

/// A predicate over some of the fields, of at most this many levels.
pub(super) fn predicate(rng: &mut StdRng, fields: &[Field], levels: u32) -> String {
    part(rng, fields, levels, Beside::Nothing)
}

/// What a leaf stands beside. DataFusion 55 makes one list of two on a column, as if there were no NULL
/// in them: `a IN (1) AND a NOT IN (2, NULL)` is true there of 1, and never in SQL. So only a list that
/// stands alone has one.
#[derive(Clone, Copy, PartialEq)]
enum Beside {
    Nothing,
    Others,
}

fn part(rng: &mut StdRng, fields: &[Field], levels: u32, beside: Beside) -> String {
    if levels == 0 || rng.random_bool(0.3) {
        let field = &fields[rng.random_range(0..fields.len())];
        let negated = rng.random_bool(0.25);
        let leaf = leaf(rng, field, beside);
        return if negated { format!("NOT ({leaf})") } else { leaf };
    }
    let operator = if rng.random_bool(0.5) { "AND" } else { "OR" };
    let parts: Vec<String> =
        (0..rng.random_range(2..=3)).map(|_| part(rng, fields, levels - 1, Beside::Others)).collect();
    let joined = parts.join(&format!(" {operator} "));
    match rng.random_range(0..8) {
        0..=1 => format!("NOT ({joined})"),
        2 => format!("(({joined}) IS NOT TRUE)"),
        _ => format!("({joined})"),
    }
}

fn leaf(rng: &mut StdRng, field: &Field, beside: Beside) -> String {
    let name = &field.name;
    if rng.random_bool(0.1) {
        return format!("{name} IS {}NULL", pick(rng, &["", "NOT "]));
    }
    if field.array {
        return match field.kind {
            Kind::Boolean => format!("{name} IS NOT NULL"),
            // Dates among elements are not coerced from text.
            Kind::Date(_) => {
                format!(
                    "array_has({name}, arrow_cast({}, 'Timestamp(Millisecond, None)'))",
                    field.literal(rng)
                )
            }
            Kind::DateNanos => {
                format!(
                    "array_has({name}, arrow_cast({}, 'Timestamp(Nanosecond, None)'))",
                    field.literal(rng)
                )
            }
            _ => format!("array_has({name}, {})", field.literal(rng)),
        };
    }
    let not = pick(rng, &["", "NOT "]);
    match (field.kind, rng.random_range(0..10)) {
        (Kind::Boolean, 0..=3) => name.clone(),
        (Kind::Boolean, 6..=8) => format!("{name} IS {not}{}", pick(rng, &["TRUE", "FALSE", "UNKNOWN"])),
        (Kind::Ip, 0..=2) => format!("cidr({name}, '{}')", pick(rng, &NETWORKS)),
        (
            Kind::Keyword
            | Kind::Lower
            | Kind::Text
            | Kind::TextWithKeyword
            | Kind::TextWithShortKeyword
            | Kind::Wildcard,
            0..=3,
        ) => {
            let like = pick(rng, &["LIKE", "ILIKE"]);
            format!("{name} {not}{like} {}", pattern(rng))
        }
        (Kind::Ip, 3) => format!("{name} {not}LIKE '10.%'"),
        (Kind::Date(_), 0..=1) => {
            let day = pick(rng, &["2024-02-29", "1970-01-01", "1969-12-31", "2024-03-01"]);
            format!("CAST({name} AS DATE) {} DATE '{day}'", pick(rng, &COMPARISONS))
        }
        (Kind::DateNanos, 0..=2) => {
            let unit = pick(rng, &["second", "minute", "hour", "day", "week", "month", "quarter", "year"]);
            let literal = if rng.random_bool(0.5) {
                format!(
                    "date_trunc('{unit}', arrow_cast({}, 'Timestamp(Nanosecond, None)'))",
                    field.literal(rng)
                )
            } else {
                field.literal(rng)
            };
            format!("date_trunc('{unit}', {name}) {} {literal}", pick(rng, &COMPARISONS))
        }
        (_, 4..=5) => {
            let items: Vec<String> = (0..rng.random_range(1..=6)).map(|_| field.literal(rng)).collect();
            let null = if beside == Beside::Nothing && rng.random_bool(0.3) { ", NULL" } else { "" };
            format!("{name} {not}IN ({}{null})", items.join(", "))
        }
        (_, 6) => format!("{name} {not}BETWEEN {} AND {}", field.literal(rng), field.literal(rng)),
        (_, 7) if rng.random_bool(0.3) => {
            format!("({name} IS {not}DISTINCT FROM {})", field.literal(rng))
        }
        (_, 8) if rng.random_bool(0.5) => {
            format!("{} {} {name}", field.literal(rng), pick(rng, &COMPARISONS))
        }
        _ => format!("{name} {} {}", pick(rng, &COMPARISONS), field.literal(rng)),
    }
}

/// A text that documents have, with some characters made wild, escaped or of the other case.
fn pattern(rng: &mut StdRng) -> String {
    let mut pattern = String::new();
    if rng.random_bool(0.3) {
        pattern.push('%');
    }
    for c in random_text(rng).chars() {
        match rng.random_range(0..10) {
            0 => pattern.push('_'),
            1 => pattern.push('%'),
            2 => pattern.extend(c.to_uppercase()),
            3 => pattern.extend(['\\', c]),
            _ => pattern.push(c),
        }
    }
    if rng.random_bool(0.4) {
        pattern.push('%');
    }
    quoted(&pattern)
}
