//! Findings as comma-separated values.
//!
//! Owns: the columns. Must not know: where lines are written.
//!
//! A line break in an address is written as a space, so that each finding is one line.

use super::identity::Identity;
use crate::alert::{Alert, AlertState};
use crate::manifest::WindowTimes;
use jiff::Timestamp;

pub(super) const HEADER: &[u8] = b"id,job,window_start,window_end,revision,state,direction,address,outgoing,incoming,mean,stddev,z,detected\n";
const COLUMNS: usize = 14;
/// The length of an id, which is a SHA-256 in hex.
const ID: usize = 64;

pub(super) fn encode(alert: &Alert) -> Result<Vec<u8>, String> {
    let finding = &alert.finding;
    let state = match alert.state {
        AlertState::New => "new",
        AlertState::Amended => "amended",
        AlertState::Withdrawn => "withdrawn",
    };
    let record: [String; COLUMNS] = [
        alert.id.clone(),
        alert.job.clone(),
        alert.window.start.to_string(),
        alert.window.end.to_string(),
        alert.revision.to_string(),
        state.to_owned(),
        finding.direction.clone(),
        finding.address.replace(['\n', '\r'], " "),
        finding.outgoing.to_string(),
        finding.incoming.to_string(),
        finding.mean.to_string(),
        finding.stddev.to_string(),
        finding.z.to_string(),
        alert.detected.to_string(),
    ];
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&record).map_err(|error| error.to_string())?;
    writer.into_inner().map_err(|error| error.to_string())
}

/// A line is complete if its last column is a time, which ends with "Z".
pub(super) fn identity(line: &[u8]) -> Option<Identity> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line);
    let record = reader.records().next()?.ok()?;
    if record.len() != COLUMNS || record[COLUMNS - 1].parse::<Timestamp>().is_err() {
        return None;
    }
    Some(Identity {
        id: record[0].to_owned(),
        job: record[1].to_owned(),
        window: WindowTimes { start: record[2].parse().ok()?, end: record[3].parse().ok()? },
        revision: record[4].parse().ok()?,
    })
}

pub(super) fn may_begin(torn: &[u8]) -> bool {
    let (id, rest) = torn.split_at(torn.len().min(ID));
    id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) && rest.first().is_none_or(|b| *b == b',')
}
