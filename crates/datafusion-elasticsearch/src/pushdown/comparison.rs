//! The six comparison operators, and the queries that they become.
//!
//! Owns: the operators. Must not know: columns and their types.

use super::query::Query;
use datafusion::logical_expr::Operator;
use serde_json::{Value, json};

/// A comparison with a value that is not null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    NotEq,
    Lt,
    LtEq,
    Gt,
    GtEq,
}

impl Comparison {
    pub(super) fn from_operator(operator: Operator) -> Option<Self> {
        Some(match operator {
            Operator::Eq => Self::Eq,
            Operator::NotEq => Self::NotEq,
            Operator::Lt => Self::Lt,
            Operator::LtEq => Self::LtEq,
            Operator::Gt => Self::Gt,
            Operator::GtEq => Self::GtEq,
            _ => return None,
        })
    }

    /// Returns the comparison that is true where this one is false.
    pub(super) fn negate(self) -> Self {
        match self {
            Self::Eq => Self::NotEq,
            Self::NotEq => Self::Eq,
            Self::Lt => Self::GtEq,
            Self::LtEq => Self::Gt,
            Self::Gt => Self::LtEq,
            Self::GtEq => Self::Lt,
        }
    }

    /// Returns the comparison with its sides exchanged.
    pub(super) fn swap(self) -> Self {
        match self {
            Self::Eq | Self::NotEq => self,
            Self::Lt => Self::Gt,
            Self::LtEq => Self::GtEq,
            Self::Gt => Self::Lt,
            Self::GtEq => Self::LtEq,
        }
    }
}

pub(super) fn term(field: &str, value: Value) -> Query {
    Query::Terms { field: field.to_owned(), values: vec![value] }
}

/// Finds a range with one bound, or with both.
pub(super) fn range(field: &str, bounds: Value) -> Query {
    Query::Leaf(json!({ "range": { field: bounds } }))
}
