//! Reading a slice by its own
//! [scroll](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/scroll-api.html).
//!
//! Owns: opening the scroll, its id, and closing it. Must not know: how rows are used.

use super::PageOptions;
use super::requests::SearchRequests;
use crate::connection::Connection;
use crate::error::Error;
use crate::open_contexts::OpenContext;
use crate::paging::{MAX_BYTES, PageSize};
use crate::paths;
use crate::request::{Idempotence, Method, Request, Response};
use crate::slices::Slice;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tracing::Instrument;

/// The state of a read by scroll.
pub(super) struct ScrollRead {
    connection: Arc<Connection>,
    /// The newest id, after the scroll was opened.
    id: Option<String>,
}

/// The first page of a scroll.
pub(super) struct Opened {
    pub(super) response: Response,
    pub(super) id: Option<String>,
}

impl ScrollRead {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, id: None }
    }

    /// Returns the page size that fits, from searches that open no search context.
    ///
    /// All pages of a scroll have as many rows as the first one, so the size must be known before. Documents are
    /// sampled with 1 and 25 rows, doc values with 1,000 rows.
    pub(super) async fn sample(
        &self,
        slice: &Slice,
        options: &PageOptions,
        mut size: PageSize,
    ) -> Result<PageSize, Error> {
        for _ in 0..2 {
            if size.is_max() {
                break;
            }
            let page = SearchRequests { slice, options, rows: size.rows() };
            let path = paths::search_index(&slice.index)?;
            let mut body = page.body(0);
            body["sort"] = json!(["_doc"]);
            body["track_total_hits"] = json!(false);
            // The server slices only a search context.
            body.as_object_mut().map(|body| body.remove("slice"));
            let request = page.search(path, 0, &body).with_max_bytes(MAX_BYTES);
            match self.connection.send(&request).await {
                Ok(response) => {
                    let sampled: Sampled =
                        serde_json::from_slice(&response.body).map_err(|e| Error::Protocol {
                            operation: page.operation(),
                            detail: format!("the sample is not a search response: {e}"),
                        })?;
                    size = size.after(sampled.hits.hits.len(), response.body.len());
                }
                Err(Error::TooLarge { bytes, .. }) => {
                    size = size.after_too_large(bytes);
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(size)
    }

    /// Requests the first page, in a task that continues if its caller is dropped, because the scroll must be closed.
    pub(super) fn open(&self, page: &SearchRequests<'_>) -> Result<JoinHandle<Result<Opened, Error>>, Error> {
        let request = opening_request(page)?;
        let connection = Arc::clone(&self.connection);
        let open = async move {
            let response = match connection.send(&request).await {
                Ok(response) => response,
                Err(error) => {
                    // The scroll is open although its page was too large.
                    if let Error::TooLarge { head, .. } = &error
                        && let Some(id) = scroll_id_in_head(head)
                    {
                        connection.free_soon(OpenContext::Scroll(id));
                    }
                    return Err(error);
                }
            };
            let id = scroll_id(&response.body);
            if let Some(id) = &id {
                connection.open_contexts().add(OpenContext::Scroll(id.clone()));
            }
            Ok(Opened { response, id })
        };
        // Log entries of a page contain the slice of the current span.
        Ok(self.connection.spawn_counted(open.in_current_span()))
    }

    pub(super) fn is_open(&self) -> bool {
        self.id.is_some()
    }

    pub(super) fn opened(&mut self, id: String) {
        self.id = Some(id);
    }

    /// Takes over the id of a page, if it differs from the current one. The newest id closes the scroll.
    pub(super) fn renamed(&mut self, id: Option<String>) {
        if let Some(id) = id
            && self.id.as_ref() != Some(&id)
        {
            if let Some(before) = self.id.replace(id.clone()) {
                self.connection.open_contexts().remove(&OpenContext::Scroll(before));
            }
            self.connection.open_contexts().add(OpenContext::Scroll(id));
        }
    }

    /// Returns the request for the next page. It is not idempotent: the scroll advances even if the response is lost.
    pub(super) fn next_request(&self, page: &SearchRequests<'_>) -> Result<Request, Error> {
        let Some(id) = &self.id else {
            return Err(Error::Protocol { operation: page.operation(), detail: "no _scroll_id".into() });
        };
        let body = json!({ "scroll_id": id, "scroll": page.options.read.keep_alive.to_string() });
        let request = Request::new(Method::Post, paths::scroll(), page.operation())
            .with_param("filter_path", page.filter_path(0))
            .with_body(&body)
            .with_idempotence(Idempotence::NotIdempotent);
        Ok(page.bounded(request))
    }

    /// Closes the scroll in the background.
    pub(super) fn free(&mut self) {
        if let Some(id) = self.id.take() {
            self.connection.free_soon(OpenContext::Scroll(id));
        }
    }

    /// Closes the scroll that this task opens, in the background.
    pub(super) fn free_when_opened(&self, task: JoinHandle<Result<Opened, Error>>) {
        let connection = Arc::clone(&self.connection);
        self.connection.spawn_counted(async move {
            if let Ok(Ok(Opened { id: Some(id), .. })) = task.await {
                connection.free_soon(OpenContext::Scroll(id));
            }
        });
    }
}

fn opening_request(page: &SearchRequests<'_>) -> Result<Request, Error> {
    let index = &page.slice.index;
    if page.parts() > 1 {
        let fields: usize = page.options.fields.iter().map(|fields| fields.doc_values.len()).sum();
        return Err(Error::Refused(format!(
            "index \"{index}\": {fields} columns are read from doc values, which takes several requests for \
             each page, but a scroll returns a page only once; select fewer columns, exclude some by the \
             table option exclude, or set read = \"pit\""
        )));
    }
    let mut body = page.body(0);
    let order = page.order();
    // A scroll needs no tiebreaker, because the server stores the position.
    body["sort"] = if order.is_empty() { json!(["_doc"]) } else { json!(order) };
    let path = paths::search_index(index)?;
    let keep_alive = page.options.read.keep_alive.to_string();
    Ok(page.bounded(page.search(path, 0, &body).with_param("scroll", keep_alive)))
}

fn scroll_id(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Opened {
        _scroll_id: Option<String>,
    }
    serde_json::from_slice::<Opened>(body).ok()?._scroll_id
}

/// Returns the scroll's id from the head of a response. Servers send it first.
fn scroll_id_in_head(head: &[u8]) -> Option<String> {
    let id = head.strip_prefix(br#"{"_scroll_id":""#)?;
    let end = id.iter().position(|byte| *byte == b'"')?;
    String::from_utf8(id[..end].to_vec()).ok()
}

#[derive(Deserialize)]
struct Sampled {
    #[serde(default)]
    hits: SampledHits,
}

#[derive(Default, Deserialize)]
struct SampledHits {
    #[serde(default)]
    hits: Vec<serde::de::IgnoredAny>,
}
