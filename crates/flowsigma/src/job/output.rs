//! What the commands of jobs print.
//!
//! Owns: the forms of runs and states, for people and for programs. Must not know: how a window is run.

use crate::failure::Failure;
use crate::output::{Format, print, table};
use flowsigma_jobs::{Advance, Alert, AlertState, Run, WindowState};
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};

/// What a command has done, for its exit code.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// The number of findings in the windows that were run.
    pub(crate) findings: usize,
    /// The sinks that do not have all findings.
    pub(crate) owed: Vec<String>,
    /// The errors of windows and of sinks.
    pub(crate) failures: Vec<String>,
    /// Whether a window failed.
    pub(crate) failed: bool,
}

impl Summary {
    /// Returns the summary with the run of one window.
    pub(crate) fn with_run(mut self, run: Run) -> Self {
        self.failures.extend(run.failures.iter().map(ToString::to_string));
        self.owed = run.owed;
        self
    }

    /// Returns the summary with what was done in many windows.
    pub(crate) fn with_advance(mut self, advance: Advance) -> Self {
        self.failed = !advance.failed.is_empty();
        let errors = advance.failed.iter().chain(&advance.undelivered);
        self.failures.extend(errors.map(ToString::to_string));
        self.owed = advance.owed;
        self
    }
}

/// Prints the runs of windows: JSON and CSV as they end, tables once all have ended.
pub(crate) struct RunPrinter {
    format: Format,
    collected: Mutex<Collected>,
}

#[derive(Default)]
struct Collected {
    windows: Vec<[String; 5]>,
    alerts: Vec<[String; 6]>,
    /// The warnings of all windows, a line each.
    warnings: String,
    findings: usize,
    header_printed: bool,
    /// The first error while printing, such as that the reader closed stdout.
    error: Option<anyhow::Error>,
}

impl RunPrinter {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, collected: Mutex::default() }
    }

    /// Prints the run of a window.
    pub(crate) fn push(&self, run: &Run) {
        let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        collected.findings += run.manifest.findings.len();
        let printed = match self.format {
            Format::Json => print(&format!("{}\n", object(run))).map_err(anyhow::Error::from),
            Format::Csv => csv_of(run, !std::mem::replace(&mut collected.header_printed, true))
                .and_then(|text| Ok(print(&text)?))
                .map(|()| eprint!("{}", warnings_of(run))),
            Format::Table => {
                collected.push(run);
                Ok(())
            }
        };
        if let Err(error) = printed {
            collected.error.get_or_insert(error);
        }
    }

    /// Ends the output.
    pub(crate) fn finish(self) -> Result<Summary, Failure> {
        let collected = self.collected.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = collected.error {
            return Err(Failure::running(error));
        }
        let findings = collected.findings;
        if matches!(self.format, Format::Table) {
            print(&collected.tables()).map_err(Failure::running)?;
        }
        Ok(Summary { findings, ..Summary::default() })
    }
}

impl Collected {
    fn push(&mut self, run: &Run) {
        let manifest = &run.manifest;
        let start = manifest.window.start.to_string();
        self.warnings += &warnings_of(run);
        self.windows.push([
            start.clone(),
            manifest.window.end.to_string(),
            manifest.revision.to_string(),
            manifest.documents.to_string(),
            manifest.findings.len().to_string(),
        ]);
        self.alerts.extend(run.alerts.iter().map(|alert| {
            let finding = &alert.finding;
            let flows = if finding.direction == "outgoing" { finding.outgoing } else { finding.incoming };
            [
                start.clone(),
                finding.address.clone(),
                finding.direction.clone(),
                flows.to_string(),
                format!("{:.3}", finding.z),
                state(alert).to_owned(),
            ]
        }));
    }

    fn tables(self) -> String {
        if self.windows.is_empty() {
            return "No window was due.\n".to_owned();
        }
        let mut windows = table(["start", "end", "revision", "documents", "findings"]);
        windows.add_rows(self.windows);
        if self.alerts.is_empty() {
            return format!("{windows}\n{}", self.warnings);
        }
        let mut alerts = table(["start", "address", "direction", "flows", "z", "state"]);
        alerts.add_rows(self.alerts);
        format!("{windows}\n{alerts}\n{}", self.warnings)
    }
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
    object["owed"] = json!(run.owed);
    object
}

/// Returns the warnings of a window, a line each.
fn warnings_of(run: &Run) -> String {
    let start = run.manifest.window.start;
    let warnings = run.manifest.report["warnings"].as_array().into_iter().flatten();
    let messages = warnings.filter_map(|warning| warning["message"].as_str());
    messages.map(|message| format!("warning: {start}: {message}\n")).collect()
}

fn state(alert: &Alert) -> &'static str {
    match alert.state {
        AlertState::New => "new",
        AlertState::Amended => "amended",
        AlertState::Withdrawn => "withdrawn",
    }
}

fn csv_of(run: &Run, header: bool) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    if header {
        writer.write_record([
            "start",
            "end",
            "revision",
            "address",
            "direction",
            "outgoing",
            "incoming",
            "z",
        ])?;
    }
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
    Ok(String::from_utf8(writer.into_inner()?)?)
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
