//! The slices that a bound reads.
//!
//! Owns: the connection, the search context, and the parts of a request's body that name a slice. Must not know: pages
//! or aggregations.

use anyhow::{Context, Result};
use elastic_client::{
    Connection, ConnectionConfig, ContextRequest, Method, ReadOptions, Request, SearchContext, Slice,
    SliceSource, Tiebreaker, close_context, open_context,
};
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::sync::Arc;

/// An open search context, read through the HTTP client of Flowsigma.
pub(crate) struct Opened {
    pub(crate) connection: Arc<Connection>,
    pub(crate) context: SearchContext,
    keep_alive: String,
}

impl Opened {
    /// Opens a search context as a scan of Flowsigma does.
    pub(crate) async fn open(url: &str, index: &str, slices: Option<NonZeroU32>) -> Result<Self> {
        let connection = Arc::new(Connection::try_new("bench", &ConnectionConfig::from_url(url)?)?);
        let read = ReadOptions::default();
        let keep_alive = read.keep_alive.to_string();
        let context = open_context(
            &connection,
            &ContextRequest { index: index.to_owned(), read, slices, matching: None },
        )
        .await?;
        Ok(Self { connection, context, keep_alive })
    }

    /// Returns the part of a body that names the slice, and the tiebreaker of its rows.
    ///
    /// # Errors
    ///
    /// If the slice is read by scroll.
    pub(crate) fn body(&self, slice: &Slice) -> Result<(Value, &'static str)> {
        let SliceSource::Pit { id, tiebreaker } = &slice.source else {
            anyhow::bail!(
                "{}: a bound is measured by points in time, and this server has none, or none for so many shards",
                slice.describe()
            );
        };
        let mut body = json!({ "pit": { "id": id.as_ref(), "keep_alive": self.keep_alive } });
        if let Some(cut) = &slice.cut {
            body["slice"] = json!({ "id": cut.id, "max": cut.max });
        }
        let unique = match tiebreaker {
            Tiebreaker::ShardDoc => "_shard_doc",
            Tiebreaker::Doc => "_doc",
        };
        Ok((body, unique))
    }

    /// Returns a search with this body.
    pub(crate) fn search(body: &Value) -> Request {
        Request::new(Method::Post, "/_search", "search: bench").with_body(body)
    }

    /// Closes the search context.
    pub(crate) async fn close(self) -> Result<()> {
        close_context(&self.connection, &self.context).await.context("close the search context")
    }
}
