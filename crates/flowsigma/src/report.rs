//! What `detect` says at the end: findings, statistics, coverage.
//!
//! Owns: their form, and the proof that what was counted is what there was. Must not know: how they
//! came about.

use crate::output::{Format, print};
use crate::run::Done;
use anyhow::bail;
use comfy_table::{Table, presets};
use flow_detect::{ColumnStatistics, Detection, Direction};
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
    /// What held the state that was read.
    snapshot: String,
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
        Ok(Self {
            documents: greatest.documents,
            matched: greatest.matched,
            slices: if is_index { done.slices } else { 0 },
            snapshot: done.snapshot.clone().unwrap_or_else(|| "files".into()),
            failed_shards: 0,
            retries: done.scans.iter().map(|scan| scan.retries).sum(),
        })
    }

    fn sentence(&self) -> String {
        let mut text =
            format!("{} of {} documents read", HumanCount(self.documents), HumanCount(self.matched));
        if self.slices > 0 {
            text += &format!(" in {} slices of a {}", self.slices, self.snapshot);
        } else {
            text += &format!(" from {}", self.snapshot);
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
    pub(crate) detection: Detection,
    pub(crate) coverage: Coverage,
}

impl Report {
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
        eprintln!("{}", self.coverage.sentence());
        Ok(())
    }

    fn tables(&self) -> String {
        let coverage = self.coverage.sentence();
        if self.detection.statistics.outgoing.count == 0 {
            return format!("No matching document with an address: {coverage}\n");
        }
        let findings = match self.detection.findings.is_empty() {
            true => "No address stands out.".into(),
            false => self.findings().to_string(),
        };
        format!("{findings}\n{}\n{coverage}\n", self.statistics())
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
