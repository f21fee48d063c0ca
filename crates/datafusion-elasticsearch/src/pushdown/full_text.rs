//! The translation of `match(column, 'text')`.
//!
//! Owns: which columns support it, and its query. Must not know: logic.

use super::query::Query;
use super::translation::Translation;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::ScalarFunction;
use elastic_arrow::{Column, FieldType};
use serde_json::json;

/// Returns the column and the text of a match that the server can evaluate.
pub(super) fn arguments<'a>(
    function: &'a ScalarFunction,
    columns: &'a [Column],
) -> Option<(&'a Column, &'a str)> {
    let [Expr::Column(name), Expr::Literal(value, _)] = function.args.as_slice() else { return None };
    let column = columns.iter().find(|column| column.name == name.name)?;
    let has_words = matches!(column.field_type, FieldType::Text | FieldType::Keyword);
    Some((column, value.try_as_str()??)).filter(|_| has_words && column.indexed)
}

/// Finds the documents that match, or those that have a value and do not match. The server decides what matches.
pub(super) fn find(function: &ScalarFunction, columns: &[Column], truth: bool) -> Translation {
    let Some((column, text)) = arguments(function, columns) else { return Translation::all() };
    let field = column.name.as_str();
    let found = json!({ "match": { field: { "query": text } } });
    if truth {
        return Translation::exact(Query::Leaf(found));
    }
    let other = json!({ "bool": { "must_not": found, "filter": { "exists": { "field": field } } } });
    Translation::exact(Query::Leaf(other))
}
