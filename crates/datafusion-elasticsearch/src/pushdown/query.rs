//! A query before it is JSON.
//!
//! Owns: its simplest form, flat, and how the server writes it. Must not know: SQL, columns.

use serde_json::{Value, json};

/// Servers take 65,536 (`index.max_terms_count`).
const MAX_TERMS: usize = 10_000;

/// Which documents are found.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Query {
    /// All: not restricted.
    All,
    /// None.
    Nothing,
    /// Any of the values is a term of the field.
    Terms { field: String, values: Vec<Value> },
    /// The field has a value.
    Exists(String),
    /// The field has no value. The only negation there is.
    Lacks(String),
    /// Any other query of one field.
    Leaf(Value),
    /// All of them; at least two, none of them an `And`.
    And(Vec<Query>),
    /// Any of them; at least two, none of them an `Or`.
    Or(Vec<Query>),
}

/// All of them.
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

/// Any of them. Terms of one field become one list.
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
    /// Queries within it that are not `bool`.
    pub(super) fn clauses(&self) -> usize {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().map(Self::clauses).sum(),
            Self::All
            | Self::Nothing
            | Self::Terms { .. }
            | Self::Exists(_)
            | Self::Lacks(_)
            | Self::Leaf(_) => 1,
        }
    }

    /// How many `bool` are in one another.
    pub(super) fn depth(&self) -> usize {
        match self {
            Self::And(parts) | Self::Or(parts) => 1 + parts.iter().map(Self::depth).max().unwrap_or(0),
            Self::Lacks(_) => 1,
            Self::All | Self::Nothing | Self::Terms { .. } | Self::Exists(_) | Self::Leaf(_) => 0,
        }
    }

    /// As it is sent.
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
            Self::Lacks(field) => json!({ "bool": { "must_not": { "exists": { "field": field } } } }),
            Self::Leaf(query) => query,
            Self::And(parts) => json!({ "bool": { "filter": list(parts) } }),
            Self::Or(parts) => json!({ "bool": { "should": list(parts), "minimum_should_match": 1 } }),
        }
    }
}
