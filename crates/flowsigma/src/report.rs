//! The report of `detect`: findings, statistics and coverage.
//!
//! Owns: its form, and the proof that every matching document was read. Must not know: how findings are computed.

use crate::counts::Decided;
use crate::kept::Window;
use crate::output::{Format, print, table};
use crate::run::Done;
use crate::scope::Scope;
use anyhow::bail;
use comfy_table::Table;
use elastic_client::ContextKind;
use flow_detect::{ColumnStatistics, Detection, Sigma};
use indicatif::HumanCount;
use serde::Serialize;

/// What was read, compared with what the servers counted.
#[derive(Debug, Serialize)]
pub(crate) struct Coverage {
    /// The number of documents read.
    documents: u64,
    /// The number of documents that the servers counted for the query sent.
    matched: u64,
    /// The number of slices in which they were read.
    slices: usize,
    /// The number of those slices whose counts the servers computed, instead of sending the documents.
    aggregated_slices: u64,
    /// The number of indices of the pattern or alias that were not read, because no document in them matches.
    skipped_indices: usize,
    /// `point_in_time`: one state of each index. `scroll`: one state of each slice. None if only files were read.
    consistency: Option<&'static str>,
    /// The search context in words, for the sentence under the tables.
    #[serde(skip)]
    read_from: &'static str,
    /// Always 0, because a failed shard fails the job.
    failed_shards: u64,
    /// The number of requests that were sent again.
    retries: u64,
}

impl Coverage {
    /// Returns the coverage of counts that were kept: the documents of their windows.
    pub(crate) fn of_store(documents: u64) -> Self {
        Self {
            documents,
            matched: documents,
            slices: 0,
            aggregated_slices: 0,
            skipped_indices: 0,
            consistency: None,
            read_from: "a store",
            failed_shards: 0,
            retries: 0,
        }
    }

    /// Returns the coverage of a job. One scan counts both directions; if a statement has several, the greatest is what was
    /// covered.
    ///
    /// # Errors
    ///
    /// If a scan read more or fewer documents or slices than the servers counted and the plan has.
    pub(crate) fn of(done: &Done, is_index: bool) -> anyhow::Result<Self> {
        let Some(greatest) = done.scans.iter().max_by_key(|scan| scan.matched) else {
            bail!("the scheduler reported no scan, so it is not proved that every document was read");
        };
        if let Some(scan) = done.scans.iter().find(|scan| scan.documents != scan.matched) {
            bail!("{} documents were read of {} that match", scan.documents, scan.matched);
        }
        // A slice that no task read is missing from both `documents` and `matched`.
        if let Some(scan) = done.scans.iter().find(|scan| scan.slices_read != scan.slices) {
            bail!("a scan has {} slices, and {} were read to their end", scan.slices, scan.slices_read);
        }
        let read: u64 = done.scans.iter().map(|scan| scan.slices_read).sum();
        if read != done.planned_slices {
            bail!("the scans of the plan have {} slices, and {read} were read", done.planned_slices);
        }
        Ok(Self {
            documents: greatest.documents,
            matched: greatest.matched,
            slices: if is_index { done.slices } else { 0 },
            aggregated_slices: done.scans.iter().map(|scan| scan.slices_aggregated).sum(),
            skipped_indices: done.skipped_indices,
            consistency: done.kind.map(ContextKind::consistency),
            read_from: done.kind.map_or("files", ContextKind::describe),
            failed_shards: 0,
            retries: done.scans.iter().map(|scan| scan.retries).sum(),
        })
    }

    /// Returns the number of documents that were read.
    pub(crate) fn documents(&self) -> u64 {
        self.documents
    }

    fn sentence(&self) -> String {
        let mut text =
            format!("{} of {} documents read", HumanCount(self.documents), HumanCount(self.matched));
        if self.slices > 0 {
            text += &format!(" in {} slices of a {}", self.slices, self.read_from);
        } else {
            text += &format!(" from {}", self.read_from);
        }
        match self.aggregated_slices {
            0 => {}
            all if all == self.slices as u64 => text += ", counted by the server",
            some => text += &format!(", {some} of them counted by the server"),
        }
        match self.skipped_indices {
            0 => {}
            1 => text += ", 1 index without a matching document skipped",
            more => text += &format!(", {more} indices without a matching document skipped"),
        }
        if self.retries > 0 {
            text += &format!(", {} requests sent again", self.retries);
        }
        text
    }
}

/// The report, in the form that `--format json` prints.
#[derive(Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    detection: Detection,
    coverage: Coverage,
    scope: Scope,
    /// Reasons why the findings decide less than they seem to. Most often there are none.
    warnings: Vec<Warning>,
    /// The window whose counts are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<Window>,
    /// The windows of a store that were decided together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    windows: Vec<Window>,
}

/// A reason not to rely on the findings alone.
#[derive(Serialize)]
struct Warning {
    /// A stable name for programs.
    code: &'static str,
    message: String,
}

/// What limits a decision, besides the counts.
pub(crate) struct Limits {
    pub(crate) sigma: Sigma,
    /// The share of the documents that was read. None means all of them.
    pub(crate) share: Option<f64>,
    /// A finding has at least so many flows.
    pub(crate) minimum_count: u64,
}

impl Report {
    pub(crate) fn new(decided: Decided, coverage: Coverage, scope: Scope, limits: &Limits) -> Self {
        let Decided { detection, hidden } = decided;
        let mut of_detection = detection.warnings(limits.sigma);
        if let Some(share) = limits.share {
            of_detection.extend(detection.sample_warnings(limits.sigma, share, limits.minimum_count));
        }
        of_detection.extend(flow_detect::Warning::masking(&hidden, scope.peel));
        let mut warnings: Vec<_> = of_detection
            .iter()
            .map(|warning| Warning { code: warning.code(), message: warning.to_string() })
            .collect();
        if detection.statistics.outgoing.count == 0 {
            warnings.push(Warning { code: "no_documents", message: scope.nothing_found() });
        }
        Self { detection, coverage, scope, warnings, window: None, windows: Vec::new() }
    }

    /// Returns the report with the window whose counts are kept.
    pub(crate) fn with_window(self, window: Window) -> Self {
        Self { window: Some(window), ..self }
    }

    /// Returns the report with the windows of a store that were decided together.
    pub(crate) fn with_windows(self, windows: Vec<Window>) -> Self {
        Self { windows, ..self }
    }

    pub(crate) fn detection(&self) -> &Detection {
        &self.detection
    }

    pub(crate) fn print(&self, format: Format) -> anyhow::Result<()> {
        match format {
            Format::Json => print(&format!("{}\n", serde_json::to_string(self)?))?,
            Format::Csv => self.print_csv()?,
            Format::Table => print(&self.tables())?,
        }
        Ok(())
    }

    fn print_csv(&self) -> anyhow::Result<()> {
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        let columns = ["address", "direction", "outgoing", "incoming", "mean", "stddev", "z"];
        writer.write_record(columns.into_iter().chain(self.round_column()))?;
        for finding in &self.detection.findings {
            writer.serialize(finding)?;
        }
        print(std::str::from_utf8(&writer.into_inner()?)?)?;
        for line in self.remarks() {
            eprintln!("{line}");
        }
        Ok(())
    }

    /// Returns the warnings, the coverage and the scope, a line each.
    fn remarks(&self) -> Vec<String> {
        let warnings = self.warnings.iter().map(|warning| format!("warning: {}", warning.message));
        let mut lines: Vec<_> = warnings.collect();
        lines.push(self.coverage.sentence());
        lines.push(self.scope.sentence());
        lines
    }

    fn tables(&self) -> String {
        let mut text = String::new();
        if !self.detection.findings.is_empty() {
            text += &format!("{}\n", self.findings());
        } else if self.is_decided() {
            text += "No address stands out.\n";
        }
        if self.detection.statistics.outgoing.count > 0 {
            text += &format!("{}\n", self.statistics());
        }
        text.extend(self.remarks().iter().map(|line| format!("{line}\n")));
        text
    }

    /// Returns whether at least one direction could have had an address that stands out.
    fn is_decided(&self) -> bool {
        let count = |code| self.warnings.iter().filter(|warning| warning.code == code).count();
        count("no_spread") < 2 && count("too_few_addresses") + count("no_documents") == 0
    }

    /// Returns the name of the column with the round of a finding, if there can be several rounds.
    fn round_column(&self) -> Option<&'static str> {
        (self.scope.peel > 0).then_some("round")
    }

    fn findings(&self) -> Table {
        let columns = ["address", "direction", "outgoing", "incoming", "z"];
        let mut table = table(columns);
        table.set_header(columns.into_iter().chain(self.round_column()));
        for f in &self.detection.findings {
            let (outgoing, incoming) = (f.outgoing.to_string(), f.incoming.to_string());
            let cells =
                [f.address.clone(), f.direction.to_string(), outgoing, incoming, format!("{:.3}", f.z)];
            table.add_row(cells.into_iter().chain(f.round.map(|round| round.to_string())));
        }
        table
    }

    fn statistics(&self) -> Table {
        let mut table = table(["", "addresses", "mean", "stddev", "max", "min"]);
        let both = &self.detection.statistics;
        for (name, column) in [("outgoing", &both.outgoing), ("incoming", &both.incoming)] {
            let ColumnStatistics { count, mean, stddev, max, min } = column;
            let whole = |n: &Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
            let real = |n: &Option<f64>| n.map(|n| format!("{n:.9}")).unwrap_or_default();
            let cells =
                [name.to_owned(), count.to_string(), real(mean), real(stddev), whole(max), whole(min)];
            table.add_row(cells);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ballista_elasticsearch::ScanReport;

    fn scan(documents: u64, matched: u64, slices: u64, slices_read: u64) -> ScanReport {
        ScanReport { documents, matched, slices, slices_read, slices_aggregated: 0, retries: 0 }
    }

    fn covered(scans: Vec<ScanReport>, planned_slices: u64) -> Result<u64, String> {
        let done = Done { scans, planned_slices, slices: 3, skipped_indices: 0, kind: None };
        Coverage::of(&done, true).map(|coverage| coverage.documents).map_err(|e| e.to_string())
    }

    #[test]
    fn what_was_not_read_is_an_error_also_where_nothing_says_that_it_began() {
        let whole = scan(10, 10, 3, 3);
        assert_eq!(covered(vec![whole, whole], 6), Ok(10));
        for (scans, planned, said) in [
            (vec![], 6, "the scheduler reported no scan"),
            (vec![whole, scan(9, 10, 3, 3)], 6, "9 documents were read of 10"),
            // The task of the third slice did not run.
            (vec![whole, scan(7, 7, 3, 2)], 6, "a scan has 3 slices, and 2 were read to their end"),
            // The stage of the second scan did not run.
            (vec![whole], 6, "have 6 slices, and 3 were read"),
            (vec![whole, whole], 3, "have 3 slices, and 6 were read"),
        ] {
            let error = covered(scans, planned).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
