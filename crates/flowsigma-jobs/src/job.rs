//! A job file.
//!
//! Owns: its keys, their defaults and bounds. Must not know: files, stores or servers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A job: a detection over one window of time after another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The name: lower-case letters, digits and "-"; unique among jobs that share a store.
    pub name: String,
    /// Where the flows are.
    pub source: SourceSpec,
    /// The windows.
    pub window: WindowSpec,
    /// Which addresses stand out.
    #[serde(default)]
    pub detection: DetectionSpec,
    /// Where counts, manifests and leases are kept.
    pub store: StoreSpec,
    /// Who gets the findings.
    #[serde(default)]
    pub sinks: Vec<SinkSpec>,
    /// What a run may use.
    #[serde(default)]
    pub limits: Limits,
    /// When due windows are run. Without it, each window is run as soon as it is due.
    #[serde(default)]
    pub schedule: Option<ScheduleSpec>,
}

/// Where the flows are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// The name of a connection of flowsigma.toml.
    pub connection: String,
    /// The index, pattern or alias.
    pub index: String,
    /// The field with the time of a flow.
    #[serde(default = "time_field")]
    pub time_field: String,
    /// The field with the source address.
    #[serde(default = "source_field")]
    pub source_field: String,
    /// The field with the destination address.
    #[serde(default = "destination_field")]
    pub destination_field: String,
    /// The base query: JSON of Elasticsearch's query DSL.
    #[serde(default)]
    pub query: Option<String>,
    /// A condition in SQL on the flows to count.
    #[serde(default)]
    pub filter: Option<String>,
    /// The share of the documents to read, above 0 and up to 1.
    #[serde(default)]
    pub sample: Option<f64>,
    /// The seed of the sample [default: 1].
    #[serde(default)]
    pub seed: Option<u32>,
    /// Other options of the table, such as read, page_size and exclude.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

fn time_field() -> String {
    "@timestamp".into()
}

fn source_field() -> String {
    "netflow.ipv4_src_addr".into()
}

fn destination_field() -> String {
    "netflow.ipv4_dst_addr".into()
}

/// The windows of a job: half-open, aligned to the calendar of a time zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowSpec {
    /// The distance between the starts of two windows: 5m, 15m, 1h, 6h, 1d, 1w.
    pub every: String,
    /// The length of a window [default: every].
    #[serde(default)]
    pub length: Option<String>,
    /// How long after its end a window is run [default: 5m].
    #[serde(default)]
    pub delay: Option<String>,
    /// How long after its end the documents of a window are counted again [default: not at all].
    #[serde(default)]
    pub recheck: Option<String>,
    /// The time zone of the calendar, such as Europe/Berlin [default: UTC].
    #[serde(default)]
    pub time_zone: Option<String>,
    /// The first window is the first that starts at or after this time, in RFC 3339 [default: the newest that is due].
    #[serde(default)]
    pub from: Option<String>,
}

/// Which addresses stand out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DetectionSpec {
    /// The number of standard deviations above the mean from which an address stands out.
    pub sigma: f64,
    /// A finding needs at least so many flows.
    pub minimum_count: u64,
    /// Addresses, CIDR ranges and exact names of hosts that are never found. They count for the statistics.
    pub allow: Vec<String>,
    /// How many times the addresses found are taken out of the counts, to decide again over the rest; at most 10.
    pub peel: u32,
}

impl Default for DetectionSpec {
    fn default() -> Self {
        Self { sigma: 3.0, minimum_count: 0, allow: Vec::new(), peel: 0 }
    }
}

/// Where counts, manifests and leases are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreSpec {
    /// file:///path, s3://bucket/path, gs://bucket/path or az://container/path.
    pub url: String,
    /// Options of the object store, such as region or endpoint. Secrets come from the environment.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Whether pairs of source and destination are kept beside the counts, with flows, first and last time.
    #[serde(default)]
    pub pairs: bool,
}

/// Who gets the findings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum SinkSpec {
    /// Standard output, one JSON object a line.
    Stdout {
        /// The sink's name [default: stdout].
        #[serde(default)]
        name: Option<String>,
    },
    /// A file to which one line a finding is appended. For Parquet it is a folder with one file for each revision of a
    /// window: JOB/START_END/rNNNNNN.parquet.
    File {
        /// The sink's name [default: file].
        #[serde(default)]
        name: Option<String>,
        /// The file, or for Parquet the folder.
        path: std::path::PathBuf,
        /// The format [default: ndjson].
        #[serde(default)]
        format: FindingsFormat,
    },
    /// A bucket with one object for each revision of a window: JOB/START_END/rNNNNNN.ndjson.
    Bucket {
        /// The sink's name [default: bucket].
        #[serde(default)]
        name: Option<String>,
        /// s3://bucket/path, gs://bucket/path or az://container/path.
        url: String,
        /// Options of the object store, such as region or endpoint. Secrets come from the environment.
        #[serde(default)]
        options: BTreeMap<String, String>,
        /// The format [default: ndjson].
        #[serde(default)]
        format: FindingsFormat,
    },
    /// An index of Elasticsearch or OpenSearch, one document a finding, upserted by id.
    Index {
        /// The sink's name [default: index].
        #[serde(default)]
        name: Option<String>,
        /// The name of a connection of flowsigma.toml that says write = true.
        connection: String,
        /// The index.
        index: String,
        /// Whether the index template flowsigma-alerts is installed before the first document. It applies to indices whose
        /// name begins with flowsigma-alerts.
        #[serde(default)]
        template: bool,
    },
    /// An HTTP endpoint, to which the findings of a window are sent as JSON.
    Webhook {
        /// The sink's name [default: webhook].
        #[serde(default)]
        name: Option<String>,
        /// The URL: https, or http on a loopback address.
        url: String,
        /// The environment variable with the key of the HMAC signature.
        #[serde(default)]
        secret_env: Option<String>,
    },
}

/// The format of findings in a file or an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FindingsFormat {
    /// One JSON object a line.
    #[default]
    Ndjson,
    /// Comma-separated values, with a header.
    Csv,
    /// Apache Parquet.
    Parquet,
}

impl FindingsFormat {
    /// Returns the name of the format, which is also the extension of its files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

/// What a run may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Slices of the index. Each has one request in flight at a time, so this bounds the requests of a job as well.
    pub slices: Option<u32>,
    /// How long the run of one window may take, such as 30m. After that it is cancelled, and the window has failed.
    pub timeout: Option<String>,
}

/// When due windows are run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    /// A cron expression with five fields, in the time zone of the window.
    pub cron: String,
}
