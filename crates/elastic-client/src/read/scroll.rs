//! A slice that is read by a scroll of its own.
//!
//! Owns: opening it, its id, and freeing it. Must not know: what becomes of rows.

use super::PageOptions;
use super::requests::SearchRequests;
use crate::connection::Connection;
use crate::error::Error;
use crate::open_contexts::OpenContext;
use crate::paging::{MAX_BYTES, PageSize};
use crate::paths;
use crate::request::{Method, Idempotence, Request, Response};
use crate::slices::Slice;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tracing::Instrument;

/// Where a read by scroll is.
pub(super) struct ScrollRead {
    connection: Arc<Connection>,
    /// The newest id, once it is open.
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

    /// All pages of a scroll have as many rows as its first, so what fits is found out before, by
    /// searches that open nothing: of documents by 1 and 25, of doc values by one of a thousand.
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
            // Only what holds a state can be sliced.
            body.as_object_mut().map(|body| body.remove("slice"));
            let request = page.search(path, 0, &body).with_max_bytes(MAX_BYTES);
            match self.connection.send(&request).await {
                Ok(response) => {
                    let sampled: Sampled =
                        serde_json::from_slice(&response.body).map_err(|e| Error::Protocol {
                            operation: page.operation(),
                            detail: format!("no hits in the sample: {e}"),
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

    /// Asks for the first page, in a task that goes on if its caller is dropped: what it opens has to be freed.
    pub(super) fn open(&self, page: &SearchRequests<'_>) -> Result<JoinHandle<Result<Opened, Error>>, Error> {
        let request = opening_request(page)?;
        let connection = Arc::clone(&self.connection);
        let open = async move {
            let response = match connection.send(&request).await {
                Ok(response) => response,
                Err(error) => {
                    // Opened it is all the same.
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
        // What is logged of a page names its slice.
        Ok(self.connection.spawn_counted(open.in_current_span()))
    }

    pub(super) fn is_open(&self) -> bool {
        self.id.is_some()
    }

    pub(super) fn opened(&mut self, id: String) {
        self.id = Some(id);
    }

    /// Takes over the id that a page gave, if it gave another one: it replaces the one before, and the scroll is
    /// freed by the newest.
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

    /// The next page, which is sent once: a scroll moves on whether or not its response arrived.
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

    /// Frees it in the background.
    pub(super) fn free(&mut self) {
        if let Some(id) = self.id.take() {
            self.connection.free_soon(OpenContext::Scroll(id));
        }
    }

    /// Frees in the background what this task opens.
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
            "index \"{index}\": {fields} columns are read from doc values, for which a page is asked for several \
             times, and a page of a scroll is given once; name fewer columns, exclude some by the table option \
             exclude, or read = \"pit\""
        )));
    }
    let mut body = page.body(0);
    let order = page.order();
    // A scroll needs no unique order: no page of it is found again.
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

/// Servers send it before all else.
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
