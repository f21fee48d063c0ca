//! Opening and closing a search context.
//!
//! Owns: the choice of the kind of search context, and its division into slices.
//! Must not know: columns or pages.

use crate::connection::Connection;
use crate::error::Error;
use crate::index_name::check_index;
use crate::matching::fetch_matching;
use crate::open_contexts::OpenContext;
use crate::opening::{PitApi, open_pits};
use crate::pit_limit;
use crate::product::PitSupport;
use crate::read_options::{ReadMode, ReadOptions};
use crate::server::fetch_server;
use crate::shards::{Reached, fetch_reached, find_routed, group_indices};
use crate::slices::{Cut, IndexShards, MAX_SLICES, Slice, SliceSource, Tiebreaker, plan_cuts};
use serde_json::Value;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The most shards that one PIT of Elasticsearch spans. The id of a PIT grows with its shards. Each page's request
/// contains the id and reaches all shards, so the cost of a read grows with the square of the shards.
const SHARED_SHARDS: u32 = 128;
/// The most shards of a group of indices that share a PIT, if the index expression reaches more than [`SHARED_SHARDS`].
const GROUP_SHARDS: u32 = 16;

/// The kind of a search context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextKind {
    /// One PIT over all indices
    /// ([Elasticsearch](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/point-in-time-api.html)).
    SharedPit,
    /// One PIT for each group of indices.
    PitPerGroup,
    /// One PIT for each index
    /// ([OpenSearch](https://docs.opensearch.org/latest/search-plugins/searching-data/point-in-time-api/)).
    PitPerIndex,
    /// One [scroll](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/scroll-api.html) for each slice, opened
    /// when the slice is read.
    Scroll,
}

impl ContextKind {
    /// Returns a phrase for users, such as "point in time per index".
    pub fn describe(self) -> &'static str {
        match self {
            Self::SharedPit => "point in time",
            Self::PitPerGroup => "point in time per group of indices",
            Self::PitPerIndex => "point in time per index",
            Self::Scroll => "scroll",
        }
    }

    /// Returns the consistency of a read: `point_in_time` or `scroll`.
    ///
    /// With `point_in_time`, all slices of an index see the same state. With `scroll`, each slice sees the state at the
    /// time when its scroll was opened.
    pub fn consistency(self) -> &'static str {
        match self {
            Self::SharedPit | Self::PitPerGroup | Self::PitPerIndex => "point_in_time",
            Self::Scroll => "scroll",
        }
    }
}

/// The parameters of a search context.
#[derive(Clone, Debug)]
pub struct ContextRequest {
    /// An index expression: names, patterns, aliases or date math, separated by commas.
    pub index: String,
    /// The options of every read from the context.
    pub read: ReadOptions,
    /// The number of slices. `None` makes as many slices as there are shards.
    pub slices: Option<NonZeroU32>,
    /// A query that finds every document of which a reader needs to know. Indices in which it finds none are skipped,
    /// if the server proves that.
    pub matching: Option<Value>,
}

/// An open search context: one or more points in time, or the plan of the scrolls.
#[derive(Clone, Debug)]
pub struct SearchContext {
    /// The kind of the context.
    pub kind: ContextKind,
    /// All slices, as many as [`ContextRequest::slices`] asked for.
    pub slices: Vec<Slice>,
    /// The number of indices that were skipped, because [`ContextRequest::matching`] finds no document in them.
    pub skipped_indices: usize,
    parts: Vec<Part>,
}

/// A part of the context with its own slices: an index, or all indices that one point in time spans.
#[derive(Clone, Debug)]
struct Part {
    index: IndexShards,
    source: SliceSource,
}

impl SearchContext {
    fn new(kind: ContextKind, parts: Vec<Part>, slices: Option<NonZeroU32>) -> Self {
        let slices = cut(kind, &parts, slices);
        Self { kind, slices, skipped_indices: 0, parts }
    }

    /// Returns the same search context divided into another number of slices. `None` makes as many as there are shards.
    pub fn sliced(&self, slices: Option<NonZeroU32>) -> Vec<Slice> {
        cut(self.kind, &self.parts, slices)
    }

    /// Returns the id of each point in time, with its index expression.
    pub(crate) fn pits(&self) -> Vec<(&str, &str)> {
        let pits = self.parts.iter().filter_map(|part| match &part.source {
            SliceSource::Pit { id, .. } => Some((id.as_ref(), part.index.index.as_str())),
            SliceSource::Scroll => None,
        });
        pits.collect()
    }

    fn open_contexts(&self) -> Vec<OpenContext> {
        let ids = self.pits().into_iter().map(|(id, _)| id.to_owned());
        match self.kind {
            ContextKind::SharedPit | ContextKind::PitPerGroup => ids.map(OpenContext::SharedPit).collect(),
            ContextKind::PitPerIndex => ids.map(OpenContext::IndexPit).collect(),
            ContextKind::Scroll => Vec::new(),
        }
    }
}

/// Opens a search context. The caller closes it with [`close_context`]. The server drops a context that was not read
/// for `keep_alive`.
///
/// # Errors
///
/// If the server refuses a request, or if it does not support the [`ReadMode`] for this index.
pub async fn open_context(
    connection: &Arc<Connection>,
    request: &ContextRequest,
) -> Result<SearchContext, Error> {
    check_index(&request.index)?;
    let fetched =
        futures::future::join(fetch_server(connection), fetch_reached(connection, &request.index)).await;
    let (server, reached) = (fetched.0?, fetched.1?);
    let support = match (request.read.mode, server.pit_support()) {
        (ReadMode::Scroll, _) => PitSupport::ScrollOnly,
        (ReadMode::Pit, PitSupport::ScrollOnly) => {
            return Err(Error::Refused(format!(
                "index \"{}\": read = \"pit\", but this server has no sliced point in time; use read = \"scroll\"",
                request.index
            )));
        }
        (ReadMode::Auto | ReadMode::Pit, support) => support,
    };
    let matching = async {
        match &request.matching {
            Some(query) => fetch_matching(connection, &request.index, &reached, query).await,
            None => Ok(None),
        }
    };
    let routing = async {
        match support {
            PitSupport::SharedPit => Ok(()),
            PitSupport::PitPerIndex | PitSupport::ScrollOnly => {
                refuse_routing(connection, request, &reached.indices).await
            }
        }
    };
    let (matching, ()) = futures::future::try_join(matching, routing).await?;
    let read = matching.as_ref().unwrap_or(&reached);
    let context = match (support, &matching) {
        (PitSupport::SharedPit, Some(some)) => open_some(connection, request, some).await?,
        (PitSupport::SharedPit, None) => None,
        (PitSupport::PitPerIndex, _) => Some(open_pit_per_index(connection, request, read).await?),
        (PitSupport::ScrollOnly, _) => Some(plan_scrolls(request, &read.indices)),
    };
    match context {
        Some(context) => {
            let skipped_indices = reached.indices.len() - read.indices.len();
            Ok(SearchContext { skipped_indices, ..context })
        }
        None => open_shared_pits(connection, request, &reached).await,
    }
}

/// Refuses an alias with routing. Requests to the concrete indices keep the filter of an alias but lose its routing, so
/// they would return rows that the alias excludes.
async fn refuse_routing(
    connection: &Connection,
    request: &ContextRequest,
    indices: &[IndexShards],
) -> Result<(), Error> {
    match find_routed(connection, &request.index, indices).await? {
        None => Ok(()),
        Some((routed, whole)) => Err(Error::Refused(format!(
            "index \"{}\": an alias with routing reaches {} of {whole} shards of \"{}\", which only a \
             point in time of Elasticsearch can read; name the index itself and add a filter",
            request.index, routed.shards, routed.index
        ))),
    }
}

/// Opens one PIT over the requested index expression, or above [`SHARED_SHARDS`] shards one for each group of indices.
async fn open_shared_pits(
    connection: &Arc<Connection>,
    request: &ContextRequest,
    reached: &Reached,
) -> Result<SearchContext, Error> {
    if reached.shards() > u64::from(SHARED_SHARDS)
        && reached.indices.len() > 1
        && find_routed(connection, &request.index, &reached.indices).await?.is_none()
    {
        return open_groups(connection, request, group_indices(&reached.indices, GROUP_SHARDS)).await;
    }
    let shards = reached.indices.iter().map(|index| index.shards).sum();
    let whole = IndexShards { index: request.index.clone(), shards, filter: None };
    open_groups(connection, request, vec![whole]).await
}

/// Opens PITs over some of the indices that the requested index expression reaches. Returns `None` if only the
/// expression itself can be read: an alias may have routing, and a user may see an alias but not its indices.
async fn open_some(
    connection: &Arc<Connection>,
    request: &ContextRequest,
    some: &Reached,
) -> Result<Option<SearchContext>, Error> {
    if find_routed(connection, &request.index, &some.indices).await?.is_some() {
        return Ok(None);
    }
    let shards = if some.shards() > u64::from(SHARED_SHARDS) { GROUP_SHARDS } else { SHARED_SHARDS };
    match open_groups(connection, request, group_indices(&some.indices, shards)).await {
        Ok(context) => Ok(Some(context)),
        Err(error) if matches!(error.status(), Some(403 | 404)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens one PIT for each group of indices.
async fn open_groups(
    connection: &Arc<Connection>,
    request: &ContextRequest,
    groups: Vec<IndexShards>,
) -> Result<SearchContext, Error> {
    let kind = if groups.len() == 1 { ContextKind::SharedPit } else { ContextKind::PitPerGroup };
    let ids = open_pits(connection, request.read.keep_alive, PitApi::Elasticsearch, &groups).await?;
    let parts = groups.into_iter().zip(ids).map(|(group, id)| Part {
        // A group may have hundreds of names, which would be too long for messages.
        index: IndexShards { index: request.index.clone(), ..group },
        source: SliceSource::Pit { id, tiebreaker: Tiebreaker::ShardDoc },
    });
    Ok(SearchContext::new(kind, parts.collect(), request.slices))
}

/// Opens one PIT for each index. If the server allows fewer PITs than there are shards, plans scrolls for all indices
/// instead, or fails with `read = "pit"`. The decision holds for every table of the query, before the first read.
async fn open_pit_per_index(
    connection: &Arc<Connection>,
    request: &ContextRequest,
    reached: &Reached,
) -> Result<SearchContext, Error> {
    let limit = pit_limit::find_exceeded(connection, reached).await;
    if limit.is_none() {
        match open_pits(connection, request.read.keep_alive, PitApi::OpenSearch, &reached.indices).await {
            Ok(ids) => {
                let parts = reached.indices.iter().zip(ids).map(|(index, id)| Part {
                    index: index.clone(),
                    source: SliceSource::Pit { id, tiebreaker: Tiebreaker::Doc },
                });
                return Ok(SearchContext::new(ContextKind::PitPerIndex, parts.collect(), request.slices));
            }
            Err(error) if pit_limit::is_exceeded(&error) => {}
            Err(error) => return Err(error),
        }
    }
    if request.read.mode == ReadMode::Pit {
        return Err(pit_limit::refused(&request.index, reached, limit));
    }
    tracing::warn!(
        index = request.index,
        shards = reached.shards(),
        setting = pit_limit::SETTING,
        "read by scroll: the server allows fewer open points in time than there are shards"
    );
    Ok(plan_scrolls(request, &reached.indices))
}

fn plan_scrolls(request: &ContextRequest, indices: &[IndexShards]) -> SearchContext {
    let parts = indices.iter().map(|index| Part { index: index.clone(), source: SliceSource::Scroll });
    SearchContext::new(ContextKind::Scroll, parts.collect(), request.slices)
}

fn cut(kind: ContextKind, parts: &[Part], wanted: Option<NonZeroU32>) -> Vec<Slice> {
    let indices: Vec<IndexShards> = parts.iter().map(|part| part.index.clone()).collect();
    let mut slices = Vec::new();
    for (part, max) in parts.iter().zip(plan_cuts(&indices, wanted)) {
        // The server limits the slices of one point in time, and a slice of a shared one may span shards.
        let max = match kind {
            ContextKind::SharedPit | ContextKind::PitPerGroup => max.min(MAX_SLICES),
            ContextKind::PitPerIndex | ContextKind::Scroll => max,
        };
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

/// Closes a search context. It is not an error if the server has already dropped it.
///
/// # Errors
///
/// If the server refuses or does not respond. Then the server drops the context after `keep_alive`.
pub async fn close_context(connection: &Arc<Connection>, context: &SearchContext) -> Result<(), Error> {
    connection.free_all(context.open_contexts()).await
}

/// Closes a search context in the background. Failures are logged.
pub fn close_context_soon(connection: &Arc<Connection>, context: &SearchContext) {
    connection.free_all_soon(context.open_contexts());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_state_is_cut_into_whatever_slices_are_wanted() {
        let index = |name: &str, shards| IndexShards { index: name.into(), shards, filter: None };
        let part = |index, id: &str, tiebreaker| Part {
            index,
            source: SliceSource::Pit { id: id.into(), tiebreaker },
        };
        let shared = SearchContext::new(
            ContextKind::SharedPit,
            vec![part(index("a*", 3), "p", Tiebreaker::ShardDoc)],
            None,
        );
        assert_eq!(shared.slices.len(), 3);
        assert_eq!(shared.sliced(NonZeroU32::new(2)), shared.slices);
        assert_eq!(shared.sliced(NonZeroU32::new(5000)).len(), 1024);
        let eight = shared.sliced(NonZeroU32::new(8));
        assert!(eight.iter().all(|slice| slice.source == shared.slices[0].source));
        assert_eq!(eight[7].cut, Some(Cut { id: 7, max: 8 }));
        let parts =
            vec![part(index("a1", 2), "p1", Tiebreaker::Doc), part(index("a2", 1), "p2", Tiebreaker::Doc)];
        let each = SearchContext::new(ContextKind::PitPerIndex, parts, None);
        assert_eq!(each.pits(), [("p1", "a1"), ("p2", "a2")]);
        let six = each.sliced(NonZeroU32::new(6));
        assert_eq!(six.iter().map(|slice| slice.index.as_str()).filter(|index| *index == "a1").count(), 4);
        assert_eq!((six[5].ordinal, six[5].of), (5, 6));
    }
}
