//! What a response tells about its own rows. Pure.
//!
//! Owns: the reasons why rows may be missing in a response. Must not know: how it was requested, or other responses.

use super::Envelope;

/// Whether a response may say that the server ended the search early.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EarlyEnd {
    /// Rows may be missing.
    Refused,
    /// It means that the page is full. Elasticsearch 7 says so on every page of a scroll after the first. The total of
    /// the first page verifies the rows in any case.
    FullPage,
}

/// Returns why rows may be missing in a response to a request for `asked` rows, or `None` if it is complete.
pub(super) fn incompleteness(page: &Envelope, asked: u32, early_end: EarlyEnd) -> Option<String> {
    if !page.complete {
        return Some("_shards or timed_out is missing".into());
    }
    if page.timed_out {
        return Some("the server timed out and returned partial results".into());
    }
    if page.terminated_early && early_end == EarlyEnd::Refused {
        return Some("the server ended the search early and returned partial results".into());
    }
    if page.clusters_incomplete > 0 {
        let clusters = page.clusters_incomplete;
        return Some(format!("{clusters} remote clusters returned partial or no results"));
    }
    if page.shards_failed > 0 {
        let reason = page.shard_failure.as_deref().unwrap_or("no reason given");
        return Some(format!("{} shards failed: {reason}", page.shards_failed));
    }
    if page.shards_total == Some(0) {
        return Some("the server searched no shard, as for a frozen index; unfreeze the index".into());
    }
    // Otherwise a duplicate row could hide a missing one.
    if page.hits > asked as usize {
        return Some(format!("{} rows on a page of at most {asked}", page.hits));
    }
    None
}
