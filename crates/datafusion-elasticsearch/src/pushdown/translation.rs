//! A query with its precision.
//!
//! Owns: the precision, and how it changes when queries are combined. Must not know: SQL, columns.
//!
//! The precision is set where a comparison becomes a query, and from there it can only decrease: a combination is
//! as precise as its least precise part. So no combination claims more than its query guarantees.

use super::query::{self, Query};

/// How the documents that a query finds relate to those that a filter keeps. The words are those of Iceberg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Precision {
    /// The query finds all of them, and may find others.
    Inclusive,
    /// The query finds exactly these, among documents with at most one value in each scalar column. DataFusion
    /// repeats the filter anyway, because only reading the column detects a document with several values.
    Strict,
    /// The query finds exactly these, whatever the documents contain. DataFusion need not repeat the filter.
    Exact,
}

/// The translation of a filter, or of a part of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Translation {
    pub(super) query: Query,
    pub(super) precision: Precision,
}

impl Translation {
    /// Returns no restriction, which is always correct.
    pub(super) fn all() -> Self {
        Self::inclusive(Query::All)
    }

    pub(super) fn inclusive(query: Query) -> Self {
        Self { query, precision: Precision::Inclusive }
    }

    pub(super) fn strict(query: Query) -> Self {
        Self { query, precision: Precision::Strict }
    }

    pub(super) fn exact(query: Query) -> Self {
        Self { query, precision: Precision::Exact }
    }

    /// Returns the same query with the precision [`Precision::Inclusive`].
    pub(super) fn at_most_inclusive(self) -> Self {
        Self::inclusive(self.query)
    }
}

/// Combines translations to the documents that all parts find.
pub(super) fn and(parts: Vec<Translation>) -> Translation {
    combine(parts, query::and)
}

/// Combines translations to the documents that any part finds.
pub(super) fn or(parts: Vec<Translation>) -> Translation {
    let restricts = parts.iter().all(|part| part.query != Query::All);
    let either = combine(parts, query::or);
    // A combined list that is too long becomes no restriction.
    if restricts && either.query == Query::All { either.at_most_inclusive() } else { either }
}

fn combine(parts: Vec<Translation>, join: impl Fn(Vec<Query>) -> Query) -> Translation {
    let least = parts.iter().map(|part| part.precision).min();
    Translation {
        query: join(parts.into_iter().map(|part| part.query).collect()),
        precision: least.unwrap_or(Precision::Exact),
    }
}
