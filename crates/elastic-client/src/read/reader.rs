//! Reading a slice by one of the two modes.
//!
//! Owns: the order of requests, and the check that the pages have all rows. Must not know: the ids and bodies of a
//! mode, or columns.

use super::check::{EarlyEnd, incompleteness};
use super::pit::PitRead;
use super::requests::SearchRequests;
use super::scroll::{Opened, ScrollRead};
use super::sort_values::{Form, Proof};
use super::{DecodeError, DecodePage, Envelope, PageOptions, ReadCounters, tail};
use crate::connection::Connection;
use crate::error::Error;
use crate::ignored::refuse_ignored;
use crate::paging::{PageSize, TARGET_BYTES};
use crate::request::{Request, Response};
use crate::slices::{Slice, SliceSource};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::task::JoinHandle;

/// The mode of a read, with its state.
pub(super) enum Mode {
    Pit(PitRead),
    Scroll(ScrollRead),
}

/// A page that passed all checks.
pub(super) struct Checked {
    pub(super) total: u64,
    hits: usize,
    last_sort: Option<Vec<Value>>,
}

impl Checked {
    /// Returns whether both responses have the same rows. In a point in time the order never changes, so the number of
    /// rows and the last row are enough.
    fn has_rows_of(&self, other: &Self) -> bool {
        self.hits == other.hits && self.last_sort == other.last_sort
    }
}

pub(super) enum State {
    Start,
    /// One response for each of the page's requests.
    Fetching(JoinHandle<Result<Vec<Response>, Error>>),
    /// The first page of a scroll. Only its response contains the scroll's id.
    Opening(JoinHandle<Result<Opened, Error>>),
    /// The next page, which is requested only when the caller asks for it.
    Later(Vec<Request>),
    /// No request is in flight, and the read has not reached its end: it failed, or decoding was dropped.
    Stopped,
    /// Every row was returned.
    Ended,
}

/// Reads one slice, page by page. Dropping the reader cancels the read and closes its scroll.
pub struct SliceReader<D: DecodePage> {
    pub(super) connection: Arc<Connection>,
    pub(super) slice: Slice,
    /// The form of the pages that are requested from now on.
    pub(super) form: Arc<Form<D>>,
    /// The form of doc values, while another one is in use.
    doc_values: Option<Arc<Form<D>>>,
    pub(super) proof: Proof,
    pub(super) counters: Arc<ReadCounters>,
    pub(super) mode: Mode,
    pub(super) state: State,
    pub(super) page_size: PageSize,
    /// The number of rows that the request in flight asks for.
    pub(super) asked: u32,
    /// The responses of the page that is decoded next, and its form.
    received: Option<(Arc<Form<D>>, Vec<Response>)>,
    /// The requests in flight that were sent before the previous page was decoded.
    pub(super) ahead: Option<Vec<Request>>,
    /// Whether the ends of a response have so far told what its successor is.
    looks_ahead: bool,
    total: Option<u64>,
    read: u64,
}

impl<D: DecodePage> SliceReader<D> {
    /// Returns a reader of a slice. Sends no request.
    pub fn new(
        connection: Arc<Connection>,
        slice: Slice,
        options: PageOptions,
        decoder: D,
        counters: Arc<ReadCounters>,
    ) -> Self {
        let mode = match &slice.source {
            SliceSource::Pit { id, tiebreaker } => Mode::Pit(PitRead::new(Arc::clone(id), *tiebreaker)),
            SliceSource::Scroll => Mode::Scroll(ScrollRead::new(Arc::clone(&connection))),
        };
        let page_size = PageSize::first(options.max_rows(0), options.reads_source());
        Self {
            connection,
            slice,
            form: Arc::new(Form { options, decoder }),
            doc_values: None,
            proof: Proof::Open,
            counters,
            mode,
            state: State::Start,
            page_size,
            asked: page_size.rows(),
            received: None,
            ahead: None,
            looks_ahead: true,
            total: None,
            read: 0,
        }
    }

    /// Returns the rows of the next page. Returns `None` after every row that the server counted was returned, or after
    /// [`PageOptions::limit`] rows.
    ///
    /// # Errors
    ///
    /// If a request fails, if rows are missing, or if a page cannot be decoded. Also if a document has dropped values
    /// that [`PageOptions::ignored`] forbids. A read that failed stays failed: each later call is an error, too.
    pub async fn next_page(&mut self) -> Result<Option<D::Rows>, Error> {
        if matches!(self.state, State::Start)
            && let Err(error) = self.start().await
        {
            self.state = State::Stopped;
            return Err(error);
        }
        // If the caller dropped this future while it yielded, the page is still there.
        if self.received.is_none() {
            if let State::Later(requests) = &mut self.state {
                let requests = std::mem::take(requests);
                self.state = State::Fetching(self.fetch(requests));
            }
            let Some(responses) = self.responses().await? else { return Ok(None) };
            let form = Arc::clone(&self.form);
            self.improve();
            self.ask_ahead(&form, &responses);
            self.received = Some((form, responses));
            if self.ahead.is_some() {
                // Decoding does not yield, so the request would be sent after it.
                tokio::task::yield_now().await;
            }
        }
        let Some((form, responses)) = self.received.take() else { return Ok(None) };
        let rows = self.decode(&form, responses).await;
        match rows {
            Ok(_) => self.ask_for_proof(),
            Err(_) => self.stop(),
        }
        rows.map(Some)
    }

    /// Checks what must be known before the first page, and requests it. A caller that drops this may start again.
    async fn start(&mut self) -> Result<(), Error> {
        let options = &self.form.options;
        if let Some(ignored) = &options.ignored {
            refuse_ignored(&self.connection, &self.slice, ignored, options.read.keep_alive).await?;
        }
        if let Mode::Scroll(scroll) = &self.mode {
            self.page_size = scroll.sample(&self.slice, options, self.page_size).await?;
        }
        self.begin()
    }

    /// Changes to a better form, if it is proved.
    fn improve(&mut self) {
        if let Some(form) = self.form.improved(&mut self.proof) {
            self.doc_values = Some(std::mem::replace(&mut self.form, Arc::new(form)));
        }
    }

    /// Changes back to the form of doc values.
    pub(super) fn unsort(&mut self) {
        if let Some(form) = self.doc_values.take() {
            self.form = form;
        }
    }

    /// Asks for a proof, once, if the slice has more than the page that is requested meanwhile and one more.
    fn ask_for_proof(&mut self) {
        let (Proof::Open, Some(total)) = (&self.proof, self.total) else { return };
        let follows = total.saturating_sub(self.read) > 2 * u64::from(self.page_size.rows());
        self.proof = match follows && self.form.is_improvable() {
            true => self.form.prove(&self.connection, &self.slice, total),
            false => Proof::Closed,
        };
    }

    /// Decodes and checks the page of these responses, and requests the next page.
    async fn decode(&mut self, form: &Form<D>, responses: Vec<Response>) -> Result<D::Rows, Error> {
        let bytes = size_of(&responses);
        let mut page: Option<Checked> = None;
        let mut parts = Vec::with_capacity(responses.len());
        for (part, response) in responses.into_iter().enumerate() {
            let started = Instant::now();
            let (envelope, rows) = match form.decoder.decode(part, &response.body) {
                Ok(decoded) => decoded,
                Err(source) => return Err(self.name_document(form, part, source).await),
            };
            add(&self.counters.decode_nanos, started.elapsed().as_nanos() as u64);
            let checked = self.check(envelope)?;
            if page.as_ref().is_some_and(|page| !page.has_rows_of(&checked)) {
                let detail = "the requests for one page returned different rows".into();
                return Err(Error::Incomplete { operation: self.operation(), detail });
            }
            page.get_or_insert(checked);
            parts.push(rows);
        }
        let (Some(page), Some(last)) = (page, parts.pop()) else {
            return Err(Error::Protocol { operation: self.operation(), detail: "no page".into() });
        };
        let rows = if parts.is_empty() {
            last
        } else {
            parts.push(last);
            form.decoder
                .join(parts)
                .map_err(|source| Error::Decode { operation: self.operation(), source })?
        };
        self.take_over(page, bytes)?;
        Ok(rows)
    }

    /// Requests the next page of a point in time before this one is decoded, if the ends of the response tell its
    /// cursor and id, and the counted rows tell that it has rows.
    ///
    /// Nothing of that is trusted: [`Self::take_over`] uses the request only if the decoded page leads to the same one.
    /// So a request with an older id of the point in time, or with another size, is discarded, too.
    fn ask_ahead(&mut self, form: &Form<D>, responses: &[Response]) {
        let (Mode::Pit(pit), [response], Some(total)) = (&self.mode, responses, self.total) else { return };
        let bytes = response.body.len();
        let read = self.read + u64::from(self.asked);
        if !self.looks_ahead || is_large(bytes) || read >= total || self.is_enough(read) {
            return;
        }
        let Some(mut cursor) = tail::last_sort(&response.body) else { return };
        if form.is_by_sort() {
            cursor.truncate(1);
        }
        let mut next = pit.clone();
        next.renamed(tail::pit_id(&response.body));
        next.advance(cursor);
        let rows = self.next_size(read, self.asked as usize, bytes).rows();
        let requests =
            next.page_requests(&SearchRequests { slice: &self.slice, options: &self.form.options, rows });
        self.state = State::Fetching(self.fetch(requests.clone()));
        self.ahead = Some(requests);
    }

    /// Returns whether the read ends by its limit after this many rows.
    fn is_enough(&self, read: u64) -> bool {
        self.form.options.limit.is_some_and(|limit| read >= u64::from(limit.get()))
    }

    /// Returns the size of the page after one with this many rows and bytes, when `read` rows are read.
    fn next_size(&self, read: u64, rows: usize, bytes: usize) -> PageSize {
        self.page_size.after(rows, bytes).at_most(self.form.options.max_rows(read))
    }

    /// Returns the mode, and the builder of requests for pages of the current page size.
    pub(super) fn ask(&mut self) -> (&mut Mode, SearchRequests<'_>) {
        self.asked = self.page_size.rows();
        let page = SearchRequests { slice: &self.slice, options: &self.form.options, rows: self.asked };
        (&mut self.mode, page)
    }

    /// Returns the error of a page that cannot be decoded, with the document's `_id` if possible.
    ///
    /// Pages have no `_id` unless a column needs it, because it is slow to return. The same page of a point in time can
    /// be requested again with `_id`.
    async fn name_document(&mut self, form: &Form<D>, part: usize, source: DecodeError) -> Error {
        // This page is the last one that is requested.
        self.stop();
        let mut source = source;
        let mut options = form.options.clone();
        if let Mode::Pit(pit) = &self.mode
            && let Some(fields) = options.fields.get_mut(part).filter(|fields| !fields.metadata)
        {
            fields.metadata = true;
            let page = SearchRequests { slice: &self.slice, options: &options, rows: self.asked };
            if let Some(request) = pit.page_requests(&page).get(part)
                && let Ok(response) = self.connection.send(request).await
                && let Err(named) = form.decoder.decode(part, &response.body)
            {
                source = named;
            }
        }
        Error::Decode { operation: self.operation(), source }
    }

    pub(super) fn operation(&self) -> String {
        SearchRequests { slice: &self.slice, options: &self.form.options, rows: self.asked }.operation()
    }

    /// Refuses a response in which rows may be missing.
    pub(super) fn check(&mut self, page: Envelope) -> Result<Checked, Error> {
        let incomplete =
            |reader: &Self, detail| Err(Error::Incomplete { operation: reader.operation(), detail });
        let is_later_of_scroll = matches!(self.mode, Mode::Scroll(_)) && self.total.is_some();
        let early_end = if is_later_of_scroll { EarlyEnd::FullPage } else { EarlyEnd::Refused };
        let reason = incompleteness(&page, self.asked, early_end);
        // The ids come first: a scroll must be closed also if its page is refused.
        match &mut self.mode {
            Mode::Pit(pit) => pit.renamed(page.pit_id),
            Mode::Scroll(scroll) => scroll.renamed(page.scroll_id),
        }
        if let Some(reason) = reason {
            return incomplete(self, reason);
        }
        let total = match (self.total, page.total) {
            (Some(total), Some(now)) if now != total => {
                return incomplete(self, format!("{total} rows counted at first, and now {now}"));
            }
            (Some(total), _) => total,
            (None, Some(total)) => {
                add(&self.counters.matched, total);
                self.total = Some(total);
                total
            }
            (None, None) => return incomplete(self, "hits.total is missing or not exact".into()),
        };
        Ok(Checked { total, hits: page.hits, last_sort: page.last_sort })
    }

    fn take_over(&mut self, page: Checked, bytes: usize) -> Result<(), Error> {
        let total = page.total;
        self.read += page.hits as u64;
        // Servers fill every page but the last one. If a limit ends the read, only this check can find a missing row.
        let short = page.hits < self.asked as usize;
        if self.read > total || (short && self.read < total) {
            return Err(Error::Incomplete {
                operation: self.operation(),
                detail: format!("{} rows read of {total} in the same search context", self.read),
            });
        }
        add(&self.counters.documents, page.hits as u64);
        // The last page proves the end: it has fewer rows than requested, or none.
        let end = self.read == total && short;
        if end || self.is_enough(self.read) {
            self.stop();
            self.state = State::Ended;
            self.free();
            return Ok(());
        }
        // All pages of a scroll have as many rows as its first.
        if let Mode::Pit(pit) = &mut self.mode {
            let Some(cursor) = page.last_sort else {
                return Err(Error::Protocol {
                    operation: self.operation(),
                    detail: "a row has no sort values".into(),
                });
            };
            pit.advance(cursor);
            self.page_size = self.next_size(self.read, page.hits, bytes);
        }
        let (mode, page) = self.ask();
        let requests = match mode {
            Mode::Scroll(scroll) => vec![scroll.next_request(&page)?],
            Mode::Pit(pit) => pit.page_requests(&page),
        };
        if let Some(ahead) = self.ahead.take() {
            if ahead == requests {
                return Ok(());
            }
            self.looks_ahead = false;
            self.stop();
        }
        // The next page is requested while the caller uses this one, if it was not before this one was decoded. So at
        // most two pages are in memory, and only one if it is large.
        self.state = match is_large(bytes) {
            true => State::Later(requests),
            false => State::Fetching(self.fetch(requests)),
        };
        Ok(())
    }
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// Returns the size of a page, in bytes.
pub(super) fn size_of(responses: &[Response]) -> usize {
    responses.iter().map(|response| response.body.len()).sum()
}

/// Returns whether a page is so large that the next one must not be in memory beside it.
fn is_large(bytes: usize) -> bool {
    bytes > 2 * TARGET_BYTES
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
