//! What `detect` says at the end: findings, statistics, coverage.
//!
//! Owns: their form, and the proof that what was counted is what there was. Must not know: how they
//! came about.

use crate::output::{Format, print};
use crate::run::Done;
use crate::scope::Scope;
use anyhow::bail;
use comfy_table::{Table, presets};
use elastic_client::ContextKind;
use flow_detect::{ColumnStatistics, Detection, Direction, Sigma};
use indicatif::HumanCount;
use serde::Serialize;

/// What was read, out of what there was.
#[derive(Debug, Serialize)]
pub(crate) struct Coverage {
    /// Documents read.
    documents: u64,
    /// Documents that the server counted for the query sent.
    matched: u64,
    /// Slices they were read in.
    slices: usize,
    /// `point_in_time`: one state of each index. `scroll`: a state of each slice. None if only files were read.
    consistency: Option<&'static str>,
    /// The same for people.
    #[serde(skip)]
    read_from: &'static str,
    /// Always 0: a shard that fails makes the job fail.
    failed_shards: u64,
    /// Requests that were sent again.
    retries: u64,
}

impl Coverage {
    /// Both directions scan the same documents, less those without the address; the greater scan is
    /// what was covered. A scan that read other than it should is an error.
    pub(crate) fn of(done: &Done, is_index: bool) -> anyhow::Result<Self> {
        let Some(greatest) = done.scans.iter().max_by_key(|scan| scan.matched) else {
            bail!("the cluster did not tell what was read, so the result is not proved to be whole");
        };
        if let Some(scan) = done.scans.iter().find(|scan| scan.documents != scan.matched) {
            bail!("{} documents were read of {} that match", scan.documents, scan.matched);
        }
        // A slice that no task has read is missing from both numbers.
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
            consistency: done.kind.map(ContextKind::consistency),
            read_from: done.kind.map_or("files", ContextKind::describe),
            failed_shards: 0,
            retries: done.scans.iter().map(|scan| scan.retries).sum(),
        })
    }

    fn sentence(&self) -> String {
        let mut text =
            format!("{} of {} documents read", HumanCount(self.documents), HumanCount(self.matched));
        if self.slices > 0 {
            text += &format!(" in {} slices of a {}", self.slices, self.read_from);
        } else {
            text += &format!(" from {}", self.read_from);
        }
        if self.retries > 0 {
            text += &format!(", {} requests sent again", self.retries);
        }
        text
    }
}

/// All of it.
#[derive(Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    detection: Detection,
    coverage: Coverage,
    scope: Scope,
    /// Why "nothing stands out" would say less than it seems to; most often none.
    warnings: Vec<Warning>,
}

/// Something to know before the findings are trusted.
#[derive(Serialize)]
struct Warning {
    /// For programs; it does not change with the wording.
    code: &'static str,
    message: String,
}

impl Report {
    pub(crate) fn new(detection: Detection, coverage: Coverage, scope: Scope, sigma: Sigma) -> Self {
        let of_detection = detection.warnings(sigma);
        let mut warnings: Vec<_> = of_detection
            .iter()
            .map(|warning| Warning { code: warning.code(), message: warning.to_string() })
            .collect();
        if detection.statistics.outgoing.count == 0 {
            warnings.push(Warning { code: "no_documents", message: scope.nothing_found() });
        }
        Self { detection, coverage, scope, warnings }
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
        writer.write_record(["address", "direction", "outgoing", "incoming", "mean", "stddev", "z"])?;
        for finding in &self.detection.findings {
            writer.serialize(finding)?;
        }
        print(std::str::from_utf8(&writer.into_inner()?)?)?;
        for line in self.remarks() {
            eprintln!("{line}");
        }
        Ok(())
    }

    /// All that is beside the numbers, in lines.
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

    /// Whether the counts of either direction could have stood out.
    fn is_decided(&self) -> bool {
        let directions = self.warnings.iter().filter(|warning| warning.code == "no_spread").count();
        directions < 2 && directions == self.warnings.len()
    }

    fn findings(&self) -> Table {
        let mut table = table(["address", "direction", "outgoing", "incoming", "z"]);
        for f in &self.detection.findings {
            let direction = match f.direction {
                Direction::Outgoing => "outgoing",
                Direction::Incoming => "incoming",
            };
            let (outgoing, incoming) = (f.outgoing.to_string(), f.incoming.to_string());
            table.add_row([f.address.clone(), direction.into(), outgoing, incoming, format!("{:.3}", f.z)]);
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

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_header(header);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use ballista_elasticsearch::ScanReport;

    fn scan(documents: u64, matched: u64, slices: u64, slices_read: u64) -> ScanReport {
        ScanReport { documents, matched, slices, slices_read, retries: 0 }
    }

    fn covered(scans: Vec<ScanReport>, planned_slices: u64) -> Result<u64, String> {
        let done = Done { scans, planned_slices, slices: 3, kind: None };
        Coverage::of(&done, true).map(|coverage| coverage.documents).map_err(|e| e.to_string())
    }

    #[test]
    fn what_was_not_read_is_an_error_also_where_nothing_says_that_it_began() {
        let whole = scan(10, 10, 3, 3);
        assert_eq!(covered(vec![whole, whole], 6), Ok(10));
        for (scans, planned, said) in [
            (vec![], 6, "did not tell what was read"),
            (vec![whole, scan(9, 10, 3, 3)], 6, "9 documents were read of 10"),
            // The task of the third slice never ran.
            (vec![whole, scan(7, 7, 3, 2)], 6, "a scan has 3 slices, and 2 were read to their end"),
            // Neither did the stage of the second scan.
            (vec![whole], 6, "have 6 slices, and 3 were read"),
            (vec![whole, whole], 3, "have 3 slices, and 6 were read"),
        ] {
            let error = covered(scans, planned).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
