//! A new job file.
//!
//! Owns: its text with comments, and the field names of known schemas of flows. Must not know: how answers are asked
//! for, or how an index's mapping is read.

use crate::job::{FindingsFormat, SinkSpec};
use std::path::Path;
use toml::Value;

/// The values of a new job file. All other keys are in the file as comments, with their defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// The name of the job.
    pub name: String,
    /// The connection of flowsigma.toml.
    pub connection: String,
    /// The index, pattern or alias.
    pub index: String,
    /// The field with the time of a flow.
    pub time_field: String,
    /// The field with the source address.
    pub source_field: String,
    /// The field with the destination address.
    pub destination_field: String,
    /// The distance between the starts of two windows, such as `1h`.
    pub every: String,
    /// The number of standard deviations.
    pub sigma: f64,
    /// The URL of the store.
    pub store: String,
    /// The sinks.
    pub sinks: Vec<SinkSpec>,
}

/// The fields of a known schema of flows that an index has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFields {
    /// The name of the schema, such as `ECS` or `Zeek`.
    pub schema: &'static str,
    /// The field with the time of a flow.
    pub time_field: String,
    /// The field with the source address.
    pub source_field: String,
    /// The field with the destination address.
    pub destination_field: String,
}

/// A schema: the fields with the addresses, and those with the time, the best one first.
struct KnownSchema {
    name: &'static str,
    /// The prefix of a field that the index must have too.
    marker: Option<&'static str>,
    source: &'static str,
    destination: &'static str,
    times: &'static [&'static str],
}

const fn schema(
    name: &'static str,
    source: &'static str,
    destination: &'static str,
    times: &'static [&'static str],
) -> KnownSchema {
    KnownSchema { name, marker: None, source, destination, times }
}

const fn zeek_in_ecs() -> KnownSchema {
    let ecs =
        schema("Zeek, mapped to ECS", "source.ip", "destination.ip", &["@timestamp", "ts", "event.start"]);
    KnownSchema { marker: Some("zeek."), ..ecs }
}

/// The known schemas. An index may have the fields of several: the first one is taken. ECS comes first, because a
/// shipper that maps to ECS fills its fields for IPv4 and IPv6.
const SCHEMAS: &[KnownSchema] = &[
    zeek_in_ecs(),
    schema("ECS", "source.ip", "destination.ip", &["@timestamp", "event.start"]),
    schema("Zeek", "id.orig_h", "id.resp_h", &["@timestamp", "ts"]),
    // Shippers that cannot write a dot into a name.
    schema("Zeek", "id_orig_h", "id_resp_h", &["@timestamp", "ts"]),
    schema("NetFlow", "netflow.ipv4_src_addr", "netflow.ipv4_dst_addr", &["@timestamp"]),
    schema("ElastiFlow", "flow.src_addr", "flow.dst_addr", &["@timestamp"]),
    schema("Suricata EVE", "src_ip", "dest_ip", &["@timestamp", "timestamp"]),
    schema("AWS VPC flow logs", "srcaddr", "dstaddr", &["@timestamp", "start"]),
];

/// Recognizes the schema of an index from the full names of its fields: ECS, Zeek, NetFlow of Logstash and ElastiFlow,
/// Suricata EVE, or AWS VPC flow logs. `None` means that no known schema has all three of its fields in the index.
pub fn known_fields(field_names: &[&str]) -> Option<KnownFields> {
    let has = |name: &str| field_names.contains(&name);
    SCHEMAS.iter().find_map(|schema| {
        let is_marked =
            schema.marker.is_none_or(|marker| field_names.iter().any(|name| name.starts_with(marker)));
        if !is_marked || !has(schema.source) || !has(schema.destination) {
            return None;
        }
        let time = schema.times.iter().find(|time| has(time))?;
        Some(KnownFields {
            schema: schema.name,
            time_field: (*time).to_owned(),
            source_field: schema.source.to_owned(),
            destination_field: schema.destination.to_owned(),
        })
    })
}

/// Writes a job file with comments. It says what is given, without a check: parse it with
/// [`JobFile::parse`](crate::JobFile::parse) before it is used. A path of a sink must be
/// valid UTF-8.
pub fn write_job_file(answers: &NewJob) -> String {
    let NewJob { name, connection, index, time_field, source_field, destination_field, .. } = answers;
    let NewJob { every, sigma, store, sinks, .. } = answers;
    let head = format!(
        r#"# A job of Flowsigma: a detection over one window of time after another.
# Check it with: flowsigma job check FILE

# Unique among the jobs of a folder. Lower-case letters, digits and "-".
name = {name}

[source]
# A connection of flowsigma.toml.
connection = {connection}
# An index, a pattern or an alias.
index = {index}
time_field = {time_field}
source_field = {source_field}
destination_field = {destination_field}
# Only documents that a query matches, in the query DSL.
# query = '{{"term": {{"event.kind": "event"}}}}'
# A share of the documents, and the seed of the draw.
# sample = 0.1
# seed = 1

[window]
# The distance between two windows, and their length. It divides a day, or is 1d or 1w.
every = {every}
# How long after its end a window is run. Documents that arrive later are not in the first run.
# delay = "5m"
# Until then the documents of a window are counted again. If there are more, the window is run again.
# recheck = "24h"
# Days begin at midnight of this time zone, and weeks on its Monday.
# time_zone = "UTC"
# The first window. Without it, the first one is the newest that is due.
# from = "2026-01-01T00:00:00Z"

[detection]
# The number of standard deviations above the mean from which an address stands out.
sigma = {sigma}
# A finding needs at least so many flows.
# minimum_count = 0
# Addresses, ranges and names of hosts that are never found. They count for the statistics.
# allow = ["10.0.0.1", "192.168.0.0/16"]
# A very great count hides smaller ones. So often the addresses found are taken out, and the rest is decided again.
# peel = 0

[store]
# Where counts, manifests and leases are kept: file:///path, s3://bucket/path, gs://bucket/path or az://container/path.
# Secrets of a store come from the environment.
url = {store}
# Keep pairs of source and destination too, with flows, first and last time.
# pairs = false

[limits]
# How long the run of one window may take. After that it is cancelled, and the window has failed.
# timeout = "30m"
"#,
        name = quoted(name),
        connection = quoted(connection),
        index = quoted(index),
        time_field = quoted(time_field),
        source_field = quoted(source_field),
        destination_field = quoted(destination_field),
        every = quoted(every),
        store = quoted(store),
    );
    let schedule = r#"
# Windows are run as soon as they are due. To run them at certain times, use five fields of cron in the time zone above.
# [schedule]
# cron = "10 * * * *"
"#;
    let sinks_head = if sinks.is_empty() {
        "\n# Who gets the findings: sinks of the types stdout, file, bucket, index and webhook.\n\
         # Without one they stay in the store.\n\
         # [[sinks]]\n# type = \"stdout\"\n"
            .to_owned()
    } else {
        "\n# Who gets the findings.\n".to_owned() + &sinks.iter().map(sink).collect::<Vec<_>>().join("\n")
    };
    head + schedule + &sinks_head
}

fn sink(spec: &SinkSpec) -> String {
    let text = |text: &str| Some(Value::String(text.to_owned()));
    let format_of = |format: &FindingsFormat| match format {
        FindingsFormat::Ndjson => None,
        other => text(other.name()),
    };
    let (kind, name, keys): (_, _, Vec<(&str, Option<Value>)>) = match spec {
        SinkSpec::Stdout { name } => ("stdout", name, Vec::new()),
        SinkSpec::File { name, path, format } => {
            ("file", name, vec![("path", text(&path_text(path))), ("format", format_of(format))])
        }
        SinkSpec::Bucket { name, url, options, format } => {
            let options = (!options.is_empty()).then(|| {
                Value::Table(options.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect())
            });
            ("bucket", name, vec![("url", text(url)), ("options", options), ("format", format_of(format))])
        }
        SinkSpec::Index { name, connection, index, template } => {
            let template = template.then_some(Value::Boolean(true));
            let keys = vec![("connection", text(connection)), ("index", text(index)), ("template", template)];
            ("index", name, keys)
        }
        SinkSpec::Webhook { name, url, secret_env } => {
            ("webhook", name, vec![("url", text(url)), ("secret_env", secret_env.as_deref().and_then(text))])
        }
    };
    let head = [("type", text(kind)), ("name", name.as_deref().and_then(text))];
    let keys = head.into_iter().chain(keys);
    let lines = keys.filter_map(|(key, value)| Some(format!("{key} = {}\n", value?)));
    format!("[[sinks]]\n{}", lines.collect::<String>())
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Returns a text as a string of TOML.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
#[path = "new_tests.rs"]
mod tests;
