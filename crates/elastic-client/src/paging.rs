//! The number of rows of a page. Pure.
//!
//! Owns: fitting pages into memory by the size of previous pages. Must not know: requests.
//!
//! The size of a document is unknown before it is read. A slice has two pages in memory: the one in use and the next
//! one. While a page is decoded, its bytes are there beside its rows. So the first page of documents has one row. If the
//! documents are small, the pages grow to 10,000 rows in three steps: 1, 25, 625, 10,000.

/// The size of a page that the number of rows aims at, in bytes.
pub(crate) const TARGET_BYTES: usize = 8 << 20;
/// The largest page of more than one row, in bytes. A larger page is requested again with fewer rows.
pub(crate) const MAX_BYTES: usize = 64 << 20;
/// The largest growth of a page, as a factor. Documents may be small on one page and large on the next.
const GROWTH: u32 = 25;
/// The rows of the first page of doc values. With one keyword that is at most 32 MB. The server has the page in memory
/// too: 300 MB at once exhausted an OpenSearch node with 512 MB of heap.
const UNSEEN_DOC_VALUES: u32 = 1_000;

/// The number of rows of the next page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageSize {
    rows: u32,
    max: u32,
}

impl PageSize {
    /// Returns the size of the first page.
    pub(crate) fn first(max: u32, of_source: bool) -> Self {
        Self { rows: if of_source { 1 } else { max.min(UNSEEN_DOC_VALUES) }, max }
    }

    pub(crate) fn rows(self) -> u32 {
        self.rows
    }

    /// Returns whether the page has the largest size that is allowed.
    pub(crate) fn is_max(self) -> bool {
        self.rows == self.max
    }

    /// Returns this size with a new upper limit.
    pub(crate) fn at_most(self, max: u32) -> Self {
        Self { rows: self.rows.min(max), max: self.max.min(max) }
    }

    /// Returns the next size after a page with this many rows and bytes.
    pub(crate) fn after(self, rows: usize, bytes: usize) -> Self {
        let row_bytes = (bytes / rows.max(1)).max(1);
        let fitting = u32::try_from(TARGET_BYTES / row_bytes).unwrap_or(u32::MAX);
        let rows = fitting.min(self.rows.saturating_mul(GROWTH)).clamp(1, self.max);
        Self { rows, ..self }
    }

    /// Returns the next size after a page that was refused because it has this many bytes.
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
