//! How many rows a page has. Pure.
//!
//! Owns: fitting a page to memory by what was seen. Must not know: requests.
//!
//! Nobody knows the size of a document beforehand, and a slice holds two pages: the one that is
//! used and the next. So a page of documents starts at one row, and grows to ten thousand in three
//! steps where they are small: 1, 25, 625, 10,000.

/// A page is kept near this many bytes.
pub(crate) const TARGET_BYTES: usize = 8 << 20;
/// A larger page of more than one row is not taken; it is asked for again with fewer.
pub(crate) const MAX_BYTES: usize = 64 << 20;
/// What is small on one page may be large on the next, so that it is never trusted for more.
const GROWTH: u32 = 25;
/// Rows of doc values that are asked for unseen: of one keyword, at most 32 MB. The server holds such
/// a page too; 300 MB at once ended an OpenSearch of 512 MB.
const UNSEEN_DOC_VALUES: u32 = 1_000;

/// The rows of the next page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageSize {
    rows: u32,
    max: u32,
}

impl PageSize {
    /// Before anything was seen.
    pub(crate) fn first(max: u32, of_source: bool) -> Self {
        Self { rows: if of_source { 1 } else { max.min(UNSEEN_DOC_VALUES) }, max }
    }

    pub(crate) fn rows(self) -> u32 {
        self.rows
    }

    /// Whether as many as may be are asked for already.
    pub(crate) fn is_max(self) -> bool {
        self.rows == self.max
    }

    /// Where more than `max` are of no use any more.
    pub(crate) fn at_most(self, max: u32) -> Self {
        Self { rows: self.rows.min(max), max: self.max.min(max) }
    }

    /// After a page of `rows` that had `bytes`.
    pub(crate) fn after(self, rows: usize, bytes: usize) -> Self {
        let row_bytes = (bytes / rows.max(1)).max(1);
        let fitting = u32::try_from(TARGET_BYTES / row_bytes).unwrap_or(u32::MAX);
        let rows = fitting.min(self.rows.saturating_mul(GROWTH)).clamp(1, self.max);
        Self { rows, ..self }
    }

    /// After a page that was not taken at `bytes`.
    pub(crate) fn after_too_large(self, bytes: usize) -> Self {
        let fitting = u64::from(self.rows) * TARGET_BYTES as u64 / bytes.max(1) as u64;
        let rows = u32::try_from(fitting).unwrap_or(u32::MAX).min(self.rows / 2).max(1);
        Self { rows, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_documents_have_full_pages_after_three_and_large_ones_never_more_than_one() {
        let mut size = PageSize::first(10_000, true);
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(size.rows());
            size = size.after(size.rows() as usize, size.rows() as usize * 300);
        }
        assert_eq!(seen, [1, 25, 625, 10_000, 10_000]);
        assert_eq!(PageSize::first(10_000, true).after(1, 20 << 20).rows(), 1);
        let doc_values = PageSize::first(10_000, false);
        assert_eq!(doc_values.rows(), 1_000);
        assert_eq!(doc_values.after(1_000, 100_000).rows(), 10_000);
        assert_eq!(doc_values.after(1_000, 32 << 20).rows(), 250);
        assert_eq!(PageSize::first(10, false).rows(), 10);
    }

    #[test]
    fn a_page_that_was_too_large_shrinks_by_what_it_had_and_at_least_to_a_half() {
        let size = PageSize::first(10_000, false).after(1_000, 1_000);
        assert_eq!(size.after_too_large(320 << 20).rows(), 250);
        assert_eq!(size.after_too_large(1).rows(), 5_000);
        assert_eq!(PageSize::first(2, false).after_too_large(usize::MAX).rows(), 1);
    }
}
