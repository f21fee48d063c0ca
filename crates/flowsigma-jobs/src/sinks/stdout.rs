//! Findings on standard output.
//!
//! Owns: writing them at once, and telling a closed pipe apart. Must not know: which writer it has.

use super::failed;
use super::lines::NDJSON;
use crate::alert::Alert;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::sink::Sink;
use async_trait::async_trait;
use std::io::{ErrorKind, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// A writer that several sinks share: the lines of one delivery are never mixed with those of another.
pub type SharedWriter = Arc<Mutex<dyn Write + Send>>;

/// Writes one JSON object a line. A second delivery writes the lines again, because a stream cannot be read back.
pub struct StdoutSink {
    name: String,
    writer: SharedWriter,
}

impl StdoutSink {
    /// Creates a sink that writes to a writer.
    pub fn new(name: &str, writer: SharedWriter) -> Self {
        Self { name: name.into(), writer }
    }
}

#[async_trait]
impl Sink for StdoutSink {
    fn name(&self) -> &str {
        &self.name
    }

    /// Writes the findings and flushes the writer.
    ///
    /// # Errors
    ///
    /// [`Error::OutputClosed`] if the reader has closed the pipe, and [`Error::Sink`] if the writer fails otherwise.
    async fn deliver(&self, manifest: &Manifest, alerts: &[Alert]) -> Result<()> {
        if alerts.is_empty() {
            return Ok(());
        }
        let error = |problem| failed(&manifest.job, &self.name, problem);
        let text = NDJSON.file(alerts).map_err(error)?;
        let writer = Arc::clone(&self.writer);
        // A pipe whose reader pauses blocks the thread.
        let written = tokio::task::spawn_blocking(move || {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.write_all(&text)?;
            writer.flush()
        });
        match written.await.map_err(|e| error(format!("the writer failed: {e}")))? {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                Err(Error::OutputClosed { job: manifest.job.clone(), sink: self.name.clone() })
            }
            Err(e) => Err(error(format!("the findings could not be written: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::tests::{alerts, manifest};

    #[tokio::test]
    async fn each_finding_is_a_line() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = StdoutSink::new("out", Arc::clone(&written) as SharedWriter);
        sink.deliver(&manifest(), &alerts(2)).await.unwrap();
        sink.deliver(&manifest(), &[]).await.unwrap();
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let read: Vec<Alert> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, alerts(2));
        assert!(text.ends_with('\n'));
    }

    #[tokio::test]
    async fn a_closed_pipe_is_told_apart() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let sink = StdoutSink::new("out", Arc::new(Mutex::new(writer)));
        let error = sink.deliver(&manifest(), &alerts(1)).await.unwrap_err();
        assert!(
            matches!(&error, Error::OutputClosed { job, sink } if job == "scan" && sink == "out"),
            "{error}"
        );
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let sink = StdoutSink::new("out", Arc::new(Mutex::new(full)));
        let error = sink.deliver(&manifest(), &alerts(1)).await.unwrap_err();
        assert!(matches!(error, Error::Sink { .. }), "{error}");
    }
}
