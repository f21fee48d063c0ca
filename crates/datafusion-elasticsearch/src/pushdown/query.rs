//! A query before it is written as JSON.
//!
//! Owns: its flat normal form, and its JSON form. Must not know: SQL, columns.

use serde_json::{Value, json};

/// Servers accept up to 65,536 (`index.max_terms_count`).
const MAX_TERMS: usize = 10_000;

/// The documents that a query finds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Query {
    /// All documents: no restriction.
    All,
    /// No document.
    Nothing,
    /// Documents in which any of the values is a term of the field.
    Terms { field: String, values: Vec<Value> },
    /// Documents in which the field exists.
    Exists(String),
    /// Documents in which the field is missing. The only negation.
    Missing(String),
    /// Any other query on one field.
    Leaf(Value),
    /// Documents that all parts find. At least two parts, none of them an `And`.
    And(Vec<Query>),
    /// Documents that any part finds. At least two parts, none of them an `Or`.
    Or(Vec<Query>),
}

/// Combines queries to one for the documents that all of them find.
pub(super) fn and(parts: Vec<Query>) -> Query {
    let mut flat = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Query::All => {}
            Query::Nothing => return Query::Nothing,
            Query::And(inner) => flat.extend(inner),
            other if flat.contains(&other) => {}
            other => flat.push(other),
        }
    }
    match flat.len() {
        0 => Query::All,
        1 => flat.remove(0),
        _ => Query::And(flat),
    }
}

/// Combines queries to one for the documents that any of them finds. Terms of one field become one list.
pub(super) fn or(parts: Vec<Query>) -> Query {
    let mut flat: Vec<Query> = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Query::All => return Query::All,
            Query::Nothing => {}
            Query::Or(inner) => inner.into_iter().for_each(|part| push_or(&mut flat, part)),
            other => push_or(&mut flat, other),
        }
    }
    if flat.iter().any(|q| matches!(q, Query::Terms { values, .. } if values.len() > MAX_TERMS)) {
        return Query::All;
    }
    match flat.len() {
        0 => Query::Nothing,
        1 => flat.remove(0),
        _ => Query::Or(flat),
    }
}

fn push_or(flat: &mut Vec<Query>, part: Query) {
    let Query::Terms { field, values } = part else {
        if !flat.contains(&part) {
            flat.push(part);
        }
        return;
    };
    for other in flat.iter_mut() {
        if let Query::Terms { field: same, values: list } = other
            && *same == field
        {
            list.extend(values);
            return;
        }
    }
    flat.push(Query::Terms { field, values });
}

impl Query {
    /// Returns the number of queries within it that are not `bool`.
    pub(super) fn clauses(&self) -> usize {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().map(Self::clauses).sum(),
            Self::All
            | Self::Nothing
            | Self::Terms { .. }
            | Self::Exists(_)
            | Self::Missing(_)
            | Self::Leaf(_) => 1,
        }
    }

    /// Returns how deep `bool` queries are nested.
    pub(super) fn depth(&self) -> usize {
        match self {
            Self::And(parts) | Self::Or(parts) => 1 + parts.iter().map(Self::depth).max().unwrap_or(0),
            Self::Missing(_) => 1,
            Self::All | Self::Nothing | Self::Terms { .. } | Self::Exists(_) | Self::Leaf(_) => 0,
        }
    }

    /// Returns the query as JSON of the query DSL.
    pub(super) fn into_json(self) -> Value {
        let list = |parts: Vec<Self>| -> Value { parts.into_iter().map(Self::into_json).collect() };
        match self {
            Self::All => json!({ "match_all": {} }),
            Self::Nothing => json!({ "match_none": {} }),
            Self::Terms { field, mut values } if values.len() == 1 => {
                json!({ "term": { field: { "value": values.remove(0) } } })
            }
            Self::Terms { field, values } => json!({ "terms": { field: values } }),
            Self::Exists(field) => json!({ "exists": { "field": field } }),
            Self::Missing(field) => json!({ "bool": { "must_not": { "exists": { "field": field } } } }),
            Self::Leaf(query) => query,
            Self::And(parts) => json!({ "bool": { "filter": list(parts) } }),
            Self::Or(parts) => json!({ "bool": { "should": list(parts), "minimum_should_match": 1 } }),
        }
    }
}
