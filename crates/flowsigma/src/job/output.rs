//! What the commands of jobs print.
//!
//! Owns: the forms of runs and states, for people and for programs. Must not know: how a window is run.

use crate::failure::Failure;
use crate::output::{Format, print, table};
use flowsigma_jobs::{Alert, AlertState, Run, WindowState};
use serde_json::{Value, json};

/// What a command has done, for its exit code.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// The number of findings in the windows that were run.
    pub(crate) findings: usize,
    /// The sinks that do not have all findings.
    pub(crate) owed: Vec<String>,
    /// The errors of windows that failed, and of sinks.
    pub(crate) failures: Vec<String>,
    /// Whether a window failed.
    pub(crate) failed: bool,
}

/// Prints the runs of windows, and returns what was done.
pub(crate) fn print_runs(runs: &[Run], format: Format) -> Result<Summary, Failure> {
    let mut summary = Summary::default();
    for run in runs {
        summary.findings += run.manifest.findings.len();
        summary.failures.extend(run.failures.iter().map(ToString::to_string));
        for sink in &run.owed {
            if !summary.owed.contains(sink) {
                summary.owed.push(sink.clone());
            }
        }
    }
    let text = match format {
        Format::Json => runs.iter().map(|run| format!("{}\n", object(run))).collect(),
        Format::Csv => findings_csv(runs)?,
        Format::Table => tables(runs),
    };
    print(&text).map_err(Failure::running)?;
    Ok(summary)
}

/// Returns the object of `detect --format json` with the window.
fn object(run: &Run) -> Value {
    let manifest = &run.manifest;
    let mut object = manifest.report.clone();
    object["job"] = json!(manifest.job);
    object["window"] = json!({
        "start": manifest.window.start,
        "end": manifest.window.end,
        "revision": manifest.revision,
    });
    object["documents"] = json!(manifest.documents);
    object["counted"] = json!(run.counted);
    object["owed"] = json!(run.owed);
    object
}

fn state(alert: &Alert) -> &'static str {
    match alert.state {
        AlertState::New => "new",
        AlertState::Amended => "amended",
        AlertState::Withdrawn => "withdrawn",
    }
}

fn findings_csv(runs: &[Run]) -> Result<String, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = ["start", "end", "revision", "address", "direction", "outgoing", "incoming", "z"];
    writer.write_record(header)?;
    for run in runs {
        let manifest = &run.manifest;
        for finding in &manifest.findings {
            writer.write_record([
                &manifest.window.start.to_string(),
                &manifest.window.end.to_string(),
                &manifest.revision.to_string(),
                &finding.address,
                &finding.direction,
                &finding.outgoing.to_string(),
                &finding.incoming.to_string(),
                &finding.z.to_string(),
            ])?;
        }
    }
    let bytes = writer.into_inner().map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(String::from_utf8(bytes)?)
}

fn tables(runs: &[Run]) -> String {
    let mut windows = table(["start", "end", "revision", "documents", "findings", ""]);
    let mut alerts = table(["start", "address", "direction", "flows", "z", "state"]);
    let mut any = false;
    for run in runs {
        let manifest = &run.manifest;
        windows.add_row([
            manifest.window.start.to_string(),
            manifest.window.end.to_string(),
            manifest.revision.to_string(),
            manifest.documents.to_string(),
            manifest.findings.len().to_string(),
            if run.counted { "counted" } else { "was done" }.to_owned(),
        ]);
        for alert in &run.alerts {
            any = true;
            let finding = &alert.finding;
            let flows = if finding.direction == "outgoing" { finding.outgoing } else { finding.incoming };
            alerts.add_row([
                manifest.window.start.to_string(),
                finding.address.clone(),
                finding.direction.clone(),
                flows.to_string(),
                format!("{:.3}", finding.z),
                state(alert).to_owned(),
            ]);
        }
    }
    match (runs.is_empty(), any) {
        (true, _) => "No window is due.\n".to_owned(),
        (false, true) => format!("{windows}\n{alerts}\n"),
        (false, false) => format!("{windows}\n"),
    }
}

/// Prints the states of windows.
pub(crate) fn print_states(states: &[WindowState], format: Format) -> Result<(), Failure> {
    let shown = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
    let row = |window: &WindowState| {
        let state = serde_json::to_value(window.state).ok();
        [
            window.start.to_string(),
            window.end.to_string(),
            state.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned(),
            shown(window.documents),
            shown(window.findings.map(|findings| findings as u64)),
            shown(window.revision.map(u64::from)),
        ]
    };
    let header = ["start", "end", "state", "documents", "findings", "revision"];
    let text = match format {
        Format::Json => format!("{}\n", serde_json::to_string(states)?),
        Format::Csv => {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(header)?;
            for window in states {
                writer.write_record(row(window))?;
            }
            String::from_utf8(writer.into_inner().map_err(|error| anyhow::anyhow!("{error}"))?)?
        }
        Format::Table if states.is_empty() => "No window.\n".to_owned(),
        Format::Table => {
            let mut table = table(header);
            for window in states {
                table.add_row(row(window));
            }
            format!("{table}\n")
        }
    };
    print(&text).map_err(Failure::running)
}
