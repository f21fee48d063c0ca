//! Addresses: `ip` columns, which are text in SQL.
//!
//! Owns: what of text comparison is one of addresses. Must not know: logic.

use super::column::{present, terms};
use super::comparison::{Comparison, range, term};
use super::query::{Query, or};
use crate::functions::Network;
use elastic_arrow::{Column, FieldType};
use serde_json::json;
use std::net::IpAddr;

/// Only equality: the order of texts is not that of addresses. Doc values are read in their
/// canonical text, so text that is no address equals none of them; of text that is one but spelled
/// otherwise the term finds more than the filter keeps. Excluded is an address only in its canonical
/// text: spelled otherwise it differs from every text, also from that of the same address.
pub(super) fn compare(field: &str, comparison: Comparison, text: &str) -> Option<Query> {
    let address = text.parse::<IpAddr>().map(|address| address.to_canonical());
    match (comparison, address) {
        (Comparison::Eq, Ok(address)) => Some(term(field, json!(address.to_string()))),
        (Comparison::Eq, Err(_)) => Some(Query::Nothing),
        (Comparison::NotEq, Ok(address)) if address.to_string() == text => {
            Some(or(vec![range(field, json!({ "lt": text })), range(field, json!({ "gt": text }))]))
        }
        (Comparison::NotEq | Comparison::Lt | Comparison::LtEq | Comparison::Gt | Comparison::GtEq, _) => {
            None
        }
    }
}

/// `cidr(column, network)` is `truth`. A network that is none is an error, which DataFusion raises.
pub(super) fn cidr(column: &Column, network: &str, truth: bool) -> Query {
    let (Some(terms), FieldType::Ip) = (terms(column), &column.field_type) else { return present(column) };
    let Ok(network) = network.parse::<Network>() else { return Query::All };
    if truth {
        return term(terms.field, json!(network.to_string()));
    }
    let (first, last) = network.ends();
    or(vec![
        range(terms.field, json!({ "lt": first.to_string() })),
        range(terms.field, json!({ "gt": last.to_string() })),
    ])
}
