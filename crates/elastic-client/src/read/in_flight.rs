//! The requests of a reader that are in flight.
//!
//! Owns: sending them, waiting for their responses, and dropping them. Must not know: rows, or which page is next.

use super::DecodePage;
use super::reader::{Mode, SliceReader, State, add, size_of};
use super::requests::SearchRequests;
use super::scroll::Opened;
use crate::error::Error;
use crate::request::{Request, Response};
use futures::future::try_join_all;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::task::JoinHandle;
use tracing::Instrument;

impl<D: DecodePage> SliceReader<D> {
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
            let page = SearchRequests { slice: &self.slice, options: &self.form.options, rows: 0 };
            self.state = State::Fetching(self.fetch(vec![pit.count_request(&page)]));
            return Ok(());
        }
        self.page_size = self.page_size.at_most(1);
        self.begin()
    }

    /// Waits for the responses to the requests in flight. Returns `None` after the end of the read.
    pub(super) async fn responses(&mut self) -> Result<Option<Vec<Response>>, Error> {
        let started = Instant::now();
        let responses = loop {
            // The task stays in the state until it ends, because `drop` must find it if this future is dropped.
            let fetched = match &mut self.state {
                State::Ended => return Ok(None),
                State::Start | State::Later(_) | State::Stopped => {
                    let detail = "the read was stopped before its end".into();
                    return Err(Error::Incomplete { operation: self.operation(), detail });
                }
                State::Fetching(task) => task.await,
                State::Opening(task) => task.await.map(|opened| {
                    let Opened { response, id } = opened?;
                    if let (Mode::Scroll(scroll), Some(id)) = (&mut self.mode, id) {
                        scroll.opened(id);
                    }
                    Ok(vec![response])
                }),
            };
            self.state = State::Stopped;
            let fetched = fetched.map_err(|e| Error::Protocol {
                operation: self.operation(),
                detail: format!("the request was cancelled: {e}"),
            })?;
            match fetched {
                Err(Error::TooLarge { bytes, max, .. }) if self.asked > 1 => {
                    let parts = self.form.options.fields.len().max(1);
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
                // A server that cannot return these sort values can still return doc values.
                Err(Error::Status { status: 400 | 500, reason, .. }) if self.form.is_by_sort() => {
                    tracing::info!(reason, "the slice is read by doc values");
                    self.unsort();
                    self.begin()?;
                }
                fetched => break fetched?,
            }
        };
        add(&self.counters.wait_nanos, started.elapsed().as_nanos() as u64);
        add(&self.counters.retries, responses.iter().map(|response| u64::from(response.retries)).sum());
        add(&self.counters.pages, 1);
        let bytes = size_of(&responses) as u64;
        add(&self.counters.bytes, bytes);
        self.counters.peak_page_bytes.fetch_max(bytes, Ordering::Relaxed);
        Ok(Some(responses))
    }

    pub(super) fn fetch(&self, requests: Vec<Request>) -> JoinHandle<Result<Vec<Response>, Error>> {
        let connection = Arc::clone(&self.connection);
        let fetch =
            async move { try_join_all(requests.iter().map(|request| connection.send(request))).await };
        // Log entries of a page contain the slice of the current span.
        tokio::spawn(fetch.in_current_span())
    }

    /// Drops the requests in flight of a point in time or an open scroll.
    pub(super) fn stop(&mut self) {
        self.ahead = None;
        self.proof.close();
        if let State::Fetching(task) = &self.state {
            task.abort();
            self.state = State::Stopped;
        }
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
        self.proof.close();
        match (std::mem::replace(&mut self.state, State::Stopped), &mut self.mode) {
            (State::Opening(task), Mode::Scroll(scroll)) => scroll.free_when_opened(task),
            (State::Fetching(task), _) => task.abort(),
            // A reader opens only scrolls.
            (State::Opening(_), Mode::Pit(_)) => {}
            (State::Start | State::Later(_) | State::Stopped | State::Ended, _) => {}
        }
        self.free();
    }
}
