//! The bound of a scan: every page of an index, as fast as the server sends it.
//!
//! Owns: the requests for pages and the cursor. Must not know: values, or how a scan of Flowsigma requests pages.
//!
//! No page is decoded. Each body is searched for the sort values of its last row, and for the number of its rows.

use crate::slices::Opened;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use elastic_client::{Slice, fetch_mappings};
use futures::future::try_join_all;
use memchr::memmem;
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

/// The rows of a page, the most that a server returns by default.
const PAGE: u64 = 10_000;
/// What precedes the sort values of a row. Within a string, its quotes would be escaped.
const SORT: &[u8] = br#""sort":["#;
const FILTER: &str = "_shards.failed,timed_out,pit_id,hits.hits.sort,hits.hits.fields";

/// The columns that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Columns {
    /// The source and the destination address
    Two,
    /// Every field of the mapping
    All,
}

/// The options of `bound`.
#[derive(Args)]
pub(crate) struct Bound {
    /// A server without credentials
    #[arg(long)]
    url: String,
    /// Index, pattern or alias
    #[arg(long)]
    index: String,
    /// Columns to read, as doc values
    #[arg(long, value_enum, default_value = "two")]
    columns: Columns,
    /// Read the columns as sort values instead, which must be texts with one value
    #[arg(long)]
    sorted: bool,
    /// Number of slices [default: one per shard]
    #[arg(long)]
    slices: Option<NonZeroU32>,
}

/// What was read of one slice.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    documents: u64,
    bytes: u64,
    pages: u64,
}

impl Bound {
    /// Reads the index and returns the seconds, documents, bytes and pages.
    ///
    /// # Errors
    ///
    /// If a request fails, or if a shard failed.
    pub(crate) async fn run(self) -> Result<Value> {
        let begin = Instant::now();
        let opened = Arc::new(Opened::open(&self.url, &self.index, self.slices).await?);
        let fields = Arc::new(self.fields(&opened).await?);
        let sorted = self.sorted;
        let reads = opened.context.slices.iter().cloned().map(|slice| {
            let (opened, fields) = (Arc::clone(&opened), Arc::clone(&fields));
            let task = tokio::spawn(async move { read(&opened, &fields, sorted, &slice).await });
            async move { task.await? }
        });
        let reads = try_join_all(reads).await?;
        let slices = reads.len();
        let sum = |part: fn(&Read) -> u64| reads.iter().map(part).sum::<u64>();
        let (documents, bytes, pages) = (sum(|r| r.documents), sum(|r| r.bytes), sum(|r| r.pages));
        Arc::into_inner(opened).context("a slice is still read")?.close().await?;
        let seconds = begin.elapsed().as_secs_f64();
        Ok(json!({
            "seconds": seconds, "documents": documents, "bytes": bytes, "pages": pages, "slices": slices,
        }))
    }

    /// Returns the columns as `docvalue_fields`, with the formats that Flowsigma requests.
    async fn fields(&self, opened: &Opened) -> Result<Value> {
        let mappings = fetch_mappings(&opened.connection, &self.index).await?;
        let (_, mapping) = mappings.first().context("no mapping")?;
        let mut all = Vec::new();
        leaves("", mapping, &mut all);
        ensure!(!all.is_empty(), "index {:?} has no fields", self.index);
        Ok(match self.columns {
            Columns::All => all.into_iter().collect(),
            Columns::Two => {
                let address = |field: &Value| {
                    let name = field["field"].as_str().unwrap_or_default();
                    ["netflow.ipv4_src_addr", "netflow.ipv4_dst_addr", "src", "dst"].contains(&name)
                };
                all.into_iter().filter(address).collect()
            }
        })
    }
}

/// Appends each field below `prefix` with the format of its doc values.
fn leaves(prefix: &str, mapping: &Value, found: &mut Vec<Value>) {
    let mapping = mapping.get("mappings").unwrap_or(mapping);
    for (name, field) in mapping["properties"].as_object().into_iter().flatten() {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match field["type"].as_str() {
            None | Some("object") => leaves(&path, field, found),
            Some("date") => found.push(json!({ "field": path, "format": "epoch_millis" })),
            Some(_) => found.push(json!({ "field": path })),
        }
    }
}

async fn read(opened: &Opened, fields: &Value, sorted: bool, slice: &Slice) -> Result<Read> {
    let (mut body, unique) = opened.body(slice)?;
    body["size"] = json!(PAGE);
    body["query"] = json!({ "match_all": {} });
    body["sort"] = json!([unique]);
    if sorted {
        let keys = fields.as_array().into_iter().flatten().map(|field| field["field"].clone());
        body["sort"].as_array_mut().context("the sort keys")?.extend(keys);
    } else {
        body["docvalue_fields"] = fields.clone();
    }
    body["_source"] = json!(false);
    body["stored_fields"] = json!("_none_");
    body["track_total_hits"] = json!(false);
    let mut read = Read::default();
    loop {
        let request = Opened::search(&body)
            .with_param("allow_partial_search_results", "false")
            .with_param("filter_path", FILTER);
        let page = opened.connection.send(&request).await?.body;
        read.pages += 1;
        read.bytes += page.len() as u64;
        let rows = memmem::find_iter(&page, SORT).count() as u64;
        read.documents += rows;
        if rows < PAGE {
            check(&page)?;
            return Ok(read);
        }
        body["search_after"] = last_sort(&page).context("a page without sort values")?;
    }
}

/// Fails if the last page of a slice is incomplete. Such a page is small.
fn check(page: &Bytes) -> Result<()> {
    let page: Value = serde_json::from_slice(page)?;
    let complete = page["_shards"]["failed"] == 0 && page["timed_out"] == false;
    ensure!(complete, "a page is incomplete: {}", page["_shards"]);
    Ok(())
}

/// Returns the sort values of the last row.
fn last_sort(page: &[u8]) -> Option<Value> {
    let begin = memmem::rfind(page, SORT)? + SORT.len() - 1;
    let end = begin + memchr::memchr(b']', &page[begin..])? + 1;
    serde_json::from_slice(&page[begin..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_is_the_last_rows() {
        let page = br#"{"hits":{"hits":[{"fields":{"a":["\"sort\":[9]"]},"sort":[3]},{"sort":[17,"b"]}]}}"#;
        assert_eq!(last_sort(page), Some(json!([17, "b"])));
        assert_eq!(memmem::find_iter(page, SORT).count(), 2);
        assert_eq!(last_sort(br#"{"hits":{"hits":[]}}"#), None);
    }

    #[test]
    fn every_leaf_of_a_mapping_is_a_column() {
        let mapping = crate::index::mapping(crate::index::Shape::Flows, crate::index::AddressType::Ip);
        let mut found = Vec::new();
        leaves("", &json!({ "mappings": mapping }), &mut found);
        assert!(found.len() >= 23, "{}", found.len());
        assert!(found.contains(&json!({ "field": "netflow.ipv4_src_addr" })));
        assert!(found.contains(&json!({ "field": "@timestamp", "format": "epoch_millis" })));
    }
}
