//! Renewal of points in time.
//!
//! Owns: when each point in time is renewed, and what happens when a renewal fails. Must not know: what reads it.

use crate::connection::Connection;
use crate::context::SearchContext;
use crate::error::Error;
use crate::paths;
use crate::read_options::KeepAlive;
use crate::request::{Method, Request};
use futures::future::join_all;
use serde_json::json;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The most concurrent renewals of one search context. The limit leaves capacity for the context's pages.
const AT_ONCE: usize = 8;
/// The attempts of a renewal. All of them end before the server drops a point in time that was not renewed.
const TRIES: u32 = 3;
/// The shortest timeout of a renewal, for a short `keep_alive`.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Renews each point in time of a search context every half of `keep_alive`. Returns only if all points in time are
/// gone.
///
/// Each point in time is renewed independently: a failed renewal is logged and retried, and does not affect the others.
///
/// A page renews only the point in time that it reads. So a point in time could expire while its reader waits, or
/// before its index is read. A failed renewal does not end a read: if a point in time is gone, its next page fails.
pub async fn keep_context(connection: &Connection, context: &SearchContext, keep_alive: KeepAlive) {
    let turns = Semaphore::new(AT_ONCE);
    let pits = context.pits().into_iter();
    join_all(pits.map(|(id, index)| PointInTime { connection, id, index, keep_alive }.keep(&turns))).await;
}

struct PointInTime<'a> {
    connection: &'a Connection,
    id: &'a str,
    index: &'a str,
    keep_alive: KeepAlive,
}

/// The result of a renewal.
enum Renewed {
    Yes,
    No,
    Gone,
}

impl PointInTime<'_> {
    async fn keep(self, turns: &Semaphore) {
        let mut next = Instant::now() + self.keep_alive.get() / 2;
        loop {
            sleep_until(next).await;
            next += self.keep_alive.get() / 2;
            for attempt in 1..=TRIES {
                match self.renew(turns).await {
                    Renewed::Yes => break,
                    Renewed::No if attempt < TRIES => sleep(self.keep_alive.get() / 16).await,
                    Renewed::No => {}
                    Renewed::Gone => return,
                }
            }
            next = next.max(Instant::now());
        }
    }

    async fn renew(&self, turns: &Semaphore) -> Renewed {
        let Ok(_turn) = turns.acquire().await else { return Renewed::Gone };
        let longest = SHORTEST_TIMEOUT.max(self.keep_alive.get() / 8);
        let index = self.index;
        match timeout(longest, self.connection.send(&self.request())).await {
            Ok(Ok(_)) => Renewed::Yes,
            Ok(Err(error @ Error::Closed { .. })) => {
                tracing::debug!(%error, "a point in time is no longer renewed");
                Renewed::Gone
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "a point in time was not renewed");
                if error.status() == Some(404) { Renewed::Gone } else { Renewed::No }
            }
            Err(_) => {
                tracing::warn!(index, within = ?longest, "the renewal of a point in time timed out");
                Renewed::No
            }
        }
    }

    fn request(&self) -> Request {
        let body = json!({
            "size": 0,
            "track_total_hits": false,
            "pit": { "id": self.id, "keep_alive": self.keep_alive.to_string() },
        });
        Request::new(
            Method::Post,
            paths::search(),
            format!("keep a point in time on index \"{}\"", self.index),
        )
        .with_param("filter_path", "timed_out")
        .with_body(&body)
    }
}
