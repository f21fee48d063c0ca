//! What a job does, for people.
//!
//! Owns: the wording. Must not know: the state of windows in a store.

use super::JobFile;
use crate::job::{FindingsFormat, SinkSpec};
use crate::manifest::WindowTimes;
use crate::sinks::sink_name;
use crate::window::Calendar;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::fmt::Write;
use url::Url;

/// How many due times are shown.
const DUE_TIMES: usize = 3;

pub(super) fn explain(file: &JobFile, now: Timestamp) -> String {
    let job = &file.job;
    let mut lines =
        vec![format!("job        {} ({}, sha256 {:.12})", job.name, file.path.display(), file.digest)];
    lines.push(source(file));
    match file.calendar() {
        Ok(calendar) => windows(&mut lines, file, &calendar, now),
        Err(error) => lines.push(format!("windows    {error}")),
    }
    lines.push(detection(file));
    let pairs = if job.store.pairs { ", with pairs" } else { "" };
    lines.push(format!("store      {}{pairs}", job.store.url));
    if job.sinks.is_empty() {
        lines.push("sinks      none: findings stay in the store".into());
    }
    lines.extend(job.sinks.iter().map(sink));
    let limits = [
        job.limits.slices.map(|slices| format!("{slices} slices")),
        job.limits.timeout.as_ref().map(|timeout| format!("{timeout} a run")),
    ];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    if !limits.is_empty() {
        lines.push(format!("limits     {}", limits.join(", ")));
    }
    lines.join("\n") + "\n"
}

fn source(file: &JobFile) -> String {
    let source = &file.job.source;
    let mut line = format!(
        "reads      {} of connection {}: time {}, source {}, destination {}",
        source.index, source.connection, source.time_field, source.source_field, source.destination_field
    );
    if source.query.is_some() {
        line.push_str("; only documents that the base query matches");
    }
    if let Some(filter) = &source.filter {
        let _ = write!(line, "; only flows where {filter}");
    }
    if let Some(sample) = source.sample {
        let _ = write!(line, "; a sample of {sample} of the documents");
    }
    line
}

fn windows(lines: &mut Vec<String>, file: &JobFile, calendar: &Calendar, now: Timestamp) {
    let spec = &file.job.window;
    let zone = calendar.zone();
    let length = match &spec.length {
        Some(length) => format!("of {length}, one every {}", calendar.every()),
        None => format!("of {}", calendar.every()),
    };
    let mut line = format!(
        "windows    {length}, on the calendar of {}; due {} after their end",
        spec.time_zone.as_deref().unwrap_or("UTC"),
        calendar.delay()
    );
    if let Some(recheck) = calendar.recheck() {
        let _ = write!(line, "; counted again until {recheck} after their end");
    }
    if let Some(first) = calendar.first() {
        let _ = write!(line, "; the first starts at {}", local(first.start, zone));
    }
    lines.push(line);
    let mut after = now;
    for _ in 0..DUE_TIMES {
        let due = calendar.next_due_time(after);
        let Some(window) = calendar.newest_due(due) else { break };
        lines.push(format!("  due      {}: {}", local(due, zone), range(window, zone)));
        after = due;
    }
    if let Some(schedule) = &file.job.schedule {
        let next = file.next_run(now).map_or_else(|error| error.to_string(), |next| local(next, zone));
        lines.push(format!(
            "runs       by cron \"{}\", next {next}: every window that is due then",
            schedule.cron
        ));
    }
}

fn detection(file: &JobFile) -> String {
    let detection = &file.job.detection;
    let mut line = format!(
        "finds      addresses whose count of flows is more than {} standard deviations above the mean",
        detection.sigma
    );
    if detection.minimum_count > 0 {
        let _ = write!(line, ", and at least {} flows", detection.minimum_count);
    }
    if !detection.allow.is_empty() {
        let _ = write!(line, "; never {}", detection.allow.join(", "));
    }
    if detection.peel > 0 {
        let _ = write!(line, "; again over the rest, up to {} times", detection.peel);
    }
    line
}

fn sink(spec: &SinkSpec) -> String {
    let target = match spec {
        SinkSpec::Stdout { .. } => "standard output".to_owned(),
        SinkSpec::File { path, format: FindingsFormat::Parquet, .. } => {
            format!("folder {}, a Parquet file for each window", path.display())
        }
        SinkSpec::File { path, format, .. } => format!("file {}, {}", path.display(), format.name()),
        SinkSpec::Bucket { url, format, .. } => {
            format!("{url}, an object in {} for each window", format.name())
        }
        SinkSpec::Index { connection, index, template, .. } => {
            let template = if *template { ", with its index template" } else { "" };
            format!("index {index} of connection {connection}{template}")
        }
        SinkSpec::Webhook { url, secret_env, .. } => {
            // Path and query of a webhook are often a secret.
            let origin = Url::parse(url).map(|url| url.origin().ascii_serialization());
            let signed = if secret_env.is_some() { "signed" } else { "not signed" };
            format!("webhook {}, {signed}", origin.unwrap_or_default())
        }
    };
    format!("sink       {}: {target}", sink_name(spec))
}

fn local(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string()
}

fn range(window: WindowTimes, zone: &TimeZone) -> String {
    let length: SignedDuration = window.start.duration_until(window.end);
    format!("from {} until {} ({length:#})", local(window.start, zone), local(window.end, zone))
}
