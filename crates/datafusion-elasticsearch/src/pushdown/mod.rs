//! The translation of SQL filters to queries of the server.
//!
//! Owns: the three-valued logic of a filter. Must not know: the query of a single comparison (`compare.rs`,
//! `pattern.rs`, `address.rs`), nor how a query is written as JSON (`query.rs`).
//!
//! Two total functions do all of it. `where_true` returns a query that finds every document for which the filter
//! is true, and `where_false` every one for which it is false. Both may find more. Both may miss a document for
//! which the filter is unknown (null), because SQL drops it too. So `NOT` needs no negated query: it calls the
//! other function down to the leaves, and a superset stays a superset. `Query::All` means no restriction, which is
//! always correct.
//!
//! A document with several values in a scalar column is an error once it is read. A query that hides it would turn
//! that error into a wrong result. So a query may hide it only if the filter holds for none of its values. A query
//! on the server matches if any value matches, which satisfies this. `must_not` would mean that no value matches,
//! so the only `must_not` here is that of `exists`: `a <> 1` becomes `a < 1 OR a > 1`.
//!
//! For the same reason few filters are `Exact`. DataFusion does not read the column of a filter that it does not
//! repeat, and then nothing detects several values. The precision is part of the translation (`translation.rs`),
//! so that no second walk over the filter can disagree.

mod address;
mod calendar;
mod column;
mod compare;
mod comparison;
mod full_text;
mod number;
mod pattern;
mod query;
mod translation;

#[cfg(test)]
mod tests;

use crate::functions::{CIDR, MATCH};
use crate::options::Ignored;
use column::{array_element, exists, is_doc_values, is_missing, keyed, operand};
use compare::compare;
use comparison::Comparison;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Like, Operator};
use datafusion::scalar::ScalarValue;
use elastic_arrow::Column;
use query::Query;
use serde_json::Value;
pub(crate) use translation::Precision;
use translation::{Translation, and, or};

/// A translated filter.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    /// The query, in the query DSL.
    pub(crate) query: Value,
    /// How the documents that the query finds relate to those that the filter keeps.
    pub(crate) precision: Precision,
    /// The number of clauses in the query, of which a server accepts a limited number.
    pub(crate) clauses: usize,
}

/// Servers reject more than 1,024 clauses in total (`indices.query.bool.max_clause_count`), and the base query has
/// some of its own.
pub(crate) const MAX_CLAUSES: usize = 512;

/// Servers reject more than 20 nested `bool` (`indices.query.bool.max_nested_depth`). Three more surround these,
/// and the base query has its own.
const MAX_DEPTH: usize = 10;

/// Excluding a value takes two ranges. For a longer list that is too many clauses for the benefit.
const MAX_EXCLUDED: usize = 64;

/// Returns the query for a filter, or `None` if it would not restrict anything. `ignored` says how values dropped
/// by `ignore_above` or `ignore_malformed` are read.
pub(crate) fn translate(expr: &Expr, columns: &[Column], ignored: Ignored) -> Option<Pushed> {
    let Translation { query, precision } = Filter { columns, ignored }.where_true(expr);
    let clauses = query.clauses();
    if query == Query::All || clauses > MAX_CLAUSES || query.depth() > MAX_DEPTH {
        return None;
    }
    Some(Pushed { query: query.into_json(), precision, clauses })
}

/// Whether a filter contains `match`, which only the server can evaluate.
pub(crate) fn asks_match(expr: &Expr) -> bool {
    let is_match = |e: &Expr| Ok(matches!(e, Expr::ScalarFunction(f) if f.func.name() == MATCH));
    expr.exists(is_match).unwrap_or(true)
}

struct Filter<'a> {
    columns: &'a [Column],
    ignored: Ignored,
}

impl Filter<'_> {
    /// Finds every document for which `expr` is true.
    fn where_true(&self, expr: &Expr) -> Translation {
        self.query(expr, true)
    }

    /// Finds every document for which `expr` is false. Documents for which it is unknown may be missed.
    fn where_false(&self, expr: &Expr) -> Translation {
        self.query(expr, false)
    }

    fn query(&self, expr: &Expr, truth: bool) -> Translation {
        match expr {
            Expr::Alias(alias) => self.query(&alias.expr, truth),
            Expr::Not(inner) => self.query(inner, !truth),
            Expr::Column(_) => self.compare(expr, Comparison::Eq, &ScalarValue::from(truth)),
            Expr::Literal(ScalarValue::Boolean(value), _) => match value {
                Some(value) if *value == truth => Translation::exact(Query::All),
                _ => Translation::exact(Query::Nothing),
            },
            Expr::IsNull(inner) | Expr::IsUnknown(inner) => self.null(inner, truth),
            Expr::IsNotNull(inner) | Expr::IsNotUnknown(inner) => self.null(inner, !truth),
            Expr::IsTrue(inner) if truth => self.where_true(inner),
            Expr::IsNotTrue(inner) if !truth => self.where_true(inner),
            Expr::IsFalse(inner) if truth => self.where_false(inner),
            Expr::IsNotFalse(inner) if !truth => self.where_false(inner),
            // `IS NOT TRUE` holds for false and for unknown. Only for a column can a query tell which documents
            // are unknown.
            Expr::IsTrue(inner) | Expr::IsNotTrue(inner) => {
                or(vec![self.where_false(inner), self.null(inner, true)])
            }
            Expr::IsFalse(inner) | Expr::IsNotFalse(inner) => {
                or(vec![self.where_true(inner), self.null(inner, true)])
            }
            Expr::BinaryExpr(binary) => self.binary(binary, truth),
            Expr::Between(between) => self.between(between, truth),
            Expr::InList(list) => self.in_list(list, truth),
            Expr::Like(like) => self.like(like, truth),
            Expr::ScalarFunction(function) => self.function(function, truth),
            _ => Translation::all(),
        }
    }

    fn binary(&self, BinaryExpr { left, op, right }: &BinaryExpr, truth: bool) -> Translation {
        match op {
            Operator::And | Operator::Or => {
                let both = vec![self.query(left, truth), self.query(right, truth)];
                if (*op == Operator::And) == truth { and(both) } else { or(both) }
            }
            Operator::IsDistinctFrom => self.distinct(left, right, truth),
            Operator::IsNotDistinctFrom => self.distinct(left, right, !truth),
            _ => {
                let Some(comparison) = Comparison::from_operator(*op) else { return Translation::all() };
                let comparison = if truth { comparison } else { comparison.negate() };
                match (&**left, &**right) {
                    (_, Expr::Literal(value, _)) => self.compare(left, comparison, value),
                    (Expr::Literal(value, _), _) => self.compare(right, comparison.swap(), value),
                    // Every comparison is unknown if one of its two sides is null.
                    _ => and([left, right].map(|side| self.null(side, false)).into()).at_most_inclusive(),
                }
            }
        }
    }

    /// Translates `left IS DISTINCT FROM right` is `truth`. It is never unknown: null is a value like any other.
    fn distinct(&self, left: &Expr, right: &Expr, truth: bool) -> Translation {
        let (operand, value) = match (left, right) {
            (operand, Expr::Literal(value, _)) | (Expr::Literal(value, _), operand) => (operand, value),
            _ => return Translation::all(),
        };
        match (value.is_null(), truth) {
            (true, truth) => self.null(operand, !truth),
            (false, true) => {
                or(vec![self.compare(operand, Comparison::NotEq, value), self.null(operand, true)])
            }
            (false, false) => self.compare(operand, Comparison::Eq, value),
        }
    }

    fn compare(&self, expr: &Expr, comparison: Comparison, value: &ScalarValue) -> Translation {
        if let Some(column) = keyed(expr, self.columns) {
            return address::compare_keys(column, comparison, value);
        }
        match operand(expr, self.columns) {
            Some(_) if value.is_null() => Translation::strict(Query::Nothing),
            Some(column) => compare(column, comparison, value),
            None => {
                calendar::compare_cut(expr, self.columns, comparison, value).unwrap_or(Translation::all())
            }
        }
    }

    /// Translates `expr IS NULL` is `truth`. Precise only for a column whose values `exists` tests.
    fn null(&self, expr: &Expr, truth: bool) -> Translation {
        match operand(expr, self.columns).or_else(|| keyed(expr, self.columns)) {
            Some(column) if is_doc_values(column) => {
                let query = if truth { is_missing(column) } else { exists(column) };
                // A list may have any number of values. But if the server dropped values from doc values, only
                // reading the column detects it.
                let exact = column.array && self.ignored == Ignored::Null;
                if exact { Translation::exact(query) } else { Translation::strict(query) }
            }
            Some(_) | None => Translation::all(),
        }
    }

    fn between(&self, Between { expr, negated, low, high }: &Between, truth: bool) -> Translation {
        let (Expr::Literal(low, _), Expr::Literal(high, _)) = (&**low, &**high) else {
            return Translation::all();
        };
        if *negated == truth {
            or(vec![self.compare(expr, Comparison::Lt, low), self.compare(expr, Comparison::Gt, high)])
        } else {
            and(vec![self.compare(expr, Comparison::GtEq, low), self.compare(expr, Comparison::LtEq, high)])
        }
    }

    fn in_list(&self, InList { expr, list, negated }: &InList, truth: bool) -> Translation {
        let within = *negated != truth;
        let comparison = if within { Comparison::Eq } else { Comparison::NotEq };
        if !within && list.len() > MAX_EXCLUDED {
            return self.null(expr, false).at_most_inclusive();
        }
        let mut parts = Vec::with_capacity(list.len());
        for item in list {
            let Expr::Literal(value, _) = item else { return Translation::all() };
            parts.push(self.compare(expr, comparison, value));
        }
        if within { or(parts) } else { and(parts) }
    }

    fn like(&self, like: &Like, truth: bool) -> Translation {
        let (Some(column), Expr::Literal(value, _)) = (operand(&like.expr, self.columns), &*like.pattern)
        else {
            return Translation::all();
        };
        let (Some(Some(pattern)), None | Some('\\')) = (value.try_as_str(), like.escape_char) else {
            return Translation::all();
        };
        pattern::like(column, pattern, like.case_insensitive, like.negated != truth)
    }

    fn function(&self, function: &ScalarFunction, truth: bool) -> Translation {
        if function.func.name() == MATCH {
            return full_text::find(function, self.columns, truth);
        }
        let [subject, Expr::Literal(value, _)] = function.args.as_slice() else { return Translation::all() };
        match function.func.name() {
            CIDR => match (operand(subject, self.columns), value.try_as_str()) {
                (Some(column), Some(Some(network))) => address::cidr(column, network, truth),
                _ => Translation::all(),
            },
            "array_has" => match array_element(subject, self.columns) {
                Some((column, element)) if truth && !value.is_null() => {
                    let has = compare(&element, Comparison::Eq, value);
                    and(vec![has, Translation::inclusive(exists(column))])
                }
                Some((column, _)) => Translation::inclusive(exists(column)),
                None => Translation::all(),
            },
            _ => Translation::all(),
        }
    }
}
