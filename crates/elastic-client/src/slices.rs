//! Which slices a read is made of. Pure.
//!
//! Owns: slice arithmetic. Must not know: requests.
//!
//! With as many slices as shards a slice is a shard, which costs nothing. More slices cut within a
//! shard. Fewer are never asked for: on OpenSearch a slice over two shards skips rows in silence
//! when it is paged by `search_after`; instead a partition reads several slices in turn.

use serde_json::Value;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The servers' default for `index.max_slices_per_scroll` and `index.max_slices_per_pit`.
pub(crate) const MAX_SLICES: u32 = 1024;

/// Partitions of a scan whose table does not say how many: each is a task with a plan of its own.
const MAX_PARTITIONS: usize = 256;

/// One concrete index of a search context.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexShards {
    /// Its name.
    pub index: String,
    /// How many shards the name that was asked for reaches.
    pub shards: u32,
    /// The filter of the alias it was reached by.
    pub filter: Option<Value>,
}

/// `slice: {id, max}` of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Which.
    pub id: u32,
    /// Of how many; above 1.
    pub max: u32,
}

/// The sort that is unique within a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiebreaker {
    /// `_shard_doc`: unique over all shards of an Elasticsearch PIT.
    ShardDoc,
    /// `_doc`: unique within one shard.
    Doc,
}

/// What a slice is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SliceSource {
    /// A point in time.
    Pit {
        /// Its id, as opened. Slices of one PIT share it: it may have thousands of bytes.
        id: Arc<str>,
        /// How its pages are ordered.
        tiebreaker: Tiebreaker,
    },
    /// A scroll of its own, opened when the slice is read.
    Scroll,
}

/// One slice of a search context, which one partition reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// Which, from 0, over all indices.
    pub ordinal: u32,
    /// Of how many.
    pub of: u32,
    /// The index, or the name that was asked for where one PIT spans all.
    pub index: String,
    /// What it is read from.
    pub source: SliceSource,
    /// The server-side cut; none where the slice is a whole index.
    pub cut: Option<Cut>,
    /// An alias's filter, where the server does not apply it by itself.
    pub filter: Option<Value>,
}

impl Slice {
    /// As errors name it.
    pub fn describe(&self) -> String {
        format!("index \"{}\" slice {}/{}", self.index, self.number(), self.of)
    }

    /// Which, from 1. Whatever arrived as a slice has one.
    pub fn number(&self) -> u64 {
        u64::from(self.ordinal) + 1
    }
}

/// How many cuts each index gets: its shards, or its share of `wanted` where that is more.
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

/// Deals slices onto at most `partitions` partitions, or 256 if none is said, in their order: the
/// slices of one PIT come to few partitions, which carry its id.
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
