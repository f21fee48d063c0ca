//! The order of addresses in `ip` columns.
//!
//! Owns: the analyzer rule that makes expressions over `ip` columns compare addresses instead of their texts.
//! Must not know: how a filter is pushed, nor how a key is encoded.
//!
//! A column is an `ip` column if the metadata of its field says so; views, subqueries, aliases, casts and groups
//! keep that metadata. Its values are canonical text, so equal texts are equal addresses, and joins and groups
//! need no change. An expression that needs an order gets `ip_key(column)` instead of the column; `ip_text`
//! converts the result of `min` and `max` back to text. Literals are checked. A text that is not an address equals
//! nothing and has no place in the order. It is an error, not an empty result.
//!
//! The rule is idempotent: the client and the scheduler both apply it. A key is not an `ip` column, and a checked
//! literal is already canonical.

use crate::functions::{AddressKey, IP_KEY, IP_TEXT, Network, function};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{InList, ScalarFunction, SetComparison};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Between, BinaryExpr, Distinct, Expr, ExprSchemable, LogicalPlan, Operator, Projection, SortExpr, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;
use elastic_arrow::{IP_TYPE, TYPE_KEY};
use std::net::IpAddr;
use std::sync::Arc;

/// The analyzer rule for `ip` columns. It makes `<`, `<=`, `>`, `>=`, `BETWEEN`, `ORDER BY`, `min`, `max`,
/// `greatest` and `least` compare addresses as servers do, and rejects literals that are not an address.
#[derive(Debug, Default)]
pub struct AddressOrder;

impl AnalyzerRule for AddressOrder {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        if !reads_addresses(&plan)? {
            return Ok(plan);
        }
        Ok(plan.transform_up_with_subqueries(rewrite_node)?.data)
    }

    fn name(&self) -> &str {
        "address_order"
    }
}

fn is_ip_field(field: &Field) -> bool {
    field.metadata().get(TYPE_KEY).is_some_and(|name| name == IP_TYPE)
}

fn reads_addresses(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = node else { return Ok(TreeNodeRecursion::Continue) };
        found = scan.projected_schema.fields().iter().any(|field| is_ip_field(field));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn rewrite_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if matches!(plan, LogicalPlan::TableScan(_)) {
        return Ok(Transformed::no(plan));
    }
    let input = Input { schema: merge_schema(&plan.inputs()) };
    let names = NamePreserver::new(&plan);
    let mut are_keys = Vec::new();
    let mut plan = plan
        .map_expressions(|expr| {
            let name = names.save(&expr);
            let is_extreme = input.is_extreme(&expr);
            are_keys.push(is_extreme);
            let expr = expr.transform_up(|expr| input.rewrite(expr))?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })?
        .data;
    match &mut plan {
        LogicalPlan::Sort(sort) => input.sort_by_keys(&mut sort.expr)?,
        // `DISTINCT ON` and `ORDER BY` must have identical expressions.
        LogicalPlan::Distinct(Distinct::On(distinct)) => {
            for expr in &mut distinct.on_expr {
                input.replace_by_key(expr)?;
            }
            input.sort_by_keys(distinct.sort_expr.as_deref_mut().unwrap_or_default())?;
        }
        _ => {}
    }
    let plan = plan.recompute_schema()?;
    let aggregates = match &plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.aggr_expr.len(),
        LogicalPlan::Window(window) => window.window_expr.len(),
        _ => 0,
    };
    // The expressions of groups come before those of aggregates.
    let are_keys = are_keys.split_off(are_keys.len() - aggregates);
    if are_keys.contains(&true) { with_texts(plan, &are_keys) } else { Ok(plan) }.map(Transformed::yes)
}

/// Adds a projection over a plan whose last columns are aggregates, and converts those that are keys back to
/// addresses.
fn with_texts(plan: LogicalPlan, are_keys: &[bool]) -> Result<LogicalPlan> {
    let first = plan.schema().fields().len() - are_keys.len();
    let mut columns = Vec::with_capacity(plan.schema().fields().len());
    for (at, (qualifier, field)) in plan.schema().iter().enumerate() {
        let column = Expr::from((qualifier, field));
        columns.push(if at >= first && are_keys[at - first] {
            function(IP_TEXT)?.call(vec![column]).alias_qualified(qualifier.cloned(), field.name())
        } else {
            column
        });
    }
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}

/// The input of a plan node's expressions.
struct Input {
    schema: DFSchema,
}

impl Input {
    /// Whether an expression has the type text and is from an `ip` column.
    fn is_ip(&self, expr: &Expr) -> bool {
        let field = expr.to_field(&self.schema);
        field.is_ok_and(|(_, field)| field.data_type().is_string() && is_ip_field(&field))
    }

    /// Whether an expression is `min` or `max` of an `ip` column, over groups or windows.
    fn is_extreme(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Alias(alias) => self.is_extreme(&alias.expr),
            Expr::AggregateFunction(aggregate) if is_extreme_name(aggregate.func.name()) => {
                self.find_ip(&aggregate.params.args).is_some()
            }
            Expr::WindowFunction(window) if is_extreme_name(window.fun.name()) => {
                self.find_ip(&window.params.args).is_some()
            }
            _ => false,
        }
    }

    /// Returns an expression from an `ip` column, for the error message.
    fn find_ip<'a>(&self, exprs: impl IntoIterator<Item = &'a Expr>) -> Option<&'a Expr> {
        exprs.into_iter().find(|expr| self.is_ip(expr))
    }

    fn sort_by_keys(&self, sort: &mut [SortExpr]) -> Result<()> {
        sort.iter_mut().try_for_each(|key| self.replace_by_key(&mut key.expr))
    }

    fn replace_by_key(&self, expr: &mut Expr) -> Result<()> {
        if self.is_ip(expr) {
            *expr = function(IP_KEY)?.call(vec![std::mem::take(expr)]);
        }
        Ok(())
    }

    /// Returns the key of an expression that is compared with `ip`.
    fn key(&self, expr: Expr, ip: &Expr) -> Result<Expr> {
        match literal(&expr) {
            Some(None) => Ok(lit(ScalarValue::Utf8(None))),
            Some(Some(text)) => Ok(lit(AddressKey::of(&canonical(text, ip)?))),
            None => Ok(function(IP_KEY)?.call(vec![expr])),
        }
    }

    /// Returns an expression that equals the address of a literal: its canonical text.
    fn equal(&self, expr: Expr, ip: &Expr) -> Result<Expr> {
        match literal(&expr) {
            Some(Some(text)) => {
                let canonical = canonical(text, ip)?;
                if canonical == text {
                    return Ok(expr);
                }
                lit(canonical).cast_to(&expr.get_type(&self.schema)?, &self.schema)
            }
            Some(None) | None => Ok(expr),
        }
    }

    fn is_text(&self, expr: &Expr) -> bool {
        expr.get_type(&self.schema).is_ok_and(|data_type| data_type.is_string() || data_type.is_null())
    }

    fn rewrite(&self, expr: Expr) -> Result<Transformed<Expr>> {
        Ok(Transformed::yes(match expr {
            Expr::BinaryExpr(binary) => return self.binary(binary),
            Expr::Between(Between { expr, negated, low, high }) => {
                let Some(ip) = self.find_ip([&*expr, &*low, &*high]).cloned() else {
                    return Ok(Transformed::no(Expr::Between(Between { expr, negated, low, high })));
                };
                let key = |expr: Box<Expr>| self.key(*expr, &ip).map(Box::new);
                let (expr, low, high) = (key(expr)?, key(low)?, key(high)?);
                Expr::Between(Between { expr, negated, low, high })
            }
            Expr::InList(InList { expr, list, negated }) if self.is_ip(&expr) => {
                let list = list.into_iter().map(|item| self.equal(item, &expr)).collect::<Result<_>>()?;
                Expr::InList(InList { expr, list, negated })
            }
            Expr::Case(mut case) => {
                let Some(ip) = case.expr.clone().filter(|ip| self.is_ip(ip)) else {
                    return Ok(Transformed::no(Expr::Case(case)));
                };
                for (when, _) in &mut case.when_then_expr {
                    **when = self.equal(std::mem::take(&mut **when), &ip)?;
                }
                Expr::Case(case)
            }
            Expr::SetComparison(SetComparison { expr, op, .. }) if is_order(op) && self.is_ip(&expr) => {
                return plan_err!(
                    "{} {op} ANY or ALL of a subquery is not supported for addresses: compare with min or max \
                     of the subquery",
                    shown(&expr)
                );
            }
            Expr::ScalarFunction(function) => return self.function(function),
            Expr::AggregateFunction(mut aggregate) => {
                self.sort_by_keys(&mut aggregate.params.order_by)?;
                if is_extreme_name(aggregate.func.name()) {
                    aggregate.params.args.iter_mut().try_for_each(|arg| self.replace_by_key(arg))?;
                }
                Expr::AggregateFunction(aggregate)
            }
            Expr::WindowFunction(mut window) => {
                self.sort_by_keys(&mut window.params.order_by)?;
                if is_extreme_name(window.fun.name()) {
                    window.params.args.iter_mut().try_for_each(|arg| self.replace_by_key(arg))?;
                }
                Expr::WindowFunction(window)
            }
            other => return Ok(Transformed::no(other)),
        }))
    }

    fn binary(&self, BinaryExpr { left, op, right }: BinaryExpr) -> Result<Transformed<Expr>> {
        let of = |left, right| Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
        let sides = if is_order(op) || is_equality(op) { self.find_ip([&*left, &*right]) } else { None };
        let (Some(ip), true) = (sides.cloned(), self.is_text(&left) && self.is_text(&right)) else {
            return Ok(Transformed::no(of(*left, *right)));
        };
        Ok(Transformed::yes(if is_order(op) {
            of(self.key(*left, &ip)?, self.key(*right, &ip)?)
        } else {
            of(self.equal(*left, &ip)?, self.equal(*right, &ip)?)
        }))
    }

    fn function(&self, mut call: ScalarFunction) -> Result<Transformed<Expr>> {
        match call.func.name() {
            "greatest" | "least" => {
                let Some(ip) = self.find_ip(&call.args).cloned() else {
                    return Ok(Transformed::no(Expr::ScalarFunction(call)));
                };
                let keys = call.args.into_iter().map(|arg| self.key(arg, &ip)).collect::<Result<_>>()?;
                call.args = keys;
                Ok(Transformed::yes(function(IP_TEXT)?.call(vec![Expr::ScalarFunction(call)])))
            }
            "array_has" => {
                let [list, item] = call.args.as_mut_slice() else {
                    return Ok(Transformed::no(Expr::ScalarFunction(call)));
                };
                if list.to_field(&self.schema).is_ok_and(|(_, field)| is_ip_list(&field)) {
                    *item = self.equal(std::mem::take(item), list)?;
                }
                Ok(Transformed::yes(Expr::ScalarFunction(call)))
            }
            _ => Ok(Transformed::no(Expr::ScalarFunction(call))),
        }
    }
}

fn is_ip_list(field: &Field) -> bool {
    matches!(field.data_type(), DataType::List(_)) && is_ip_field(field)
}

fn is_order(operator: Operator) -> bool {
    matches!(operator, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}

fn is_equality(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Eq | Operator::NotEq | Operator::IsDistinctFrom | Operator::IsNotDistinctFrom
    )
}

fn is_extreme_name(name: &str) -> bool {
    matches!(name, "min" | "max")
}

/// Returns the text of a literal, which may be null, below casts between text types.
fn literal(expr: &Expr) -> Option<Option<&str>> {
    match expr {
        Expr::Literal(ScalarValue::Null, _) => Some(None),
        Expr::Literal(value, _) => value.try_as_str(),
        Expr::Cast(cast) if cast.field.data_type().is_string() => literal(&cast.expr),
        Expr::Alias(alias) => literal(&alias.expr),
        _ => None,
    }
}

/// Returns the canonical text of the address in `text`, as `ip` columns have it.
fn canonical(text: &str, ip: &Expr) -> Result<String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().to_string());
    }
    let ip = shown(ip);
    if text.parse::<Network>().is_ok() {
        return plan_err!(
            "address column {ip} is compared with the network \"{text}\": write cidr({ip}, '{text}')"
        );
    }
    plan_err!(
        "address column {ip} is compared with \"{text}\", which is no address such as 10.0.0.1 or 2001:db8::1"
    )
}

/// Returns an expression as the statement names it.
fn shown(expr: &Expr) -> String {
    match expr {
        Expr::Column(column) => format!("\"{}\"", column.name),
        Expr::Alias(alias) => shown(&alias.expr),
        Expr::Cast(cast) => shown(&cast.expr),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[path = "address_order_tests.rs"]
mod tests;
