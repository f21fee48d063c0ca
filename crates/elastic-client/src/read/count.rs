//! The number of documents of a slice, as the server counts them.
//!
//! Owns: counting instead of reading. Must not know: how responses are checked, which is the reader's task.

use super::DecodePage;
use super::reader::SliceReader;
use crate::error::Error;
use std::sync::atomic::Ordering;

impl<D: DecodePage> SliceReader<D> {
    /// Returns the number of documents of the slice without reading them. It is the count of the search context, which
    /// also verifies a read.
    ///
    /// # Errors
    ///
    /// If the request fails, or if the response is incomplete.
    pub async fn count(mut self) -> Result<u64, Error> {
        self.begin_count()?;
        let responses = self.responses().await?.unwrap_or_default();
        let Some(response) = responses.first() else {
            return Err(Error::Protocol { operation: self.operation(), detail: "no page".into() });
        };
        let (envelope, _) = self
            .form
            .decoder
            .decode(0, &response.body)
            .map_err(|source| Error::Decode { operation: self.operation(), source })?;
        let page = self.check(envelope)?;
        self.free();
        self.counters.documents.fetch_add(page.total, Ordering::Relaxed);
        Ok(page.total)
    }
}
