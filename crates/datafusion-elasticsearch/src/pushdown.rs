//! A filter of SQL as a query of the server.
//!
//! Owns: the translation. What is translated may let more rows through than the filter, never
//! fewer, so DataFusion filters again (`Inexact`); what is not translated is not sent.

use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;
use elastic_arrow::{Column, FieldType, ReadFrom};
use serde_json::{Value, json};

/// The query for a filter, or `None` where it has no sure translation.
pub(crate) fn translate(expr: &Expr, columns: &[Column]) -> Option<Value> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            match (translate(left, columns), translate(right, columns)) {
                (Some(l), Some(r)) => Some(json!({ "bool": { "filter": [l, r] } })),
                (one, other) => one.or(other),
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (l, r) = (translate(left, columns)?, translate(right, columns)?);
            Some(json!({ "bool": { "should": [l, r], "minimum_should_match": 1 } }))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(c), Expr::Literal(value, _)) => compare(find(&c.name, columns)?, *op, value),
            (Expr::Literal(value, _), Expr::Column(c)) => compare(find(&c.name, columns)?, op.swap()?, value),
            _ => None,
        },
        Expr::IsNotNull(inner) => match inner.as_ref() {
            Expr::Column(c) => exists(find(&c.name, columns)?),
            _ => None,
        },
        Expr::InList(list) if !list.negated => {
            let Expr::Column(c) = list.expr.as_ref() else { return None };
            let column = find(&c.name, columns)?;
            let any: Option<Vec<Value>> = list
                .list
                .iter()
                .map(|item| match item {
                    Expr::Literal(value, _) => compare(column, Operator::Eq, value),
                    _ => None,
                })
                .collect();
            Some(json!({ "bool": { "should": any?, "minimum_should_match": 1 } }))
        }
        Expr::Between(between) if !between.negated => {
            match (between.expr.as_ref(), between.low.as_ref(), between.high.as_ref()) {
                (Expr::Column(c), Expr::Literal(low, _), Expr::Literal(high, _)) => {
                    let column = find(&c.name, columns)?;
                    let low = compare(column, Operator::GtEq, low)?;
                    let high = compare(column, Operator::LtEq, high)?;
                    Some(json!({ "bool": { "filter": [low, high] } }))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Only scalar columns read from doc values: what the server compares is then what we read.
fn find<'a>(name: &str, columns: &'a [Column]) -> Option<&'a Column> {
    let column = columns.iter().find(|c| c.name == name)?;
    let plain = matches!(column.read_from, ReadFrom::DocValues { .. }) && !column.array && column.indexed;
    plain.then_some(column)
}

fn exists(column: &Column) -> Option<Value> {
    Some(json!({ "exists": { "field": column.name } }))
}

fn compare(column: &Column, op: Operator, value: &ScalarValue) -> Option<Value> {
    let (value, format) = match (&column.field_type, value) {
        (
            FieldType::Keyword | FieldType::ConstantKeyword,
            ScalarValue::Utf8(Some(s)) | ScalarValue::Utf8View(Some(s)) | ScalarValue::LargeUtf8(Some(s)),
        ) if op == Operator::Eq && !column.normalizer => (json!(s), None),
        (FieldType::Date, ScalarValue::TimestampMillisecond(Some(ms), _)) => {
            (json!(ms), Some("epoch_millis"))
        }
        (FieldType::Boolean, ScalarValue::Boolean(Some(b))) if op == Operator::Eq => (json!(b), None),
        (FieldType::Byte | FieldType::Short | FieldType::Integer | FieldType::Long, value) => match value {
            ScalarValue::Int8(Some(n)) => (json!(n), None),
            ScalarValue::Int16(Some(n)) => (json!(n), None),
            ScalarValue::Int32(Some(n)) => (json!(n), None),
            ScalarValue::Int64(Some(n)) => (json!(n), None),
            _ => return None,
        },
        _ => return None,
    };
    let bound = match op {
        Operator::Eq if format.is_none() => return Some(json!({ "term": { &column.name: value } })),
        Operator::Eq => return None,
        Operator::Lt => "lt",
        Operator::LtEq => "lte",
        Operator::Gt => "gt",
        Operator::GtEq => "gte",
        _ => return None,
    };
    let mut range = json!({ bound: value });
    if let Some(format) = format {
        range["format"] = json!(format);
    }
    Some(json!({ "range": { &column.name: range } }))
}
