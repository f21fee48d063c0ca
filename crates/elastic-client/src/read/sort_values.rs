//! Reading the values of a slice as sort values.
//!
//! Owns: the form of a page, and the proof for another one. Must not know: when pages are requested, or how a value is
//! decoded.
//!
//! A server returns the values of a sort key without their field's name, and finds them while it collects the hits. For
//! texts that takes a quarter less time than doc values, and less than half of the bytes. But a sort key has one value,
//! the least of the document's. So the server is asked, beside the second page, whether a document of the slice has
//! several values. If none has, the later pages return the field as a sort key behind the one that is unique: it orders
//! nothing.

use super::{DecodePage, FieldsRequest, PageOptions};
use crate::connection::Connection;
use crate::error::Error;
use crate::single::{fetch_of_type, fetch_single};
use crate::slices::{Slice, SliceSource, Tiebreaker};
use futures::FutureExt;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tracing::Instrument;

/// What a page is asked for, and its decoder.
pub(super) struct Form<D> {
    pub(super) options: PageOptions,
    pub(super) decoder: D,
}

/// What is known about the values of a slice.
pub(super) enum Proof {
    /// Nothing yet.
    Open,
    /// The server is asked.
    Asked(JoinHandle<BTreeSet<String>>),
    /// No other form is better, or the better one is in use.
    Closed,
}

impl Proof {
    /// Returns what is proved, once. `None` if that is not known now.
    fn take(&mut self) -> Option<BTreeSet<String>> {
        let Self::Asked(task) = self else { return None };
        let proved = task.now_or_never()?;
        *self = Self::Closed;
        proved.ok()
    }

    /// Drops the request.
    pub(super) fn close(&mut self) {
        if let Self::Asked(task) = self {
            task.abort();
        }
        *self = Self::Closed;
    }
}

impl<D: DecodePage> Form<D> {
    /// Returns whether fields are read by sort values. Then the decoder keeps only the first sort value.
    pub(super) fn is_by_sort(&self) -> bool {
        self.options.fields.iter().any(|fields| !fields.sort_values.is_empty())
    }

    /// Returns whether the rows may be read by sort values, if each field has one value.
    pub(super) fn is_improvable(&self) -> bool {
        let options = &self.options;
        !self.is_by_sort() && options.order.is_empty() && options.limit.is_none() && options.fields.len() == 1
    }

    /// Asks the server which fields have at most one value in each document of a slice. `total` is the number of its
    /// documents in this search context.
    pub(super) fn prove(&self, connection: &Arc<Connection>, slice: &Slice, total: u64) -> Proof {
        let types = self.decoder.sortable();
        let SliceSource::Pit { tiebreaker, .. } = slice.source else { return Proof::Closed };
        if types.is_empty() {
            return Proof::Closed;
        }
        let (connection, slice) = (Arc::clone(connection), slice.clone());
        let (query, keep_alive) = (self.options.query.clone(), self.options.read.keep_alive);
        let proof = async move {
            let fields = types.keys().cloned().collect();
            let proved = async {
                let single = fetch_single(&connection, &slice, &query, &fields, keep_alive).await?;
                if single.documents != total {
                    return Ok(BTreeSet::new());
                }
                match tiebreaker {
                    // A point in time of one index.
                    Tiebreaker::Doc => Ok(single.fields),
                    // The server prints the sort values of all its indices in the format of one of them.
                    Tiebreaker::ShardDoc => {
                        let of_type = fetch_of_type(&connection, &slice.index, &types).await?;
                        Ok::<_, Error>(&single.fields & &of_type)
                    }
                }
            };
            match proved.await {
                Ok(fields) => fields,
                // A page fails by itself if the server or the search context is gone.
                Err(error) => {
                    tracing::debug!(%error, "the slice is read by doc values");
                    BTreeSet::new()
                }
            }
        };
        Proof::Asked(tokio::spawn(proof.in_current_span()))
    }

    /// Returns the form for what is proved, if the server has responded.
    pub(super) fn improved(&self, proof: &mut Proof) -> Option<Self> {
        let single = proof.take().filter(|single| !single.is_empty())?;
        let (fields, decoder): (Vec<FieldsRequest>, D) = self.decoder.by_sort(&single)?;
        Some(Self { options: PageOptions { fields, ..self.options.clone() }, decoder })
    }
}
