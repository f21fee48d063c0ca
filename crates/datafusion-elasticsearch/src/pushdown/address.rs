//! Comparisons of addresses: `ip` columns, which are text in SQL.
//!
//! Owns: the queries for comparisons of addresses. Must not know: logic, nor which comparisons are of text and
//! which of keys (`address_order.rs`).

use super::column::{exists, terms};
use super::comparison::{Comparison, range, term};
use super::query::{Query, or};
use super::translation::Translation;
use crate::functions::{AddressKey, Network};
use datafusion::scalar::ScalarValue;
use elastic_arrow::{Column, FieldType};
use serde_json::json;
use std::net::IpAddr;

/// Compares the keys of a column with a literal key. Keys compare as servers compare addresses.
pub(super) fn compare_keys(column: &Column, comparison: Comparison, key: &ScalarValue) -> Translation {
    if key.is_null() {
        return Translation::strict(Query::Nothing);
    }
    let address = key.try_as_str().flatten().and_then(AddressKey::address);
    let (Some(terms), Some(address)) = (terms(column), address) else {
        return Translation::inclusive(exists(column));
    };
    let (field, address) = (terms.field, address.to_string());
    Translation::strict(match comparison {
        Comparison::Eq => term(field, json!(address)),
        Comparison::NotEq => others(field, &address, &address),
        Comparison::Lt => range(field, json!({ "lt": address })),
        Comparison::LtEq => range(field, json!({ "lte": address })),
        Comparison::Gt => range(field, json!({ "gt": address })),
        Comparison::GtEq => range(field, json!({ "gte": address })),
    })
}

/// Compares a column with a text. Only equality is pushed, because the order of texts differs from that of
/// addresses.
///
/// Columns hold canonical text, so a text that is not an address equals none of them. For an address in another
/// spelling the term query finds more than the filter keeps. `<>` is pushed only for canonical text: an address in
/// another spelling differs from every text, even from that of the same address.
pub(super) fn compare_text(field: &str, comparison: Comparison, text: &str) -> Option<Translation> {
    let address = text.parse::<IpAddr>().map(|address| address.to_canonical().to_string());
    match (comparison, address) {
        (Comparison::Eq, Ok(address)) if address == text => {
            Some(Translation::strict(term(field, json!(address))))
        }
        (Comparison::Eq, Ok(address)) => Some(Translation::inclusive(term(field, json!(address)))),
        (Comparison::Eq, Err(_)) => Some(Translation::inclusive(Query::Nothing)),
        (Comparison::NotEq, Ok(address)) if address == text => {
            Some(Translation::strict(others(field, text, text)))
        }
        (Comparison::NotEq | Comparison::Lt | Comparison::LtEq | Comparison::Gt | Comparison::GtEq, _) => {
            None
        }
    }
}

/// Finds every document with an address below `first` or above `last`.
fn others(field: &str, first: &str, last: &str) -> Query {
    or(vec![range(field, json!({ "lt": first })), range(field, json!({ "gt": last }))])
}

/// Translates `cidr(column, network)` is `truth`. An invalid network is an error that DataFusion raises.
pub(super) fn cidr(column: &Column, network: &str, truth: bool) -> Translation {
    let (Some(terms), FieldType::Ip) = (terms(column), &column.field_type) else {
        return Translation::inclusive(exists(column));
    };
    let Ok(network) = network.parse::<Network>() else { return Translation::all() };
    if truth {
        return Translation::strict(term(terms.field, json!(network.to_string())));
    }
    let (first, last) = network.ends();
    Translation::strict(others(terms.field, &first.to_string(), &last.to_string()))
}
