//! The order in which rows are wanted.
//!
//! Owns: how the server is asked for it. Must not know: which columns have an order that the server
//! shares.

use serde_json::{Value, json};

/// A field to order by. Of several values the server takes the least if ascending, else the greatest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// The field.
    pub field: String,
    /// The greatest first.
    pub descending: bool,
    /// Documents without a value before all others, else after them.
    pub missing_first: bool,
    /// As what the field is taken where it is in no mapping, as mappings name types.
    pub unmapped_type: String,
}

impl SortKey {
    /// One key of the server, or two: it takes a number that is missing for the greatest or the least
    /// that there can be, and a document may have that one. Asked again in the other direction, what is
    /// missing is at the other end, on the right side of the number it was mistaken for.
    pub(crate) fn to_json(&self) -> Vec<Value> {
        let key = |descending: bool| {
            json!({ self.field.as_str(): {
                "order": if descending { "desc" } else { "asc" },
                "missing": if self.missing_first { "_first" } else { "_last" },
                "unmapped_type": self.unmapped_type,
            } })
        };
        let mistaken = matches!(self.unmapped_type.as_str(), "integer" | "long" | "date");
        let mut keys = vec![key(self.descending)];
        keys.extend(mistaken.then(|| key(!self.descending)));
        keys
    }
}
