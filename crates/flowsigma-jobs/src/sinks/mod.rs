//! The sinks of a job.
//!
//! Owns: which sink a job file's entry means, and the sinks' names. Must not know: when a sink gets findings, or what a
//! run records about it.
//!
//! Every sink is idempotent: a second delivery of the same revision leaves the receiver as after the first, or tells it
//! by a key that it is the same. Only stdout cannot. A delivery without findings sends nothing.

mod append;
mod csv;
mod document;
mod file;
mod identity;
mod index;
mod lines;
mod ndjson;
mod object;
mod parquet;
mod signature;
mod stdout;
mod template;
#[cfg(test)]
mod test_server;
mod webhook;

use crate::error::{Error, Result};
use crate::job::{FindingsFormat, Job, SinkSpec};
use crate::sink::Sink;
use elastic_client::Connection;
use std::sync::Arc;

pub use file::FileSink;
pub use index::IndexSink;
pub use object::{BucketSink, FolderSink};
pub use stdout::{SharedWriter, StdoutSink};
pub(crate) use template::check_template;
pub use template::{INDEX_PATTERN, install_template};
pub use webhook::WebhookSink;

/// Builds the sinks of a job, in the order of its file. Sends no request and opens no file.
///
/// `connections` returns the connection of a name. It must return an error if flowsigma.toml has no such connection, or
/// if the connection does not say `write = true`: [`ConnectionConfig`](elastic_client::ConnectionConfig) has no such key
/// yet, so this function cannot check it.
///
/// # Errors
///
/// If two sinks have the same name, or if a connection, an index, a URL or a secret cannot be used.
pub fn make(
    job: &Job,
    connections: &dyn Fn(&str) -> Result<Arc<Connection>>,
    stdout: &SharedWriter,
) -> Result<Vec<Box<dyn Sink>>> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::with_capacity(job.sinks.len());
    for spec in &job.sinks {
        let name = sink_name(spec);
        // A delivery is recorded by the sink's name, so the second of two would never get a finding.
        if sinks.iter().any(|sink| sink.name() == name) {
            return Err(failed(
                &job.name,
                name,
                "another sink of this job has the same name; set name of one",
            ));
        }
        sinks.push(match spec {
            SinkSpec::Stdout { .. } => Box::new(StdoutSink::new(name, Arc::clone(stdout))),
            SinkSpec::File { path, format, .. } => match format {
                FindingsFormat::Ndjson => Box::new(FileSink::new(name, path, &lines::NDJSON)),
                FindingsFormat::Csv => Box::new(FileSink::new(name, path, &lines::CSV)),
                FindingsFormat::Parquet => Box::new(FolderSink::new(name, path, *format)),
            },
            SinkSpec::Bucket { url, options, format, .. } => {
                Box::new(BucketSink::try_new(&job.name, name, url, options, *format)?)
            }
            SinkSpec::Index { connection, index, template, .. } => {
                let sink = IndexSink::try_new(&job.name, name, connections(connection)?, index)?;
                Box::new(if *template { sink.with_template(&job.name)? } else { sink })
            }
            SinkSpec::Webhook { url, secret_env, .. } => {
                Box::new(WebhookSink::try_new(&job.name, name, url, secret_env.as_deref())?)
            }
        });
    }
    Ok(sinks)
}

/// Returns the name of a sink. Without one in the job file it is the type.
pub fn sink_name(spec: &SinkSpec) -> &str {
    let (name, default) = match spec {
        SinkSpec::Stdout { name } => (name, "stdout"),
        SinkSpec::File { name, .. } => (name, "file"),
        SinkSpec::Bucket { name, .. } => (name, "bucket"),
        SinkSpec::Index { name, .. } => (name, "index"),
        SinkSpec::Webhook { name, .. } => (name, "webhook"),
    };
    name.as_deref().unwrap_or(default)
}

/// Returns the error of a sink.
fn failed(job: &str, sink: &str, problem: impl Into<String>) -> Error {
    Error::Sink { job: job.into(), sink: sink.into(), problem: problem.into() }
}

#[cfg(test)]
mod tests;
