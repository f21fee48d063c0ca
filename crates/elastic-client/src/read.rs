//! One slice, page by page, to its proven end.
//!
//! Owns: the search bodies, the cursor, and the checks that no row is missing.
//! Must not know: columns. Bytes become rows in a [`DecodePage`].

use crate::connection::{Answer, Connection, Method, Repeat, Request, encode_index};
use crate::error::Error;
use crate::slices::{Slice, SliceSource, Sort};
use crate::snapshot::keep_alive_text;
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A page is kept near this many bytes.
const TARGET_PAGE_BYTES: usize = 8 << 20;

/// What surrounds the rows of a page.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    /// Whether `_shards` and `timed_out` were both there.
    pub complete: bool,
    /// `timed_out`.
    pub timed_out: bool,
    /// `_shards.failed`.
    pub shards_failed: u64,
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

/// Turns a page's bytes into rows.
pub trait DecodePage: Send + Sync {
    /// What a page becomes.
    type Rows: Send;
    /// Decodes one page, whole.
    fn decode(&self, body: &[u8])
    -> Result<(Envelope, Self::Rows), Box<dyn std::error::Error + Send + Sync>>;
}

/// Which fields a page carries.
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
    /// The fields.
    pub fields: FieldsRequest,
    /// Rows a page at most.
    pub page_size: NonZeroU32,
    /// How long the server keeps the snapshot after each page.
    pub keep_alive: Duration,
    /// As many rows are enough; every row that matches if none.
    pub limit: Option<NonZeroU32>,
}

impl PageOptions {
    /// The largest page that is of use once `read` rows are there.
    fn most_rows(&self, read: u64) -> u32 {
        let wanted = self.limit.map_or(u64::MAX, |limit| u64::from(limit.get()).saturating_sub(read));
        self.page_size.get().min(u32::try_from(wanted).unwrap_or(u32::MAX)).max(1)
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
    /// Pages.
    pub pages: AtomicU64,
    /// Requests sent again.
    pub retries: AtomicU64,
    /// Time spent waiting for the server.
    pub wait_nanos: AtomicU64,
    /// Time spent decoding.
    pub decode_nanos: AtomicU64,
}

enum State {
    Start,
    Fetching(JoinHandle<Result<Answer, Error>>),
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
    page_size: u32,
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
            SliceSource::Pit { id, .. } => Some(id.clone()),
            SliceSource::Scroll => None,
        };
        // Documents of unknown size: begin small, grow by what is seen.
        let most = options.most_rows(0);
        let page_size = if options.fields.reads_source() { most.min(500) } else { most };
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
            total: None,
            read: 0,
        }
    }

    /// The next page's rows; `None` only once every row that the server counted was returned, or as
    /// many as are enough.
    pub async fn next_page(&mut self) -> Result<Option<D::Rows>, Error> {
        if let State::Start = self.state {
            self.state = State::Fetching(self.fetch(self.first_request()));
        }
        // The request stays in the state until it is answered: whoever drops this wait drops the
        // reader next, which has to know of it.
        let State::Fetching(task) = &mut self.state else { return Ok(None) };
        let started = Instant::now();
        let answer = task.await;
        self.state = State::Done;
        let answer = answer.map_err(|e| Error::Protocol {
            what: self.what(),
            detail: format!("the request was cancelled: {e}"),
        })??;
        add(&self.counters.wait_nanos, started.elapsed().as_nanos() as u64);
        add(&self.counters.retries, u64::from(answer.retries));
        add(&self.counters.pages, 1);
        add(&self.counters.bytes, answer.body.len() as u64);
        let started = Instant::now();
        let (envelope, rows) = self
            .decoder
            .decode(&answer.body)
            .map_err(|source| Error::Decode { what: self.what(), source })?;
        add(&self.counters.decode_nanos, started.elapsed().as_nanos() as u64);
        self.take_over(envelope, answer.body.len())?;
        Ok(Some(rows))
    }

    fn what(&self) -> String {
        format!("search: {}", self.slice.describe())
    }

    fn take_over(&mut self, page: Envelope, bytes: usize) -> Result<(), Error> {
        let incomplete = |detail: String| Error::Incomplete { what: self.what(), detail };
        if !page.complete {
            return Err(incomplete("no _shards or no timed_out in the answer".into()));
        }
        if page.timed_out {
            return Err(incomplete("the server timed out and left rows out".into()));
        }
        if page.shards_failed > 0 {
            let reason = page.shard_failure.unwrap_or_else(|| "no reason given".into());
            return Err(incomplete(format!("{} shards failed: {reason}", page.shards_failed)));
        }
        let total = match self.total {
            Some(total) => total,
            None => {
                let total = page.total.ok_or_else(|| incomplete("no exact hits.total".into()))?;
                add(&self.counters.matched, total);
                self.total = Some(total);
                total
            }
        };
        self.read += page.hits as u64;
        if self.read > total || (page.hits == 0 && self.read < total) {
            return Err(Error::Incomplete {
                what: self.what(),
                detail: format!("{} rows read of {total} on the same snapshot", self.read),
            });
        }
        add(&self.counters.documents, page.hits as u64);
        if page.pit_id.is_some() {
            self.pit_id = page.pit_id;
        }
        if page.scroll_id.is_some() {
            self.scroll_id = page.scroll_id;
        }
        let enough = self.options.limit.is_some_and(|limit| self.read >= u64::from(limit.get()));
        if self.read == total || enough {
            self.free_scroll();
            return Ok(());
        }
        let row_bytes = (bytes / page.hits.max(1)).max(1);
        let fitting = u32::try_from(TARGET_PAGE_BYTES / row_bytes).unwrap_or(u32::MAX).max(1);
        self.page_size = fitting.min(self.options.most_rows(self.read));
        let request = match &self.slice.source {
            SliceSource::Scroll => self.scroll_request()?,
            SliceSource::Pit { .. } => {
                let cursor = page.last_sort.ok_or_else(|| Error::Protocol {
                    what: self.what(),
                    detail: "a row without sort".into(),
                })?;
                self.pit_request(Some(cursor))
            }
        };
        // The next page is under way while this one is used: two in memory, never more.
        self.state = State::Fetching(self.fetch(request));
        Ok(())
    }

    fn fetch(&self, request: Request) -> JoinHandle<Result<Answer, Error>> {
        let connection = Arc::clone(&self.connection);
        tokio::spawn(async move { connection.send(&request).await })
    }

    fn first_request(&self) -> Request {
        match &self.slice.source {
            SliceSource::Pit { .. } => self.pit_request(None),
            SliceSource::Scroll => {
                let mut body = self.body();
                body["sort"] = json!(["_doc"]);
                let path = format!("/{}/_search", encode_index(&self.slice.index));
                self.search(path, &body).with_param("scroll", keep_alive_text(self.options.keep_alive))
            }
        }
    }

    fn pit_request(&self, cursor: Option<Vec<Value>>) -> Request {
        let SliceSource::Pit { sort, id } = &self.slice.source else {
            unreachable!("asked for slices of a point in time only")
        };
        let mut body = self.body();
        body["pit"] = json!({
            "id": self.pit_id.as_ref().unwrap_or(id),
            "keep_alive": keep_alive_text(self.options.keep_alive),
        });
        body["sort"] = match sort {
            Sort::ShardDoc => json!(["_shard_doc"]),
            Sort::Doc => json!(["_doc"]),
        };
        if let Some(cursor) = cursor {
            body["search_after"] = Value::Array(cursor);
            body["track_total_hits"] = json!(false);
        }
        self.search("/_search".into(), &body)
    }

    fn search(&self, path: String, body: &Value) -> Request {
        Request::new(Method::Post, path, self.what())
            .with_param("allow_partial_search_results", "false")
            .with_param("filter_path", self.filter_path())
            .with_body(body)
    }

    fn scroll_request(&self) -> Result<Request, Error> {
        let Some(id) = &self.scroll_id else {
            return Err(Error::Protocol { what: self.what(), detail: "no _scroll_id".into() });
        };
        let body = json!({ "scroll_id": id, "scroll": keep_alive_text(self.options.keep_alive) });
        Ok(Request::new(Method::Post, "/_search/scroll", self.what())
            .with_param("filter_path", self.filter_path())
            .with_body(&body)
            .with_repeat(Repeat::Never))
    }

    fn filter_path(&self) -> String {
        let mut path =
            "_shards,timed_out,pit_id,_scroll_id,hits.total,hits.hits.sort,hits.hits.fields".to_owned();
        if self.options.fields.metadata {
            path.push_str(",hits.hits._id,hits.hits._index");
        }
        if self.options.fields.reads_source() {
            path.push_str(",hits.hits._source");
        }
        path
    }

    fn body(&self) -> Value {
        let fields = &self.options.fields;
        let mut query = self.options.query.clone();
        if let Some(filter) = &self.slice.filter {
            query = json!({ "bool": { "filter": [query, filter] } });
        }
        let mut body = json!({ "size": self.page_size, "query": query, "track_total_hits": true });
        if let Some(cut) = &self.slice.cut {
            body["slice"] = json!({ "id": cut.id, "max": cut.max });
        }
        body["_source"] = if fields.whole_source {
            json!(true)
        } else if fields.source.is_empty() {
            json!(false)
        } else {
            json!(fields.source)
        };
        if !fields.doc_values.is_empty() {
            let list = fields.doc_values.iter().map(|(field, format)| match format {
                Some(format) => json!({ "field": field, "format": format }),
                None => json!({ "field": field }),
            });
            body["docvalue_fields"] = list.collect();
        }
        if !fields.metadata && !fields.reads_source() {
            body["stored_fields"] = json!("_none_");
        }
        body
    }

    fn free_scroll(&mut self) {
        let Some(id) = self.scroll_id.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(free_scroll(Arc::clone(&self.connection), id));
    }
}

async fn free_scroll(connection: Arc<Connection>, id: String) {
    let request = Request::new(Method::Delete, "/_search/scroll", "free a scroll")
        .with_body(&json!({ "scroll_id": [id] }));
    if let Err(e) = connection.send(&request).await
        && e.status() != Some(404)
    {
        tracing::warn!(error = %e, "a scroll stays open until its keep_alive");
    }
}

/// Frees the scroll that a request opens whose answer nobody waits for any more: only the answer
/// says which it is.
async fn free_opened(connection: Arc<Connection>, task: JoinHandle<Result<Answer, Error>>) {
    let Ok(Ok(answer)) = task.await else { return };
    let body = answer.json("free a scroll").unwrap_or_default();
    if let Some(id) = body["_scroll_id"].as_str() {
        free_scroll(connection, id.to_owned()).await;
    }
}

impl<D: DecodePage> Drop for SliceReader<D> {
    fn drop(&mut self) {
        let opens = matches!(self.slice.source, SliceSource::Scroll) && self.scroll_id.is_none();
        if let State::Fetching(task) = std::mem::replace(&mut self.state, State::Done) {
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) if opens => {
                    runtime.spawn(free_opened(Arc::clone(&self.connection), task));
                }
                Ok(_) | Err(_) => task.abort(),
            }
        }
        self.free_scroll();
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
