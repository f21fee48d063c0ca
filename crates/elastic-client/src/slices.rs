//! The slices of a read. Pure.
//!
//! Owns: slice arithmetic. Must not know: requests.
//!
//! With as many slices as shards, each slice is one shard, which costs nothing. With more slices, the server divides
//! the shards. Fewer slices are never used: on OpenSearch, a slice over two shards silently skips rows when it is paged
//! by `search_after`. Instead, a partition reads several slices one after the other.

use serde_json::Value;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The servers' default for `index.max_slices_per_scroll` and `index.max_slices_per_pit`.
pub(crate) const MAX_SLICES: u32 = 1024;

/// The most partitions of a scan whose table sets no number. Each partition is a task with its own copy of the plan.
const MAX_PARTITIONS: usize = 256;

/// A concrete index of a search context, or a group of them.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexShards {
    /// The name of the index, or the names of the group, separated by commas.
    pub index: String,
    /// The number of shards that the requested index expression reaches.
    pub shards: u32,
    /// The filter of the alias in the requested index expression, if it has one.
    pub filter: Option<Value>,
}

/// The parameter `slice: {id, max}` of a search, for a part of a [sliced point in
/// time](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/point-in-time-api.html) or scroll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The number of the part, from 0.
    pub id: u32,
    /// The number of parts, at least 2.
    pub max: u32,
}

/// The sort key that makes the position of each row unique within a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiebreaker {
    /// `_shard_doc`: unique over all shards of a point in time (PIT) of Elasticsearch.
    ShardDoc,
    /// `_doc`: unique within one shard.
    Doc,
}

/// The search context of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SliceSource {
    /// A point in time.
    Pit {
        /// The id of the point in time when it was opened. The slices of one PIT share it, because it may have
        /// thousands of bytes.
        id: Arc<str>,
        /// The last sort key of each page.
        tiebreaker: Tiebreaker,
    },
    /// The slice's own scroll, opened when the slice is read.
    Scroll,
}

/// One slice of a search context, which one partition reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// The number of the slice over all indices, from 0.
    pub ordinal: u32,
    /// The number of slices over all indices.
    pub of: u32,
    /// The name of the index, or the requested index expression if one PIT spans several indices.
    pub index: String,
    /// The search context that the slice is read from.
    pub source: SliceSource,
    /// The part of the index on the server. `None` if the slice is a whole index.
    pub cut: Option<Cut>,
    /// The filter of an alias, if the server does not apply it itself.
    pub filter: Option<Value>,
}

impl Slice {
    /// Returns the name of the slice for errors and logs, such as `index "flows" slice 3/8`.
    pub fn describe(&self) -> String {
        format!("index \"{}\" slice {}/{}", self.index, self.number(), self.of)
    }

    /// Returns the number of the slice over all indices, from 1. It cannot overflow for any ordinal in a received plan.
    pub fn number(&self) -> u64 {
        u64::from(self.ordinal) + 1
    }
}

/// Returns the number of slices of each index: as many as its shards, or its share of `wanted` if that is more.
pub fn plan_cuts(indices: &[IndexShards], wanted: Option<NonZeroU32>) -> Vec<u32> {
    let total: u64 = indices.iter().map(|i| u64::from(i.shards)).sum();
    let wanted = wanted.map_or(0, |n| u64::from(n.get()));
    indices
        .iter()
        .map(|i| {
            let share = (wanted * u64::from(i.shards)).div_ceil(total.max(1));
            u32::try_from(share).unwrap_or(u32::MAX).max(i.shards).min(MAX_SLICES.max(i.shards))
        })
        .collect()
}

/// Distributes slices over at most `partitions` partitions, or 256 if `None`.
///
/// The slices keep their order. So the slices of one point in time are in few partitions, which reduces the copies of
/// its id.
pub fn group_slices(slices: Vec<Slice>, partitions: Option<NonZeroU32>) -> Vec<Vec<Slice>> {
    let max = partitions.map_or(MAX_PARTITIONS, |n| n.get() as usize);
    let count = max.min(slices.len()).max(1);
    let total = slices.len();
    let mut groups: Vec<Vec<Slice>> = vec![Vec::new(); count];
    for (i, slice) in slices.into_iter().enumerate() {
        groups[i * count / total].push(slice);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(counts: &[u32]) -> Vec<IndexShards> {
        counts
            .iter()
            .map(|&shards| IndexShards { index: format!("i{shards}"), shards, filter: None })
            .collect()
    }

    #[test]
    fn never_fewer_cuts_than_shards() {
        assert_eq!(plan_cuts(&shards(&[3]), None), [3]);
        assert_eq!(plan_cuts(&shards(&[3]), NonZeroU32::new(1)), [3]);
        assert_eq!(plan_cuts(&shards(&[3]), NonZeroU32::new(8)), [8]);
        assert_eq!(plan_cuts(&shards(&[3, 2, 1]), NonZeroU32::new(8)), [4, 3, 2]);
        assert_eq!(plan_cuts(&shards(&[1, 1]), NonZeroU32::new(5000)), [1024, 1024]);
    }

    #[test]
    fn a_slice_of_any_ordinal_can_be_named() {
        let slice = Slice {
            ordinal: u32::MAX,
            of: 1,
            index: "flows".into(),
            source: SliceSource::Scroll,
            cut: None,
            filter: None,
        };
        assert_eq!(slice.describe(), "index \"flows\" slice 4294967296/1");
    }

    #[test]
    fn every_slice_is_dealt_once() {
        let slice = |ordinal| Slice {
            ordinal,
            of: 7,
            index: "i".into(),
            source: SliceSource::Scroll,
            cut: None,
            filter: None,
        };
        let many = group_slices((0..1_000).map(slice).collect(), None);
        assert_eq!((many.len(), many.iter().map(Vec::len).sum()), (256, 1_000));
        for partitions in [1, 3, 7, 20] {
            let groups = group_slices((0..7).map(slice).collect(), NonZeroU32::new(partitions));
            assert_eq!(groups.len(), partitions.min(7) as usize);
            let mut seen: Vec<u32> = groups.iter().flatten().map(|s| s.ordinal).collect();
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
            let sizes = groups.iter().map(Vec::len);
            assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1, "{groups:?}");
        }
    }
}
