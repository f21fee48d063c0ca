//! The progress of a job, from the scheduler's REST endpoints.
//!
//! Owns: parsing the responses. Must not know: how progress is shown. Missing data is not an error.

use serde::Deserialize;

/// The progress of the scans of a running job. It counts only finished tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobProgress {
    /// The number of partitions that were read to their end.
    pub done: u64,
    /// The number of partitions to read.
    pub partitions: u64,
    /// The number of rows that were read. The endpoint rounds it to three digits.
    pub documents: u64,
}

#[derive(Deserialize)]
pub(crate) struct Stages {
    stages: Vec<Stage>,
}

#[derive(Deserialize)]
struct Stage {
    /// Missing until the stage has started.
    stage_plan: Option<String>,
    #[serde(default)]
    tasks: Vec<Option<Task>>,
}

#[derive(Deserialize)]
struct Task {
    #[serde(default)]
    status: serde_json::Value,
    #[serde(default)]
    partition_id: Vec<u32>,
}

impl From<&Stages> for JobProgress {
    fn from(all: &Stages) -> Self {
        let mut progress = Self::default();
        for stage in &all.stages {
            let Some(plan) = stage.stage_plan.as_deref().filter(|plan| plan.contains("EsScanExec:")) else {
                continue;
            };
            let ended = stage.tasks.iter().flatten().filter(|task| task.status == "Successful");
            progress.done += ended.map(|task| task.partition_id.len() as u64).sum::<u64>();
            for line in plan.lines() {
                if line.contains("DataSourceExec: partitions=") {
                    progress.partitions += value_after(line, "partitions=").unwrap_or(0);
                } else if line.contains("EsScanExec:") {
                    let metrics = line.rsplit_once("metrics=[").map_or("", |(_, metrics)| metrics);
                    progress.documents += value_after(metrics, "documents=").unwrap_or(0);
                }
            }
        }
        progress
    }
}

/// Parses a count in the form that DataFusion shows, `1530` or `1.53 K`.
fn value_after(text: &str, key: &str) -> Option<u64> {
    let (_, rest) = text.split_once(key)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let number: f64 = rest[..digits].parse().ok()?;
    let unit = match rest[digits..].trim_start().chars().next() {
        Some('K') => 1e3,
        Some('M') => 1e6,
        Some('B') => 1e9,
        Some('T') => 1e12,
        _ => 1.0,
    };
    Some((number * unit).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_they_are_shown() {
        let line =
            "EsScanExec: query={\"documents=\":7}, metrics=[bytes=152.3 K, documents=1.53 K, matched=2]";
        let (_, metrics) = line.rsplit_once("metrics=[").unwrap_or_default();
        assert_eq!(value_after(metrics, "documents="), Some(1530));
        assert_eq!(value_after(metrics, "matched="), Some(2));
        assert_eq!(value_after(metrics, "pages="), None);
        assert_eq!(value_after("documents=2.5 M]", "documents="), Some(2_500_000));
    }
}
