//! One slice, page by page, to its proven end.
//!
//! Owns: the search bodies, the cursor, and the checks that no row is missing.
//! Must not know: columns. Bytes become rows in a [`DecodePage`].

mod count;
mod requests;

use crate::connection::Connection;
use crate::error::Error;
use crate::held::Held;
use crate::ignored::{IgnoredValues, refuse_ignored};
use crate::paging::{PageSize, TARGET_BYTES};
use crate::read_options::ReadOptions;
use crate::request::{Answer, Request};
use crate::slices::{Slice, SliceSource};
use crate::sort_key::SortKey;
use futures::future::try_join_all;
use serde::Deserialize;
use serde_json::Value;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::task::JoinHandle;
use tracing::Instrument;

/// What surrounds the rows of a page.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    /// Whether `_shards` and `timed_out` were both there.
    pub complete: bool,
    /// `timed_out`.
    pub timed_out: bool,
    /// `terminated_early`.
    pub terminated_early: bool,
    /// Clusters of `_clusters` that were skipped, failed, or answered in part.
    pub clusters_incomplete: u64,
    /// `_shards.failed`.
    pub shards_failed: u64,
    /// `_shards.total`, where it is told.
    pub shards_total: Option<u64>,
    /// The first shard failure's reason.
    pub shard_failure: Option<String>,
    /// `hits.total`, if exact.
    pub total: Option<u64>,
    /// The newest PIT id.
    pub pit_id: Option<String>,
    /// The newest scroll id.
    pub scroll_id: Option<String>,
    /// Rows on this page.
    pub hits: usize,
    /// The last row's sort values.
    pub last_sort: Option<Vec<Value>>,
}

/// Why a page could not become rows.
pub type DecodeError = Box<dyn std::error::Error + Send + Sync>;

/// Turns a page's bytes into rows.
pub trait DecodePage: Send + Sync {
    /// What a page becomes.
    type Rows: Send;
    /// Decodes the answer to one of a page's requests, by the place of its fields in [`PageOptions::fields`].
    fn decode(&self, part: usize, body: &[u8]) -> Result<(Envelope, Self::Rows), DecodeError>;
    /// Puts the fields of all requests side by side. Each has the same rows in the same order.
    fn join(&self, parts: Vec<Self::Rows>) -> Result<Self::Rows, DecodeError>;
}

/// Which fields the answer to one request carries.
#[derive(Clone, Debug, Default)]
pub struct FieldsRequest {
    /// `docvalue_fields`: name and format.
    pub doc_values: Vec<(String, Option<String>)>,
    /// `_source` includes; none if empty.
    pub source: Vec<String>,
    /// The whole `_source`.
    pub whole_source: bool,
    /// Whether `_id` and `_index` are wanted.
    pub metadata: bool,
}

impl FieldsRequest {
    fn reads_source(&self) -> bool {
        self.whole_source || !self.source.is_empty()
    }
}

/// How pages are asked for.
#[derive(Clone, Debug)]
pub struct PageOptions {
    /// The query, filters included.
    pub query: Value,
    /// The fields of each request for a page; all of them find the same rows.
    pub fields: Vec<FieldsRequest>,
    /// How the index is read.
    pub read: ReadOptions,
    /// As many rows are enough; every row that matches if none.
    pub limit: Option<NonZeroU32>,
    /// Which ignored values are an error; none of them if none.
    pub ignored: Option<IgnoredValues>,
    /// The order of rows; any if empty.
    pub order: Vec<SortKey>,
}

impl PageOptions {
    fn reads_source(&self) -> bool {
        self.fields.iter().any(FieldsRequest::reads_source)
    }

    /// The largest page that is of use once `read` rows are there.
    fn most_rows(&self, read: u64) -> u32 {
        let wanted = self.limit.map_or(u64::MAX, |limit| u64::from(limit.get()).saturating_sub(read));
        self.read.page_size.get().min(u32::try_from(wanted).unwrap_or(u32::MAX)).max(1)
    }
}

/// What reading cost, for metrics.
#[derive(Debug, Default)]
pub struct ReadCounters {
    /// Rows.
    pub documents: AtomicU64,
    /// Rows that the server said match.
    pub matched: AtomicU64,
    /// Body bytes.
    pub bytes: AtomicU64,
    /// Body bytes of the greatest page.
    pub peak_page_bytes: AtomicU64,
    /// Pages.
    pub pages: AtomicU64,
    /// Requests sent again.
    pub retries: AtomicU64,
    /// Time spent waiting for the server.
    pub wait_nanos: AtomicU64,
    /// Time spent decoding.
    pub decode_nanos: AtomicU64,
}

struct Fetched {
    /// One for each of the page's requests.
    answers: Vec<Answer>,
    /// The scroll that was opened.
    opened: Option<String>,
}

/// A page that lacks nothing.
struct Checked {
    total: u64,
    hits: usize,
    last_sort: Option<Vec<Value>>,
}

impl Checked {
    /// Pages of a point in time have the same order each time, so the last row tells all of them.
    fn has_rows_of(&self, other: &Self) -> bool {
        self.hits == other.hits && self.last_sort == other.last_sort
    }
}

enum State {
    Start,
    Fetching(JoinHandle<Result<Fetched, Error>>),
    /// Asked for when it is wanted.
    Later(Vec<Request>),
    Done,
}

/// Reads one slice. Dropping it stops the read and frees its scroll.
pub struct SliceReader<D: DecodePage> {
    connection: Arc<Connection>,
    slice: Slice,
    options: PageOptions,
    decoder: D,
    counters: Arc<ReadCounters>,
    state: State,
    pit_id: Option<String>,
    scroll_id: Option<String>,
    page_size: PageSize,
    /// The rows that the request under way asks for.
    asked: u32,
    /// The last row's sort values.
    cursor: Option<Vec<Value>>,
    total: Option<u64>,
    read: u64,
}

impl<D: DecodePage> SliceReader<D> {
    /// Sends nothing yet.
    pub fn new(
        connection: Arc<Connection>,
        slice: Slice,
        options: PageOptions,
        decoder: D,
        counters: Arc<ReadCounters>,
    ) -> Self {
        let pit_id = match &slice.source {
            SliceSource::Pit { id, .. } => Some(id.to_string()),
            SliceSource::Scroll => None,
        };
        let page_size = PageSize::first(options.most_rows(0), options.reads_source());
        Self {
            connection,
            slice,
            options,
            decoder,
            counters,
            state: State::Start,
            pit_id,
            scroll_id: None,
            page_size,
            asked: page_size.rows(),
            cursor: None,
            total: None,
            read: 0,
        }
    }

    /// The next page's rows; `None` only once every row that the server counted was returned, or as
    /// many as are enough.
    pub async fn next_page(&mut self) -> Result<Option<D::Rows>, Error> {
        if matches!(self.state, State::Start) {
            if let Some(ignored) = &self.options.ignored {
                refuse_ignored(&self.connection, &self.slice, ignored, self.options.read.keep_alive).await?;
            }
            if matches!(self.slice.source, SliceSource::Scroll) {
                self.sample().await?;
            }
            let requests = self.first_requests()?;
            self.state = State::Fetching(self.fetch(requests));
        }
        if let State::Later(requests) = &self.state {
            self.state = State::Fetching(self.fetch(requests.clone()));
        }
        let Some(answers) = self.answers().await? else { return Ok(None) };
        let bytes = answers.iter().map(|answer| answer.body.len()).sum();
        let mut page: Option<Checked> = None;
        let mut parts = Vec::with_capacity(answers.len());
        for (part, answer) in answers.into_iter().enumerate() {
            let started = Instant::now();
            let (envelope, rows) = match self.decoder.decode(part, &answer.body) {
                Ok(decoded) => decoded,
                Err(source) => return Err(self.name_document(part, source).await),
            };
            add(&self.counters.decode_nanos, started.elapsed().as_nanos() as u64);
            let checked = self.check(envelope)?;
            if page.as_ref().is_some_and(|page| !page.has_rows_of(&checked)) {
                let detail = "two requests for one page found other rows".into();
                return Err(Error::Incomplete { what: self.what(), detail });
            }
            page.get_or_insert(checked);
            parts.push(rows);
        }
        let (Some(page), Some(last)) = (page, parts.pop()) else {
            return Err(Error::Protocol { what: self.what(), detail: "no answer".into() });
        };
        let rows = if parts.is_empty() {
            last
        } else {
            parts.push(last);
            self.decoder.join(parts).map_err(|source| Error::Decode { what: self.what(), source })?
        };
        self.take_over(page, bytes)?;
        Ok(Some(rows))
    }

    /// The answers to the requests under way; none if there are none.
    async fn answers(&mut self) -> Result<Option<Vec<Answer>>, Error> {
        let started = Instant::now();
        let Fetched { answers, opened } = loop {
            // The task stays in the state while it is waited for: if this future is dropped, `drop`
            // has to find it.
            let State::Fetching(task) = &mut self.state else { return Ok(None) };
            let fetched = task.await;
            self.state = State::Done;
            let fetched = fetched.map_err(|e| Error::Protocol {
                what: self.what(),
                detail: format!("the request was cancelled: {e}"),
            })?;
            match fetched {
                Err(Error::TooLarge { bytes, most, .. }) if self.asked > 1 => {
                    let parts = self.options.fields.len().max(1);
                    self.page_size = self.page_size.after_too_large(bytes.saturating_mul(parts));
                    if self.scroll_id.is_some() {
                        let (rows, fitting) = (self.asked, self.page_size.rows());
                        return Err(Error::ScrollPageTooLarge { what: self.what(), rows, most, fitting });
                    }
                    let requests = self.first_requests()?;
                    self.state = State::Fetching(self.fetch(requests));
                }
                fetched => break fetched?,
            }
        };
        if opened.is_some() {
            self.scroll_id = opened;
        }
        add(&self.counters.wait_nanos, started.elapsed().as_nanos() as u64);
        add(&self.counters.retries, answers.iter().map(|answer| u64::from(answer.retries)).sum());
        add(&self.counters.pages, 1);
        let bytes = answers.iter().map(|answer| answer.body.len() as u64).sum();
        add(&self.counters.bytes, bytes);
        self.counters.peak_page_bytes.fetch_max(bytes, Ordering::Relaxed);
        Ok(Some(answers))
    }

    /// A page carries no `_id` unless it is wanted, for it costs. Where the same page can be asked for
    /// again, it is, with `_id`, so that the error names the document.
    async fn name_document(&mut self, part: usize, source: DecodeError) -> Error {
        let repeatable = matches!(self.slice.source, SliceSource::Pit { .. });
        let mut source = source;
        if repeatable
            && let Some(fields) = self.options.fields.get_mut(part).filter(|fields| !fields.metadata)
        {
            fields.metadata = true;
            if let Some(request) = self.pit_requests().get(part)
                && let Ok(answer) = self.connection.send(request).await
                && let Err(named) = self.decoder.decode(part, &answer.body)
            {
                source = named;
            }
        }
        Error::Decode { what: self.what(), source }
    }

    fn what(&self) -> String {
        format!("search: {}", self.slice.describe())
    }

    /// Refuses an answer that may lack rows.
    fn check(&mut self, page: Envelope) -> Result<Checked, Error> {
        // The ids first: what is refused below has to be freed.
        if page.pit_id.is_some() {
            self.pit_id = page.pit_id;
        }
        if let Some(id) = page.scroll_id
            && self.scroll_id.as_ref() != Some(&id)
        {
            // One that moved on replaces the one before; it is freed by the newest id.
            if let Some(before) = self.scroll_id.replace(id.clone()) {
                self.connection.held().remove(&Held::Scroll(before));
            }
            self.connection.held().add(Held::Scroll(id));
        }
        let incomplete = |detail: String| Error::Incomplete { what: self.what(), detail };
        if !page.complete {
            return Err(incomplete("no _shards or no timed_out in the answer".into()));
        }
        if page.timed_out {
            return Err(incomplete("the server timed out and left rows out".into()));
        }
        // Elasticsearch 7 says so of every page of a scroll but the first, where it means that a page is full. Rows are
        // held against the total of the first page in any case.
        let is_later_of_scroll = matches!(self.slice.source, SliceSource::Scroll) && self.total.is_some();
        if page.terminated_early && !is_later_of_scroll {
            return Err(incomplete("the server ended the search early and left rows out".into()));
        }
        if page.clusters_incomplete > 0 {
            let clusters = page.clusters_incomplete;
            return Err(incomplete(format!("{clusters} remote clusters left rows out")));
        }
        if page.shards_failed > 0 {
            let reason = page.shard_failure.unwrap_or_else(|| "no reason given".into());
            return Err(incomplete(format!("{} shards failed: {reason}", page.shards_failed)));
        }
        if page.shards_total == Some(0) {
            return Err(incomplete(
                "the server searched no shard, as it does of a frozen index: unfreeze it".into(),
            ));
        }
        // A row twice could otherwise stand for a row less.
        if page.hits > self.asked as usize {
            return Err(incomplete(format!("{} rows on a page of {}", page.hits, self.asked)));
        }
        let total = match (self.total, page.total) {
            (Some(total), Some(now)) if now != total => {
                return Err(incomplete(format!("{total} rows at first, and now {now}")));
            }
            (Some(total), _) => total,
            (None, Some(total)) => {
                add(&self.counters.matched, total);
                self.total = Some(total);
                total
            }
            (None, None) => return Err(incomplete("no exact hits.total".into())),
        };
        Ok(Checked { total, hits: page.hits, last_sort: page.last_sort })
    }

    fn take_over(&mut self, page: Checked, bytes: usize) -> Result<(), Error> {
        let total = page.total;
        self.read += page.hits as u64;
        // Servers fill every page but the last one. Where a limit ends the read, nothing else would tell.
        let short = page.hits < self.asked as usize;
        if self.read > total || (short && self.read < total) {
            return Err(Error::Incomplete {
                what: self.what(),
                detail: format!("{} rows read of {total} on the same snapshot", self.read),
            });
        }
        add(&self.counters.documents, page.hits as u64);
        let enough = self.options.limit.is_some_and(|limit| self.read >= u64::from(limit.get()));
        // The last page proves the end: it has fewer rows than asked for, or none.
        let end = self.read == total && short;
        if end || enough {
            self.free_scroll();
            return Ok(());
        }
        let requests = match &self.slice.source {
            SliceSource::Scroll => vec![self.scroll_request()?],
            SliceSource::Pit { .. } => {
                let Some(cursor) = page.last_sort else {
                    return Err(Error::Protocol { what: self.what(), detail: "a row without sort".into() });
                };
                self.cursor = Some(cursor);
                let most = self.options.most_rows(self.read);
                self.page_size = self.page_size.after(page.hits, bytes).at_most(most);
                self.pit_requests()
            }
        };
        // The next page is under way while this one is used: two in memory, never more, and only one
        // if it is large.
        self.state = match bytes > 2 * TARGET_BYTES {
            true => State::Later(requests),
            false => State::Fetching(self.fetch(requests)),
        };
        Ok(())
    }

    fn fetch(&self, requests: Vec<Request>) -> JoinHandle<Result<Fetched, Error>> {
        let connection = Arc::clone(&self.connection);
        let opens_scroll = self.opens_scroll();
        let fetch = async move {
            let sent = try_join_all(requests.iter().map(|request| connection.send(request))).await;
            if !opens_scroll {
                return Ok(Fetched { answers: sent?, opened: None });
            }
            let answers = match sent {
                Ok(answers) => answers,
                Err(error) => {
                    // Opened it is all the same.
                    if let Error::TooLarge { head, .. } = &error
                        && let Some(id) = scroll_id_in_head(head)
                    {
                        connection.free_soon(Held::Scroll(id));
                    }
                    return Err(error);
                }
            };
            let opened = answers.first().and_then(|answer| scroll_id(&answer.body));
            if let Some(id) = &opened {
                connection.held().add(Held::Scroll(id.clone()));
            }
            Ok(Fetched { answers, opened })
        };
        // What is logged of a page names its slice.
        let fetch = fetch.in_current_span();
        if opens_scroll { self.connection.spawn_counted(fetch) } else { tokio::spawn(fetch) }
    }

    /// Whether the request under way, or the next one, opens a scroll.
    fn opens_scroll(&self) -> bool {
        matches!(self.slice.source, SliceSource::Scroll) && self.scroll_id.is_none()
    }

    fn free_scroll(&mut self) {
        if let Some(id) = self.scroll_id.take() {
            self.connection.free_soon(Held::Scroll(id));
        }
    }
}

impl<D: DecodePage> Drop for SliceReader<D> {
    fn drop(&mut self) {
        let opens = self.opens_scroll();
        match std::mem::replace(&mut self.state, State::Done) {
            // Its answer is the only place where the id of the scroll is.
            State::Fetching(task) if opens => {
                let connection = Arc::clone(&self.connection);
                self.connection.spawn_counted(async move {
                    if let Ok(Ok(Fetched { opened: Some(id), .. })) = task.await {
                        connection.free_soon(Held::Scroll(id));
                    }
                });
            }
            State::Fetching(task) => task.abort(),
            State::Start | State::Later(_) | State::Done => {}
        }
        self.free_scroll();
    }
}

fn scroll_id(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Opened {
        _scroll_id: Option<String>,
    }
    serde_json::from_slice::<Opened>(body).ok()?._scroll_id
}

/// Servers send it before all else.
fn scroll_id_in_head(head: &[u8]) -> Option<String> {
    let id = head.strip_prefix(br#"{"_scroll_id":""#)?;
    let end = id.iter().position(|byte| *byte == b'"')?;
    String::from_utf8(id[..end].to_vec()).ok()
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
