//! How many documents a slice has, on the server's word.
//!
//! Owns: asking for that in place of reading. Must not know: how answers are checked, which is the
//! reader's.

use super::DecodePage;
use super::reader::SliceReader;
use crate::error::Error;
use std::sync::atomic::Ordering;

impl<D: DecodePage> SliceReader<D> {
    /// The number of the slice's documents; none of them is read. It is taken on the search context, by the
    /// same count that a read is held against.
    pub async fn count(mut self) -> Result<u64, Error> {
        self.begin_count()?;
        let responses = self.responses().await?.unwrap_or_default();
        let Some(response) = responses.first() else {
            return Err(Error::Protocol { operation: self.operation(), detail: "no answer".into() });
        };
        let (envelope, _) = self
            .decoder
            .decode(0, &response.body)
            .map_err(|source| Error::Decode { operation: self.operation(), source })?;
        let page = self.check(envelope)?;
        self.free();
        self.counters.documents.fetch_add(page.total, Ordering::Relaxed);
        Ok(page.total)
    }
}
