//! The bound of counting on the server: only the aggregations, and none of Flowsigma.
//!
//! Owns: the two ways to count both addresses by aggregations. Must not know: how Flowsigma counts.

use crate::slices::Opened;
use anyhow::{Context, Result, ensure};
use clap::Args;
use elastic_client::Slice;
use futures::future::try_join_all;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Instant;

/// The groups of a response. Servers refuse more than 65,535 in one response by default.
const GROUPS: usize = 10_000;

/// The options of `aggregate-bound`.
#[derive(Args)]
pub(crate) struct AggregateBound {
    /// A server without credentials
    #[arg(long)]
    url: String,
    /// Index, pattern or alias
    #[arg(long)]
    index: String,
    /// Field with the source address
    #[arg(long, default_value = "netflow.ipv4_src_addr")]
    source_field: String,
    /// Field with the destination address
    #[arg(long, default_value = "netflow.ipv4_dst_addr")]
    destination_field: String,
}

/// What one way of counting returned.
#[derive(Debug, Default)]
struct Counted {
    /// The flows over all groups of each field.
    documents: [u64; 2],
    groups: [HashSet<String>; 2],
    bytes: u64,
    requests: u64,
}

impl Counted {
    fn add(&mut self, place: usize, buckets: &Value) -> Result<usize> {
        let buckets = buckets.as_array().context("an aggregation without buckets")?;
        for bucket in buckets {
            let key = if bucket["key"].is_object() { &bucket["key"]["address"] } else { &bucket["key"] };
            self.documents[place] += bucket["doc_count"].as_u64().context("a bucket without a count")?;
            self.groups[place].insert(key.to_string());
        }
        Ok(buckets.len())
    }

    fn to_json(&self, begin: Instant) -> Value {
        json!({
            "seconds": begin.elapsed().as_secs_f64(),
            "documents": self.documents,
            "groups": [self.groups[0].len(), self.groups[1].len()],
            "bytes": self.bytes,
            "requests": self.requests,
        })
    }
}

impl AggregateBound {
    /// Counts in both ways, and returns the seconds, flows, groups and bytes of each.
    ///
    /// # Errors
    ///
    /// If a request fails, or if a shard failed.
    pub(crate) async fn run(self) -> Result<Value> {
        let opened = Opened::open(&self.url, &self.index, None).await?;
        let begin = Instant::now();
        let terms = self.terms(&opened).await?.to_json(begin);
        let begin = Instant::now();
        let composite = self.composite(&opened).await?.to_json(begin);
        opened.close().await?;
        Ok(json!({ "terms": terms, "composite": composite }))
    }

    fn fields(&self) -> [&str; 2] {
        [&self.source_field, &self.destination_field]
    }

    /// Counts both fields by one request for each slice. The groups of a slice may be incomplete if it has more than
    /// [`GROUPS`]: then `documents` is less than the number of documents.
    async fn terms(&self, opened: &Opened) -> Result<Counted> {
        let [source, destination] = self
            .fields()
            .map(|field| json!({ "terms": { "field": field, "size": GROUPS, "shard_size": GROUPS } }));
        let aggregations = json!({ "0": source, "1": destination });
        let asked = opened.context.slices.iter().map(|slice| ask(opened, slice, &aggregations));
        let mut counted = Counted::default();
        for (response, bytes) in try_join_all(asked).await? {
            counted.bytes += bytes;
            counted.requests += 1;
            for place in 0..2 {
                counted.add(place, &response["aggregations"][place.to_string()]["buckets"])?;
            }
        }
        Ok(counted)
    }

    /// Counts each field by a composite aggregation over the whole index, page by page, both at once.
    async fn composite(&self, opened: &Opened) -> Result<Counted> {
        let [source, destination] = self.fields();
        let asked = (0..2).zip([source, destination]).map(|(place, field)| async move {
            let mut counted = Counted::default();
            for slice in whole(opened) {
                self.pages(opened, &slice, field, place, &mut counted).await?;
            }
            anyhow::Ok(counted)
        });
        let counts = try_join_all(asked).await?;
        Ok(counts.into_iter().fold(Counted::default(), |mut sum, counted| {
            for (place, groups) in counted.groups.into_iter().enumerate() {
                sum.documents[place] += counted.documents[place];
                sum.groups[place].extend(groups);
            }
            sum.bytes += counted.bytes;
            sum.requests += counted.requests;
            sum
        }))
    }

    async fn pages(
        &self,
        opened: &Opened,
        slice: &Slice,
        field: &str,
        place: usize,
        counted: &mut Counted,
    ) -> Result<()> {
        let mut after = None;
        loop {
            let sources = json!([{ "address": { "terms": { "field": field } } }]);
            let mut composite = json!({ "size": GROUPS, "sources": sources });
            if let Some(after) = after.take() {
                composite["after"] = after;
            }
            let (response, bytes) = ask(opened, slice, &json!({ "0": { "composite": composite } })).await?;
            counted.bytes += bytes;
            counted.requests += 1;
            let aggregation = &response["aggregations"]["0"];
            if counted.add(place, &aggregation["buckets"])? < GROUPS {
                return Ok(());
            }
            after = Some(aggregation["after_key"].clone());
        }
    }
}

/// Returns a slice for each point in time that spans all of it.
fn whole(opened: &Opened) -> Vec<Slice> {
    let mut seen = HashSet::new();
    let slices = opened.context.slices.iter().filter(|slice| seen.insert(slice.index.clone()));
    slices.map(|slice| Slice { cut: None, ..slice.clone() }).collect()
}

/// Sends one search with aggregations, and returns the response with its size in bytes.
async fn ask(opened: &Opened, slice: &Slice, aggregations: &Value) -> Result<(Value, u64)> {
    let (mut body, _) = opened.body(slice)?;
    body["size"] = json!(0);
    body["aggs"] = aggregations.clone();
    body["track_total_hits"] = json!(false);
    let request = Opened::search(&body)
        .with_param("allow_partial_search_results", "false")
        .with_param("request_cache", "false");
    let response = opened.connection.send(&request).await?;
    let bytes = response.body.len() as u64;
    let response = response.json("search: bench")?;
    let complete = response["_shards"]["failed"] == 0 && response["timed_out"] == false;
    ensure!(complete, "an aggregation is incomplete: {}", response["_shards"]);
    Ok((response, bytes))
}
