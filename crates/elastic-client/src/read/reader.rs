//! Reading a slice by one of the two modes.
//!
//! Owns: the order of requests, and the checks that no row is missing. Must not know: the ids and bodies of a mode, or
//! columns.

use super::pit::PitRead;
use super::requests::SearchRequests;
use super::scroll::{Opened, ScrollRead};
use super::{DecodeError, DecodePage, Envelope, PageOptions, ReadCounters};
use crate::connection::Connection;
use crate::error::Error;
use crate::ignored::refuse_ignored;
use crate::paging::{PageSize, TARGET_BYTES};
use crate::request::{Request, Response};
use crate::slices::{Slice, SliceSource};
use futures::future::try_join_all;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::task::JoinHandle;
use tracing::Instrument;

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
    Done,
}

/// Reads one slice, page by page. Dropping the reader cancels the read and closes its scroll.
pub struct SliceReader<D: DecodePage> {
    connection: Arc<Connection>,
    slice: Slice,
    options: PageOptions,
    pub(super) decoder: D,
    pub(super) counters: Arc<ReadCounters>,
    pub(super) mode: Mode,
    pub(super) state: State,
    pub(super) page_size: PageSize,
    /// The number of rows that the request in flight asks for.
    asked: u32,
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
            options,
            decoder,
            counters,
            mode,
            state: State::Start,
            page_size,
            asked: page_size.rows(),
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
    /// that [`PageOptions::ignored`] forbids.
    pub async fn next_page(&mut self) -> Result<Option<D::Rows>, Error> {
        if matches!(self.state, State::Start) {
            if let Some(ignored) = &self.options.ignored {
                refuse_ignored(&self.connection, &self.slice, ignored, self.options.read.keep_alive).await?;
            }
            if let Mode::Scroll(scroll) = &self.mode {
                self.page_size = scroll.sample(&self.slice, &self.options, self.page_size).await?;
            }
            self.begin()?;
        }
        if let State::Later(requests) = &mut self.state {
            let requests = std::mem::take(requests);
            self.state = State::Fetching(self.fetch(requests));
        }
        let Some(responses) = self.responses().await? else { return Ok(None) };
        let bytes = responses.iter().map(|response| response.body.len()).sum();
        let mut page: Option<Checked> = None;
        let mut parts = Vec::with_capacity(responses.len());
        for (part, response) in responses.into_iter().enumerate() {
            let started = Instant::now();
            let (envelope, rows) = match self.decoder.decode(part, &response.body) {
                Ok(decoded) => decoded,
                Err(source) => return Err(self.name_document(part, source).await),
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
            self.decoder
                .join(parts)
                .map_err(|source| Error::Decode { operation: self.operation(), source })?
        };
        self.take_over(page, bytes)?;
        Ok(Some(rows))
    }

    /// Returns the mode, and the builder of requests for pages of the current page size.
    fn ask(&mut self) -> (&mut Mode, SearchRequests<'_>) {
        self.asked = self.page_size.rows();
        let page = SearchRequests { slice: &self.slice, options: &self.options, rows: self.asked };
        (&mut self.mode, page)
    }

    /// Requests the first page.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        let (mode, page) = self.ask();
        self.state = match mode {
            Mode::Pit(pit) => {
                let requests = pit.page_requests(&page);
                State::Fetching(self.fetch(requests))
            }
            Mode::Scroll(scroll) => State::Opening(scroll.open(&page)?),
        };
        Ok(())
    }

    /// Requests the number of rows. A point in time returns it without rows, a scroll with a page of one row.
    pub(super) fn begin_count(&mut self) -> Result<(), Error> {
        if let Mode::Pit(pit) = &self.mode {
            self.asked = 0;
            let page = SearchRequests { slice: &self.slice, options: &self.options, rows: 0 };
            self.state = State::Fetching(self.fetch(vec![pit.count_request(&page)]));
            return Ok(());
        }
        self.page_size = self.page_size.at_most(1);
        self.begin()
    }

    /// Waits for the responses to the requests in flight. Returns `None` if no request is in flight.
    pub(super) async fn responses(&mut self) -> Result<Option<Vec<Response>>, Error> {
        let started = Instant::now();
        let responses = loop {
            // The task stays in the state until it ends, because `drop` must find it if this future is dropped.
            let fetched = match &mut self.state {
                State::Start | State::Later(_) | State::Done => return Ok(None),
                State::Fetching(task) => task.await,
                State::Opening(task) => task.await.map(|opened| {
                    let Opened { response, id } = opened?;
                    if let (Mode::Scroll(scroll), Some(id)) = (&mut self.mode, id) {
                        scroll.opened(id);
                    }
                    Ok(vec![response])
                }),
            };
            self.state = State::Done;
            let fetched = fetched.map_err(|e| Error::Protocol {
                operation: self.operation(),
                detail: format!("the request was cancelled: {e}"),
            })?;
            match fetched {
                Err(Error::TooLarge { bytes, max, .. }) if self.asked > 1 => {
                    let parts = self.options.fields.len().max(1);
                    self.page_size = self.page_size.after_too_large(bytes.saturating_mul(parts));
                    if matches!(&self.mode, Mode::Scroll(scroll) if scroll.is_open()) {
                        let (rows, fitting) = (self.asked, self.page_size.rows());
                        return Err(Error::ScrollPageTooLarge {
                            operation: self.operation(),
                            rows,
                            max,
                            fitting,
                        });
                    }
                    self.begin()?;
                }
                fetched => break fetched?,
            }
        };
        add(&self.counters.wait_nanos, started.elapsed().as_nanos() as u64);
        add(&self.counters.retries, responses.iter().map(|response| u64::from(response.retries)).sum());
        add(&self.counters.pages, 1);
        let bytes = responses.iter().map(|response| response.body.len() as u64).sum();
        add(&self.counters.bytes, bytes);
        self.counters.peak_page_bytes.fetch_max(bytes, Ordering::Relaxed);
        Ok(Some(responses))
    }

    /// Returns the error of a page that cannot be decoded, with the document's `_id` if possible.
    ///
    /// Pages have no `_id` unless a column needs it, because it is slow to return. The same page of a point in time can
    /// be requested again with `_id`.
    async fn name_document(&mut self, part: usize, source: DecodeError) -> Error {
        let mut source = source;
        if let Mode::Pit(pit) = &self.mode
            && let Some(fields) = self.options.fields.get_mut(part).filter(|fields| !fields.metadata)
        {
            fields.metadata = true;
            let page = SearchRequests { slice: &self.slice, options: &self.options, rows: self.asked };
            if let Some(request) = pit.page_requests(&page).get(part)
                && let Ok(response) = self.connection.send(request).await
                && let Err(named) = self.decoder.decode(part, &response.body)
            {
                source = named;
            }
        }
        Error::Decode { operation: self.operation(), source }
    }

    pub(super) fn operation(&self) -> String {
        SearchRequests { slice: &self.slice, options: &self.options, rows: self.asked }.operation()
    }

    /// Refuses a response in which rows may be missing.
    pub(super) fn check(&mut self, page: Envelope) -> Result<Checked, Error> {
        // The ids come first: a scroll must be closed also if its page is refused below.
        match &mut self.mode {
            Mode::Pit(pit) => pit.renamed(page.pit_id),
            Mode::Scroll(scroll) => scroll.renamed(page.scroll_id),
        }
        let incomplete = |detail: String| Error::Incomplete { operation: self.operation(), detail };
        if !page.complete {
            return Err(incomplete("_shards or timed_out is missing".into()));
        }
        if page.timed_out {
            return Err(incomplete("the server timed out and returned partial results".into()));
        }
        // Elasticsearch 7 sets it on every page of a scroll after the first, where it means that the page is full. The
        // total of the first page verifies the rows in any case.
        let is_later_of_scroll = matches!(self.mode, Mode::Scroll(_)) && self.total.is_some();
        if page.terminated_early && !is_later_of_scroll {
            return Err(incomplete("the server ended the search early and returned partial results".into()));
        }
        if page.clusters_incomplete > 0 {
            let clusters = page.clusters_incomplete;
            return Err(incomplete(format!("{clusters} remote clusters returned partial or no results")));
        }
        if page.shards_failed > 0 {
            let reason = page.shard_failure.unwrap_or_else(|| "no reason given".into());
            return Err(incomplete(format!("{} shards failed: {reason}", page.shards_failed)));
        }
        if page.shards_total == Some(0) {
            return Err(incomplete(
                "the server searched no shard, as for a frozen index; unfreeze the index".into(),
            ));
        }
        // Otherwise a duplicate row could hide a missing one.
        if page.hits > self.asked as usize {
            return Err(incomplete(format!("{} rows on a page of at most {}", page.hits, self.asked)));
        }
        let total = match (self.total, page.total) {
            (Some(total), Some(now)) if now != total => {
                return Err(incomplete(format!("{total} rows counted at first, and now {now}")));
            }
            (Some(total), _) => total,
            (None, Some(total)) => {
                add(&self.counters.matched, total);
                self.total = Some(total);
                total
            }
            (None, None) => return Err(incomplete("hits.total is missing or not exact".into())),
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
        let enough = self.options.limit.is_some_and(|limit| self.read >= u64::from(limit.get()));
        // The last page proves the end: it has fewer rows than requested, or none.
        let end = self.read == total && short;
        if end || enough {
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
            let max = self.options.max_rows(self.read);
            self.page_size = self.page_size.after(page.hits, bytes).at_most(max);
        }
        let (mode, page) = self.ask();
        let requests = match mode {
            Mode::Scroll(scroll) => vec![scroll.next_request(&page)?],
            Mode::Pit(pit) => pit.page_requests(&page),
        };
        // The next page is requested while the caller uses this one. So at most two pages are in memory, and only one
        // if it is large.
        self.state = match bytes > 2 * TARGET_BYTES {
            true => State::Later(requests),
            false => State::Fetching(self.fetch(requests)),
        };
        Ok(())
    }

    fn fetch(&self, requests: Vec<Request>) -> JoinHandle<Result<Vec<Response>, Error>> {
        let connection = Arc::clone(&self.connection);
        let fetch =
            async move { try_join_all(requests.iter().map(|request| connection.send(request))).await };
        // Log entries of a page contain the slice of the current span.
        tokio::spawn(fetch.in_current_span())
    }

    /// Closes the scroll that this reader opened.
    pub(super) fn free(&mut self) {
        match &mut self.mode {
            Mode::Pit(_) => {}
            Mode::Scroll(scroll) => scroll.free(),
        }
    }
}

impl<D: DecodePage> Drop for SliceReader<D> {
    fn drop(&mut self) {
        match (std::mem::replace(&mut self.state, State::Done), &mut self.mode) {
            (State::Opening(task), Mode::Scroll(scroll)) => scroll.free_when_opened(task),
            (State::Fetching(task), _) => task.abort(),
            // A reader opens only scrolls.
            (State::Opening(_), Mode::Pit(_)) => {}
            (State::Start | State::Later(_) | State::Done, _) => {}
        }
        self.free();
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
