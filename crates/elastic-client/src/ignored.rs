//! Values dropped by `ignore_above` or `ignore_malformed`.
//!
//! Owns: finding documents with such values before a slice is read. The values are in `_source` but not in doc values,
//! so they would be read as null. The server lists their fields in
//! [`_ignored`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/mapping-ignored-field.html). Must not know:
//! pages.

use crate::connection::Connection;
use crate::error::Error;
use crate::read_options::KeepAlive;
use crate::slices::Slice;
use crate::totals::fetch_totals;
use serde_json::{Value, json};

/// The dropped values that are an error.
#[derive(Clone, Debug)]
pub struct IgnoredValues {
    /// The names of the fields that are read from doc values.
    pub fields: Vec<String>,
    /// The query whose documents are checked. It has no filter on these fields, because such a filter would not find
    /// the dropped values.
    pub query: Value,
}

/// Fails if a document of the slice has a dropped value. Each slice checks its own documents before its first row,
/// because a LIMIT may be reached before another slice has begun.
///
/// # Errors
///
/// If a document has such a value, or if the request fails. For a slice of a scroll, if any document of the index has
/// one.
pub async fn refuse_ignored(
    connection: &Connection,
    slice: &Slice,
    ignored: &IgnoredValues,
    keep_alive: KeepAlive,
) -> Result<(), Error> {
    if ignored.fields.is_empty() {
        return Ok(());
    }
    let query = json!({ "bool": { "filter": [ignored.query, { "terms": { "_ignored": ignored.fields } }] } });
    let purpose = "look for ignored values";
    let found = fetch_totals(connection, slice, purpose, &query, None, keep_alive).await?;
    if found.documents == 0 {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "index \"{}\": {} documents have values of {} that ignore_above or ignore_malformed dropped; set the table \
         option ignored = \"null\" to read them as null",
        slice.index,
        found.documents,
        ignored.fields.iter().map(|f| format!("\"{f}\"")).collect::<Vec<_>>().join(" or ")
    )))
}
