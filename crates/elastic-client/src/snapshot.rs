//! Opening and closing a snapshot.
//!
//! Owns: the requests that hold one state of the indices, and what slices it is read in.
//! Must not know: columns or pages.

use crate::connection::Connection;
use crate::error::Error;
use crate::held::Held;
use crate::index_name::check_index;
use crate::paths;
use crate::request::{Method, Request};
use crate::server::{SnapshotSupport, fetch_json, fetch_server};
use crate::slices::{Cut, IndexShards, MAX_SLICES, Slice, SliceSource, Sort, plan_cuts};
use serde_json::Value;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// How to read, by option `read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReadMode {
    /// A point in time where the server has one, else scroll.
    #[default]
    Auto,
    /// A point in time, or an error.
    Pit,
    /// Sliced scroll: not a snapshot.
    Scroll,
}

/// What holds the state that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotKind {
    /// One PIT over all indices.
    SharedPit,
    /// One PIT an index.
    PitPerIndex,
    /// A scroll a slice, each opened when it is read.
    Scroll,
}

impl SnapshotKind {
    /// As the coverage names it.
    pub fn describe(self) -> &'static str {
        match self {
            Self::SharedPit => "point in time",
            Self::PitPerIndex => "point in time per index",
            Self::Scroll => "scroll (not a snapshot)",
        }
    }
}

/// What is to be held.
#[derive(Clone, Debug)]
pub struct SnapshotRequest {
    /// Name, pattern, alias, or several with commas.
    pub index: String,
    /// How.
    pub read: ReadMode,
    /// How long the server keeps it after each page.
    pub keep_alive: Duration,
    /// Slices wanted; as many as shards if none.
    pub slices: Option<NonZeroU32>,
}

/// A snapshot that is open on the server.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What holds it.
    pub kind: SnapshotKind,
    /// All of its slices, as many as were asked for when it was opened.
    pub slices: Vec<Slice>,
    parts: Vec<Part>,
}

/// What is cut into slices by itself: an index, or all that one point in time spans.
#[derive(Clone, Debug)]
struct Part {
    index: IndexShards,
    source: SliceSource,
}

impl Snapshot {
    fn new(kind: SnapshotKind, parts: Vec<Part>, slices: Option<NonZeroU32>) -> Self {
        let slices = cut(kind, &parts, slices);
        Self { kind, slices, parts }
    }

    /// The same state in other slices: the same search contexts, as many slices as are wanted here.
    pub fn sliced(&self, slices: Option<NonZeroU32>) -> Vec<Slice> {
        cut(self.kind, &self.parts, slices)
    }

    /// Each point in time by its id, with the index it is of.
    pub(crate) fn pits(&self) -> Vec<(&str, &str)> {
        let pits = self.parts.iter().filter_map(|part| match &part.source {
            SliceSource::Pit { id, .. } => Some((id.as_str(), part.index.index.as_str())),
            SliceSource::Scroll => None,
        });
        pits.collect()
    }

    fn held(&self) -> Vec<Held> {
        let ids = self.pits().into_iter().map(|(id, _)| id.to_owned());
        match self.kind {
            SnapshotKind::SharedPit => ids.map(Held::SharedPit).collect(),
            SnapshotKind::PitPerIndex => ids.map(Held::IndexPit).collect(),
            SnapshotKind::Scroll => Vec::new(),
        }
    }
}

/// A duration as the servers write it.
pub(crate) fn keep_alive_text(keep_alive: Duration) -> String {
    format!("{}ms", keep_alive.as_millis().max(1000))
}

/// The concrete indices behind a name with the shards that it reaches, sorted by name.
pub async fn fetch_shards(connection: &Connection, index: &str) -> Result<Vec<IndexShards>, Error> {
    let what = format!("find the shards of index \"{index}\"");
    let path = paths::search_shards(index)?;
    let body = fetch_json(connection, Request::new(Method::Get, path, &what)).await?;
    let Some(groups) = body["shards"].as_array() else {
        return Err(Error::Protocol { what, detail: "no \"shards\"".into() });
    };
    let mut indices: Vec<IndexShards> = Vec::new();
    for group in groups {
        let Some(name) = group[0]["index"].as_str() else {
            return Err(Error::Incomplete { what, detail: "a shard has no started copy".into() });
        };
        match indices.iter_mut().find(|i| i.index == name) {
            Some(known) => known.shards += 1,
            None => {
                let filter = body["indices"][name].get("filter").cloned();
                indices.push(IndexShards { index: name.to_owned(), shards: 1, filter });
            }
        }
    }
    if indices.is_empty() {
        return Err(Error::Refused(format!(
            "{what}: no index of connection \"{}\" that this user may see has that name",
            connection.name()
        )));
    }
    indices.sort_by(|a, b| a.index.cmp(&b.index));
    Ok(indices)
}

/// Opens a snapshot. Whoever opens it closes it by [`close_snapshot`]; the server drops it when it
/// was not read for `keep_alive`.
pub async fn open_snapshot(
    connection: &Arc<Connection>,
    request: &SnapshotRequest,
) -> Result<Snapshot, Error> {
    check_index(&request.index)?;
    let server = fetch_server(connection).await?;
    let indices = fetch_shards(connection, &request.index).await?;
    let support = match (request.read, server.snapshot_support()) {
        (ReadMode::Scroll, _) => SnapshotSupport::ScrollOnly,
        (ReadMode::Pit, SnapshotSupport::ScrollOnly) => {
            return Err(Error::Refused(format!(
                "index \"{}\": read = \"pit\", but this server has no sliced point in time; use read = \"scroll\"",
                request.index
            )));
        }
        (ReadMode::Auto | ReadMode::Pit, support) => support,
    };
    match support {
        SnapshotSupport::SharedPit => open_shared_pit(connection, request, &indices).await,
        SnapshotSupport::PitPerIndex => {
            refuse_routing(connection, request, &indices).await?;
            open_pit_per_index(connection, request, &indices).await
        }
        SnapshotSupport::ScrollOnly => {
            refuse_routing(connection, request, &indices).await?;
            Ok(plan_scrolls(request, &indices))
        }
    }
}

/// These reads name each concrete index, and so lose the routing of an alias: they would return
/// rows that the alias does not hold. An alias's filter they keep.
async fn refuse_routing(
    connection: &Connection,
    request: &SnapshotRequest,
    indices: &[IndexShards],
) -> Result<(), Error> {
    for reached in indices {
        if reached.index == request.index {
            continue;
        }
        let whole: u32 = fetch_shards(connection, &reached.index).await?.iter().map(|i| i.shards).sum();
        if whole != reached.shards {
            return Err(Error::Refused(format!(
                "index \"{}\": an alias with routing reaches {} of {whole} shards of \"{}\", which only a \
                 point in time of Elasticsearch can read; name the index itself, with a filter",
                request.index, reached.shards, reached.index
            )));
        }
    }
    Ok(())
}

async fn open_shared_pit(
    connection: &Arc<Connection>,
    request: &SnapshotRequest,
    indices: &[IndexShards],
) -> Result<Snapshot, Error> {
    let what = format!("open a point in time on index \"{}\"", request.index);
    let open = Request::new(Method::Post, paths::open_pit(&request.index)?, &what)
        .with_param("keep_alive", keep_alive_text(request.keep_alive));
    let (_, id) = open_held(connection, open, "id", Held::SharedPit).await?;
    let shards: u32 = indices.iter().map(|i| i.shards).sum();
    let index = IndexShards { index: request.index.clone(), shards, filter: None };
    let part = Part { index, source: SliceSource::Pit { id, sort: Sort::ShardDoc } };
    Ok(Snapshot::new(SnapshotKind::SharedPit, vec![part], request.slices))
}

async fn open_pit_per_index(
    connection: &Arc<Connection>,
    request: &SnapshotRequest,
    indices: &[IndexShards],
) -> Result<Snapshot, Error> {
    let snapshot = Snapshot::new(SnapshotKind::PitPerIndex, Vec::new(), request.slices);
    let mut half = HalfOpen { connection, snapshot };
    for index in indices {
        match open_index_pit(connection, request, index).await {
            Ok(id) => {
                let source = SliceSource::Pit { id, sort: Sort::Doc };
                half.snapshot.parts.push(Part { index: index.clone(), source });
            }
            Err(e) => {
                close_snapshot(connection, &half.snapshot).await.unwrap_or_else(|close| {
                    tracing::warn!(%close, "a half-opened snapshot stays open until its keep_alive");
                });
                half.snapshot.parts.clear();
                return Err(e);
            }
        }
    }
    let parts = std::mem::take(&mut half.snapshot.parts);
    Ok(Snapshot::new(SnapshotKind::PitPerIndex, parts, request.slices))
}

/// Frees what is open of a snapshot if its rest is not waited for.
struct HalfOpen<'a> {
    connection: &'a Arc<Connection>,
    snapshot: Snapshot,
}

impl Drop for HalfOpen<'_> {
    fn drop(&mut self) {
        close_snapshot_soon(self.connection, &self.snapshot);
    }
}

async fn open_index_pit(
    connection: &Arc<Connection>,
    request: &SnapshotRequest,
    index: &IndexShards,
) -> Result<String, Error> {
    let what = format!("open a point in time on index \"{}\"", index.index);
    let path = paths::open_opensearch_pit(&index.index)?;
    let open = Request::new(Method::Post, path, &what)
        .with_param("keep_alive", keep_alive_text(request.keep_alive))
        .with_param("allow_partial_pit_creation", "false");
    let (body, id) = open_held(connection, open, "pit_id", Held::IndexPit).await?;
    let failed = body["_shards"]["failed"].as_u64();
    let total = body["_shards"]["total"].as_u64();
    if failed != Some(0) || total != Some(u64::from(index.shards)) {
        connection.free_soon(Held::IndexPit(id));
        let detail = format!("{total:?} shards with {failed:?} failed, of {}", index.shards);
        return Err(Error::Incomplete { what, detail });
    }
    Ok(id)
}

/// Opens one and records it, and goes on if the caller is dropped.
async fn open_held(
    connection: &Arc<Connection>,
    request: Request,
    key: &'static str,
    held: fn(String) -> Held,
) -> Result<(Value, String), Error> {
    let what = request.what.clone();
    let opening = {
        let connection = Arc::clone(connection);
        async move {
            let what = request.what.clone();
            let body = fetch_json(&connection, request).await?;
            let Some(id) = body[key].as_str().map(str::to_owned) else {
                return Err(Error::Protocol { what, detail: format!("no \"{key}\"") });
            };
            connection.held().add(held(id.clone()));
            Ok((body, id))
        }
    };
    let mut opening = Opening { connection, held, task: Some(connection.spawn_counted(opening)) };
    let Some(task) = &mut opening.task else { unreachable!("set above") };
    let opened = task.await;
    opening.task = None;
    opened.map_err(|e| Error::Protocol { what, detail: format!("the request was cancelled: {e}") })?
}

struct Opening<'a> {
    connection: &'a Arc<Connection>,
    held: fn(String) -> Held,
    task: Option<tokio::task::JoinHandle<Result<(Value, String), Error>>>,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let Some(task) = self.task.take() else { return };
        let (connection, held) = (Arc::clone(self.connection), self.held);
        self.connection.spawn_counted(async move {
            if let Ok(Ok((_, id))) = task.await {
                connection.free_soon(held(id));
            }
        });
    }
}

fn plan_scrolls(request: &SnapshotRequest, indices: &[IndexShards]) -> Snapshot {
    let parts = indices.iter().map(|index| Part { index: index.clone(), source: SliceSource::Scroll });
    Snapshot::new(SnapshotKind::Scroll, parts.collect(), request.slices)
}

fn cut(kind: SnapshotKind, parts: &[Part], wanted: Option<NonZeroU32>) -> Vec<Slice> {
    let indices: Vec<IndexShards> = parts.iter().map(|part| part.index.clone()).collect();
    let mut slices = Vec::new();
    for (part, max) in parts.iter().zip(plan_cuts(&indices, wanted)) {
        // The server's limit for one point in time, whose slices may span shards.
        let max = if kind == SnapshotKind::SharedPit { max.min(MAX_SLICES) } else { max };
        slices.extend((0..max).map(|id| Slice {
            ordinal: 0,
            of: 0,
            index: part.index.index.clone(),
            source: part.source.clone(),
            cut: (max > 1).then_some(Cut { id, max }),
            filter: part.index.filter.clone(),
        }));
    }
    let of = slices.len() as u32;
    for (ordinal, slice) in slices.iter_mut().enumerate() {
        slice.ordinal = ordinal as u32;
        slice.of = of;
    }
    slices
}

/// Frees what the server holds. One that is gone already is no error.
pub async fn close_snapshot(connection: &Connection, snapshot: &Snapshot) -> Result<(), Error> {
    let mut first = Ok(());
    for held in snapshot.held() {
        first = first.and(connection.free(&held).await);
    }
    first
}

/// Frees in the background, for whoever cannot wait.
pub fn close_snapshot_soon(connection: &Arc<Connection>, snapshot: &Snapshot) {
    for held in snapshot.held() {
        connection.free_soon(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_state_is_cut_into_whatever_slices_are_wanted() {
        let index = |name: &str, shards| IndexShards { index: name.into(), shards, filter: None };
        let part = |index, id: &str, sort| Part { index, source: SliceSource::Pit { id: id.into(), sort } };
        let shared =
            Snapshot::new(SnapshotKind::SharedPit, vec![part(index("a*", 3), "p", Sort::ShardDoc)], None);
        assert_eq!(shared.slices.len(), 3);
        assert_eq!(shared.sliced(NonZeroU32::new(2)), shared.slices);
        assert_eq!(shared.sliced(NonZeroU32::new(5000)).len(), 1024);
        let eight = shared.sliced(NonZeroU32::new(8));
        assert!(eight.iter().all(|slice| slice.source == shared.slices[0].source));
        assert_eq!(eight[7].cut, Some(Cut { id: 7, max: 8 }));
        let parts = vec![part(index("a1", 2), "p1", Sort::Doc), part(index("a2", 1), "p2", Sort::Doc)];
        let each = Snapshot::new(SnapshotKind::PitPerIndex, parts, None);
        assert_eq!(each.pits(), [("p1", "a1"), ("p2", "a2")]);
        let six = each.sliced(NonZeroU32::new(6));
        assert_eq!(six.iter().map(|slice| slice.index.as_str()).filter(|index| *index == "a1").count(), 4);
        assert_eq!((six[5].ordinal, six[5].of), (5, 6));
    }
}
