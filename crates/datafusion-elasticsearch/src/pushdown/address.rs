//! Addresses: `ip` columns, which are text in SQL.
//!
//! Owns: what the server is asked of addresses. Must not know: logic, nor which comparisons are of text and
//! which of keys (`address_order.rs`).

use super::column::{present, terms};
use super::comparison::{Comparison, range, term};
use super::query::{Query, or};
use super::translation::Translation;
use crate::functions::{AddressKey, Network};
use datafusion::scalar::ScalarValue;
use elastic_arrow::{Column, FieldType};
use serde_json::json;
use std::net::IpAddr;

/// The keys of a column against a literal one. They compare as servers compare addresses.
pub(super) fn compare_keys(column: &Column, comparison: Comparison, key: &ScalarValue) -> Translation {
    if key.is_null() {
        return Translation::strict(Query::Nothing);
    }
    let address = key.try_as_str().flatten().and_then(AddressKey::address);
    let (Some(terms), Some(address)) = (terms(column), address) else {
        return Translation::inclusive(present(column));
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

/// Of texts only equality can be asked, since their order is another.
///
/// Columns hold the canonical text of addresses, so text that is no address equals none of them; of text
/// that is one but spelled otherwise the term finds more than the filter keeps. Excluded is an address only
/// in its canonical text: spelled otherwise it differs from every text, also from that of the same address.
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

/// Finds every document with an address before `first` or after `last`.
fn others(field: &str, first: &str, last: &str) -> Query {
    or(vec![range(field, json!({ "lt": first })), range(field, json!({ "gt": last }))])
}

/// `cidr(column, network)` is `truth`. A network that is none is an error, which DataFusion raises.
pub(super) fn cidr(column: &Column, network: &str, truth: bool) -> Translation {
    let (Some(terms), FieldType::Ip) = (terms(column), &column.field_type) else {
        return Translation::inclusive(present(column));
    };
    let Ok(network) = network.parse::<Network>() else { return Translation::all() };
    if truth {
        return Translation::strict(term(terms.field, json!(network.to_string())));
    }
    let (first, last) = network.ends();
    Translation::strict(others(terms.field, &first.to_string(), &last.to_string()))
}
