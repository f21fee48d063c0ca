//! A query, and how precise it is.
//!
//! Owns: the precision, and what becomes of it where queries are combined. Must not know: SQL, columns.
//!
//! A precision is stated where a query is made of a comparison, and only goes down from there: what is
//! combined is as precise as its least precise part. So nothing claims more than its query gives.

use super::query::{self, Query};

/// How the documents that a query finds compare with those that a filter keeps. The words are Iceberg's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Precision {
    /// It finds all of them, and may find others.
    Inclusive,
    /// It finds these and no others, among documents with one value or none in each scalar column.
    /// DataFusion repeats the filter all the same: only by reading the column is a document with several
    /// values noticed.
    Strict,
    /// It finds these and no others, whatever the documents hold. DataFusion need not repeat the filter.
    Exact,
}

/// What became of a filter, or of a part of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Translation {
    pub(super) query: Query,
    pub(super) precision: Precision,
}

impl Translation {
    /// No restriction, which is always right.
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

    /// The same query, which finds others too.
    pub(super) fn at_most_inclusive(self) -> Self {
        Self::inclusive(self.query)
    }
}

/// The documents that all parts find.
pub(super) fn and(parts: Vec<Translation>) -> Translation {
    combine(parts, query::and)
}

/// The documents that any part finds.
pub(super) fn or(parts: Vec<Translation>) -> Translation {
    let restricts = parts.iter().all(|part| part.query != Query::All);
    let either = combine(parts, query::or);
    // Parts that are too long together are not asked for.
    if restricts && either.query == Query::All { either.at_most_inclusive() } else { either }
}

fn combine(parts: Vec<Translation>, join: impl Fn(Vec<Query>) -> Query) -> Translation {
    let least = parts.iter().map(|part| part.precision).min();
    Translation {
        query: join(parts.into_iter().map(|part| part.query).collect()),
        precision: least.unwrap_or(Precision::Exact),
    }
}
