//! The translation of `LIKE` and `ILIKE`.
//!
//! Owns: patterns, and their form as `prefix`, `wildcard` and `regexp` queries. Must not know: logic.

use super::column::{Terms, exists, terms};
use super::compare::{compare, found_late, is_plain};
use super::comparison::{Comparison, range, term};
use super::query::{Query, or};
use super::translation::Translation;
use datafusion::scalar::ScalarValue;
use elastic_arrow::{Column, FieldType};
use serde_json::json;

/// A longer pattern does not justify its automaton. Servers reject regular expressions from 1,000 characters.
const MAX_PARTS: usize = 120;

/// After a `%`, each `_` may double the states of the automaton. Servers reject large automata.
const MAX_SINGLES: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A literal character.
    Char(char),
    /// `_`: any one character.
    One,
    /// `%`: any characters.
    Any,
}

/// Parses a pattern as arrow does: a backslash escapes the next character, and is literal at the end.
fn parse(pattern: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let part = match c {
            '%' if parts.last() == Some(&Part::Any) => continue,
            '%' => Part::Any,
            '_' => Part::One,
            '\\' => Part::Char(chars.next().unwrap_or('\\')),
            c => Part::Char(c),
        };
        parts.push(part);
    }
    parts
}

/// Returns the prefix that all matching texts have, and the remaining parts.
fn split_prefix(parts: &[Part]) -> (String, &[Part]) {
    let mut prefix = String::new();
    for (at, part) in parts.iter().enumerate() {
        let Part::Char(c) = part else { return (prefix, &parts[at..]) };
        prefix.push(*c);
    }
    (prefix, &[])
}

/// Finds every document whose text matches (`truth`), or does not match.
pub(super) fn like(column: &Column, pattern: &str, ignore_case: bool, truth: bool) -> Translation {
    let any = || Translation::inclusive(exists(column));
    let Some(terms) = searchable(column) else { return any() };
    let parts = parse(pattern);
    let characters: String =
        parts.iter().filter_map(|p| if let Part::Char(c) = p { Some(*c) } else { None }).collect();
    if column.field_type == FieldType::Wildcard && !is_plain(&characters) {
        return any();
    }
    let found = if ignore_case { ilike(&terms, &parts, truth) } else { plain(column, &terms, &parts, truth) };
    found.map_or_else(any, Translation::at_most_inclusive)
}

/// Returns the field of a column whose terms are whole texts.
fn searchable(column: &Column) -> Option<Terms<'_>> {
    let text = matches!(column.field_type, FieldType::Keyword | FieldType::Text | FieldType::Wildcard);
    terms(column).filter(|_| text)
}

fn plain(column: &Column, terms: &Terms<'_>, parts: &[Part], truth: bool) -> Option<Translation> {
    let (prefix, rest) = split_prefix(parts);
    let ranges = column.field_type != FieldType::Wildcard;
    match (rest, truth) {
        ([], _) => {
            let comparison = if truth { Comparison::Eq } else { Comparison::NotEq };
            Some(compare(column, comparison, &ScalarValue::from(prefix)))
        }
        ([Part::Any], true) if prefix.is_empty() => None,
        ([Part::Any], true) => Some(found_late(terms, Translation::inclusive(starts(terms.field, &prefix)))),
        ([Part::Any], false) if prefix.is_empty() => Some(Translation::inclusive(Query::Nothing)),
        ([Part::Any], false) if ranges => {
            Some(found_late(terms, Translation::inclusive(starts_otherwise(terms.field, &prefix))))
        }
        // A query for values that do not match exists only for ranges.
        (_, false) => None,
        (_, true) if parts.len() > MAX_PARTS => (!prefix.is_empty() && prefix.len() <= 4 * MAX_PARTS)
            .then(|| found_late(terms, Translation::inclusive(starts(terms.field, &prefix)))),
        (_, true) => {
            let mut text = String::new();
            for part in bounded(parts) {
                match part {
                    Part::Char(c @ ('*' | '?' | '\\')) => text.extend(['\\', c]),
                    Part::Char(c) => text.push(c),
                    Part::One => text.push('?'),
                    Part::Any => text.push('*'),
                }
            }
            let query = Query::Leaf(json!({ "wildcard": { terms.field: { "value": text } } }));
            Some(found_late(terms, Translation::inclusive(query)))
        }
    }
}

/// Replaces each `_` beyond the maximum with `%`. The result finds no fewer documents.
fn bounded(parts: &[Part]) -> Vec<Part> {
    let mut bounded: Vec<Part> = Vec::with_capacity(parts.len());
    let mut any = false;
    let mut singles = 0;
    for part in parts {
        any |= *part == Part::Any;
        singles += usize::from(any && *part == Part::One);
        let part = if *part == Part::One && singles > MAX_SINGLES { Part::Any } else { *part };
        if part != Part::Any || bounded.last() != Some(&Part::Any) {
            bounded.push(part);
        }
    }
    bounded
}

fn starts(field: &str, prefix: &str) -> Query {
    Query::Leaf(json!({ "prefix": { field: { "value": prefix } } }))
}

/// Texts without the prefix sort below it, or from the first text above all that have it.
fn starts_otherwise(field: &str, prefix: &str) -> Query {
    let mut parts = vec![range(field, json!({ "lt": prefix }))];
    if let Some(next) = after_prefix(prefix) {
        parts.push(range(field, json!({ "gte": next })));
    }
    or(parts)
}

/// Returns the first text above all texts with `prefix`, in the order of UTF-8 bytes, which is that of characters.
fn after_prefix(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// Translates `ILIKE` to a regular expression. Elasticsearch has `case_insensitive` only since 7.10, and only for
/// ASCII, while DataFusion folds Unicode. Among ASCII letters, non-ASCII characters fold only to `k` and `s`. A
/// non-ASCII character in the pattern becomes any one character, because folding is one to one.
fn ilike(terms: &Terms<'_>, parts: &[Part], truth: bool) -> Option<Translation> {
    if parts == [Part::Any] {
        return if truth { None } else { Some(Translation::inclusive(Query::Nothing)) };
    }
    if !truth || parts.len() > MAX_PARTS {
        return None;
    }
    let one = |part: &Part| match part {
        Part::Char(c) if !c.is_ascii() => Part::One,
        part => *part,
    };
    let parts = bounded(&parts.iter().map(one).collect::<Vec<_>>());
    let cased = |part: &Part| matches!(part, Part::Char(c) if c.is_ascii_alphabetic());
    if !parts.iter().any(cased) && parts.iter().all(|part| matches!(part, Part::Char(_))) {
        let (text, _) = split_prefix(&parts);
        return Some(found_late(terms, Translation::inclusive(term(terms.field, json!(text)))));
    }
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Char(c) if c.is_ascii_alphabetic() => {
                text.extend(['[', c.to_ascii_lowercase(), c.to_ascii_uppercase()]);
                match c.to_ascii_lowercase() {
                    'k' => text.push('\u{212a}'),
                    's' => text.push('\u{17f}'),
                    _ => {}
                }
                text.push(']');
            }
            Part::Char(c) if c.is_ascii_digit() => text.push(c),
            Part::Char(c) => text.extend(['\\', c]),
            Part::One => text.push('.'),
            Part::Any => text.push_str(".*"),
        }
    }
    let query = json!({ "regexp": { terms.field: { "value": text, "flags": "NONE" } } });
    Some(found_late(terms, Translation::inclusive(Query::Leaf(query))))
}
