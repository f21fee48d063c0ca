//! Filters whose query finds no document too many.
//!
//! Owns: which they are. Must not know: how a query is written.
//!
//! DataFusion repeats them all the same, for only by reading the column is a document with several
//! values seen. But what the server finds first by some order is then what the filter keeps first, or a
//! document that is an error.

use super::column::{is_doc_values, operand, present, terms};
use super::compare::compare;
use super::comparison::Comparison;
use super::query::Query;
use super::{Filter, MAX_EXCLUDED};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;
use elastic_arrow::{Column, FieldType};

/// Whether the query finds exactly the documents that the filter keeps, of those with one value or none
/// in each scalar column.
pub(crate) fn is_tight(expr: &Expr, columns: &[Column]) -> bool {
    // Beside others a part that is not asked for, such as a list too long, would not be missed.
    let unasked = |truth| Filter { columns }.query(expr, truth) == Query::All;
    if unasked(true) || unasked(false) {
        return false;
    }
    match expr {
        Expr::Not(inner) => is_tight(inner, columns),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => operand(inner, columns).is_some_and(is_doc_values),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            is_tight(left, columns) && is_tight(right, columns)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (&**left, &**right) {
            (_, Expr::Literal(value, _)) => is_tight_comparison(left, *op, value, columns),
            (Expr::Literal(value, _), _) => is_tight_comparison(right, *op, value, columns),
            _ => false,
        },
        Expr::Between(Between { expr, low, high, .. }) => {
            [low, high].into_iter().all(|bound| match &**bound {
                Expr::Literal(value, _) => is_tight_comparison(expr, Operator::Lt, value, columns),
                _ => false,
            })
        }
        Expr::InList(InList { expr, list, negated: false }) if list.len() <= MAX_EXCLUDED => {
            list.iter().all(|item| match item {
                Expr::Literal(value, _) => is_tight_comparison(expr, Operator::Eq, value, columns),
                _ => false,
            })
        }
        _ => false,
    }
}

/// Of the types that are compared to the last digit: no floating point on either side, nothing that was
/// normalised, nothing that the server may lack.
fn is_tight_comparison(expr: &Expr, operator: Operator, value: &ScalarValue, columns: &[Column]) -> bool {
    let Some(column) = operand(expr, columns) else { return false };
    let Some(comparison) = Comparison::from_operator(operator) else { return false };
    if value.is_null() || terms(column).is_none_or(|terms| terms.late) {
        return false;
    }
    // Of a value that the server does not know, it is asked for no more than that there is one.
    if [comparison, comparison.negate()].iter().any(|c| compare(column, *c, value) == present(column)) {
        return false;
    }
    match &column.field_type {
        FieldType::Keyword => value.try_as_str().is_some(),
        FieldType::Byte | FieldType::Short | FieldType::Integer | FieldType::Long => {
            value.data_type().is_integer()
        }
        FieldType::Date => super::number::is_within_dates(value),
        FieldType::Boolean | FieldType::DateNanos => true,
        _ => false,
    }
}
