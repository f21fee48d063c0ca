//! Creates indices of flows through the official client.
//!
//! Owns: the order of the requests, and the number of bulk requests in flight. Must not know: the content of documents
//! or mappings.

use crate::flows::{Addresses, Flows, Zipf};
use crate::index::{self, AddressType, Shape};
use anyhow::{Context, Result, ensure};
use clap::Args;
use elasticsearch::http::Method;
use elasticsearch::http::transport::{SingleNodeConnectionPool, TransportBuilder};
use elasticsearch::{BulkOperation, BulkOperations, BulkParts, Elasticsearch};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::time::Instant;

/// The documents of a bulk request.
const BULK: u64 = 5_000;

/// The options of `generate`.
#[derive(Args)]
pub(crate) struct Generate {
    /// A server without credentials
    #[arg(long)]
    url: String,
    /// Name of the index, or with --indices the begin of its names
    #[arg(long)]
    index: String,
    /// Number of documents over all indices
    #[arg(long)]
    documents: u64,
    /// Number of shards of the index
    #[arg(long, default_value = "3")]
    shards: NonZeroU32,
    /// Seed of the documents
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of bulk requests in flight
    #[arg(long, default_value = "4")]
    parallel: NonZeroU32,
    /// Number of distinct sources, by Zipf's law
    #[arg(long, default_value = "2000")]
    sources: NonZeroU32,
    /// Number of distinct destinations, by Zipf's law
    #[arg(long, default_value = "4000")]
    destinations: NonZeroU32,
    /// Distribute flows evenly over this many addresses instead, at most 16777216
    #[arg(long, conflicts_with_all = ["sources", "destinations"],
        value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    addresses: Option<u32>,
    /// Distribute documents over this many indices of one shard, named NAME-00000 and so on
    #[arg(long, default_value = "1", conflicts_with = "shards")]
    indices: NonZeroU32,
    /// Fields of the documents
    #[arg(long, value_enum, default_value = "flows")]
    shape: Shape,
    /// Type of the address fields of the shape flows
    #[arg(long, value_enum, default_value = "keyword")]
    address_type: AddressType,
    /// Merge each shard into this many segments
    #[arg(long)]
    segments: Option<NonZeroU32>,
}

impl Generate {
    /// Creates the indices and returns what was loaded, with the seconds it took.
    ///
    /// # Errors
    ///
    /// If an index exists already, or if the server refuses a document.
    pub(crate) async fn run(self) -> Result<Value> {
        let begin = Instant::now();
        let pool = SingleNodeConnectionPool::new(self.url.parse()?);
        let client = Elasticsearch::new(TransportBuilder::new(pool).disable_proxy().build()?);
        let indices = self.indices.get();
        let shards = if indices == 1 { self.shards.get() } else { 1 };
        let mapping = index::mapping(self.shape, self.address_type);
        for place in 0..indices {
            index::create(&client, &index::name(&self.index, place, indices), shards, &mapping).await?;
        }
        let flows = self.flows();
        stream::iter((0..self.documents).step_by(BULK as usize))
            .map(|first| self.load(&client, &flows, first..self.documents.min(first + BULK)))
            .buffer_unordered(self.parallel.get() as usize)
            .try_for_each(|()| async { Ok(()) })
            .await?;
        for place in 0..indices {
            self.finish(&client, &index::name(&self.index, place, indices)).await?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        Ok(json!({ "seconds": seconds, "documents": self.documents, "indices": indices, "shards": shards }))
    }

    fn flows(&self) -> Flows {
        let addresses = match self.addresses {
            Some(addresses) => Addresses::Uniform(addresses),
            None => Addresses::Zipf {
                sources: Zipf::new(self.sources.get()),
                destinations: Zipf::new(self.destinations.get()),
            },
        };
        Flows { addresses, documents: self.documents, seed: self.seed }
    }

    async fn load(&self, client: &Elasticsearch, flows: &Flows, numbers: std::ops::Range<u64>) -> Result<()> {
        let indices = self.indices.get();
        let share = self.documents.div_ceil(u64::from(indices));
        let mut operations = BulkOperations::new();
        for number in numbers {
            let name = index::name(&self.index, (number / share) as u32, indices);
            match self.shape {
                Shape::Flows => operations.push(BulkOperation::index(flows.flow(number)).index(name))?,
                Shape::Flat => operations.push(BulkOperation::index(flows.flat(number)).index(name))?,
            }
        }
        let bulk = client.bulk(BulkParts::None).filter_path(&["errors", "items.*.error"]);
        let response = bulk.body(vec![operations]).send().await?;
        let (status, text) = (response.status_code(), response.text().await?);
        ensure!(status.is_success(), "bulk: {status}: {text}");
        let response: Value = serde_json::from_str(&text).context("the response to a bulk request")?;
        ensure!(response["errors"] == false, "bulk: a document was refused: {}", response["items"][0]);
        Ok(())
    }

    /// Refreshes an index, and merges its segments if that is wanted.
    async fn finish(&self, client: &Elasticsearch, name: &str) -> Result<()> {
        index::send(client, Method::Post, &format!("/{name}/_refresh"), None).await?;
        if let Some(segments) = self.segments {
            let path = format!("/{name}/_forcemerge?max_num_segments={segments}");
            index::send(client, Method::Post, &path, None).await?;
            index::send(client, Method::Post, &format!("/{name}/_refresh"), None).await?;
        }
        Ok(())
    }
}
