//! The requested order of rows.
//!
//! Owns: the sort keys of a request. Must not know: for which columns the order of the server is that of SQL.

use serde_json::{Value, json};

/// A field to order by, for
/// [`sort`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/sort-search-results.html) of a search.
///
/// If a document has several values, the server uses the least one if ascending, else the greatest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// The name of the field.
    pub field: String,
    /// Whether the greatest value comes first.
    pub descending: bool,
    /// Whether documents without a value come before all others. Otherwise they come last.
    pub missing_first: bool,
    /// The type of the field, as mappings name it, for indices without this field.
    pub unmapped_type: String,
}

impl SortKey {
    /// Returns one or two sort keys of the server.
    ///
    /// The server replaces a missing number by the greatest or least number of the type, which a document may also
    /// have. The second key has the opposite direction, where the replacement is at the other end. So it separates
    /// documents without a value from those with that number.
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
