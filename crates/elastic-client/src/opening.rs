//! Opening points in time (PITs).
//!
//! Owns: the requests that open a PIT, and the record of each PIT, so that none stays open unrecorded. Must not know:
//! which kind of search context suits a server.

use crate::connection::Connection;
use crate::error::Error;
use crate::open_contexts::OpenContext;
use crate::paths;
use crate::read_options::KeepAlive;
use crate::request::{Method, Request};
use crate::server::fetch_json;
use crate::shards::CONCURRENT_REQUESTS;
use crate::slices::IndexShards;
use futures::StreamExt;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The API that opens a PIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PitApi {
    Elasticsearch,
    OpenSearch,
}

impl PitApi {
    fn context(self) -> fn(String) -> OpenContext {
        match self {
            Self::Elasticsearch => OpenContext::SharedPit,
            Self::OpenSearch => OpenContext::IndexPit,
        }
    }
}

/// Opens a PIT for each group of indices with concurrent requests, and returns their ids in the order of the groups. If
/// one cannot be opened, or if the future is dropped, the others are closed.
///
/// # Errors
///
/// The first error. No further request is sent after it.
pub(crate) async fn open_pits(
    connection: &Arc<Connection>,
    keep_alive: KeepAlive,
    api: PitApi,
    groups: &[IndexShards],
) -> Result<Vec<Arc<str>>, Error> {
    let half = HalfOpen { connection, api, ids: Mutex::default() };
    let failed = AtomicBool::new(false);
    let first_error = Mutex::new(None);
    futures::stream::iter(groups.iter().enumerate())
        .for_each_concurrent(CONCURRENT_REQUESTS, |(place, group)| {
            let (half, failed, first_error) = (&half, &failed, &first_error);
            async move {
                if failed.load(Ordering::Relaxed) {
                    return;
                }
                match open_pit(connection, keep_alive, api, group).await {
                    Ok(id) => half.add(place, id),
                    Err(error) => {
                        failed.store(true, Ordering::Relaxed);
                        let mut first = first_error.lock().unwrap_or_else(PoisonError::into_inner);
                        first.get_or_insert(error);
                    }
                }
            }
        })
        .await;
    let mut ids = half.take();
    if let Some(error) = first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let contexts = ids.into_iter().map(|(_, id)| api.context()(id)).collect();
        connection.free_all(contexts).await.unwrap_or_else(|close| {
            tracing::warn!(%close, "points in time stay open until keep_alive has passed");
        });
        return Err(error);
    }
    ids.sort_unstable_by_key(|(place, _)| *place);
    Ok(ids.into_iter().map(|(_, id)| id.into()).collect())
}

/// Closes the PITs that are already open if the caller stops waiting for the others.
struct HalfOpen<'a> {
    connection: &'a Arc<Connection>,
    api: PitApi,
    /// The PIT ids, each with the place of its group.
    ids: Mutex<Vec<(usize, String)>>,
}

impl HalfOpen<'_> {
    fn add(&self, place: usize, id: String) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).push((place, id));
    }

    fn take(&self) -> Vec<(usize, String)> {
        std::mem::take(&mut self.ids.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for HalfOpen<'_> {
    fn drop(&mut self) {
        let contexts: Vec<OpenContext> =
            self.take().into_iter().map(|(_, id)| self.api.context()(id)).collect();
        self.connection.free_all_soon(contexts);
    }
}

async fn open_pit(
    connection: &Arc<Connection>,
    keep_alive: KeepAlive,
    api: PitApi,
    group: &IndexShards,
) -> Result<String, Error> {
    let operation = format!("open a point in time on index \"{}\"", group.index);
    let keep_alive = keep_alive.to_string();
    match api {
        PitApi::Elasticsearch => {
            let open = Request::new(Method::Post, paths::open_pit(&group.index)?, &operation)
                .with_param("keep_alive", keep_alive);
            Ok(open_recorded(connection, open, "id", api.context()).await?.1)
        }
        PitApi::OpenSearch => {
            let path = paths::open_opensearch_pit(&group.index)?;
            let open = Request::new(Method::Post, path, &operation)
                .with_param("keep_alive", keep_alive)
                .with_param("allow_partial_pit_creation", "false");
            let (body, id) = open_recorded(connection, open, "pit_id", api.context()).await?;
            let shown = |number: Option<u64>| number.map_or("an unknown number of".into(), |n| n.to_string());
            let failed = body["_shards"]["failed"].as_u64();
            let total = body["_shards"]["total"].as_u64();
            if failed != Some(0) || total != Some(u64::from(group.shards)) {
                connection.free_soon(OpenContext::IndexPit(id));
                let detail = format!(
                    "expected {} shards with 0 failed, got {} shards with {} failed",
                    group.shards,
                    shown(total),
                    shown(failed)
                );
                return Err(Error::Incomplete { operation, detail });
            }
            Ok(id)
        }
    }
}

/// Opens a PIT and records it, in a task that continues if the caller is dropped.
async fn open_recorded(
    connection: &Arc<Connection>,
    request: Request,
    key: &'static str,
    context: fn(String) -> OpenContext,
) -> Result<(Value, String), Error> {
    let operation = request.operation.clone();
    let opening = {
        let connection = Arc::clone(connection);
        async move {
            let operation = request.operation.clone();
            let body = fetch_json(&connection, request).await?;
            let Some(id) = body[key].as_str().map(str::to_owned) else {
                return Err(Error::Protocol { operation, detail: format!("\"{key}\" is missing") });
            };
            connection.open_contexts().add(context(id.clone()));
            Ok((body, id))
        }
    };
    let mut opening = Opening { connection, context, task: Some(connection.spawn_counted(opening)) };
    let Some(task) = &mut opening.task else { unreachable!("set above") };
    let opened = task.await;
    opening.task = None;
    opened.map_err(|e| Error::Protocol { operation, detail: format!("the request was cancelled: {e}") })?
}

struct Opening<'a> {
    connection: &'a Arc<Connection>,
    context: fn(String) -> OpenContext,
    task: Option<tokio::task::JoinHandle<Result<(Value, String), Error>>>,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let Some(task) = self.task.take() else { return };
        let (connection, context) = (Arc::clone(self.connection), self.context);
        self.connection.spawn_counted(async move {
            if let Ok(Ok((_, id))) = task.await {
                connection.free_soon(context(id));
            }
        });
    }
}
