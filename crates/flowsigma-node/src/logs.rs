//! The logs of a process.
//!
//! Owns: where they are written, and in which form. Must not know: what is logged.

use std::path::{Path, PathBuf};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// The form of a log line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Where the logs of a process are written. By default to stderr.
#[derive(Debug, Default)]
pub struct NodeLogs {
    /// The folder of the files that take them; stderr if none.
    pub folder: Option<PathBuf>,
    /// When another file is begun.
    pub rotation: LogRotation,
    /// What the files' names begin with.
    pub name: String,
    /// Whether each line names its thread.
    pub threads: bool,
}

/// When another log file is begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogRotation {
    /// Each minute.
    Minutely,
    /// Each hour.
    Hourly,
    /// Each day.
    Daily,
    /// Never.
    #[default]
    Never,
}

impl NodeLogs {
    pub(crate) fn write(&self, default: &str, format: LogFormat) -> std::io::Result<()> {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
        let writer = match &self.folder {
            Some(folder) => BoxMakeWriter::new(self.files(folder)?),
            None => BoxMakeWriter::new(std::io::stderr),
        };
        let lines = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_thread_names(self.threads)
            .with_thread_ids(self.threads)
            .with_writer(writer)
            .with_env_filter(filter);
        match format {
            LogFormat::Text => lines.init(),
            LogFormat::Json => lines.json().init(),
        }
        Ok(())
    }

    fn files(&self, folder: &Path) -> std::io::Result<RollingFileAppender> {
        let rotation = match self.rotation {
            LogRotation::Minutely => Rotation::MINUTELY,
            LogRotation::Hourly => Rotation::HOURLY,
            LogRotation::Daily => Rotation::DAILY,
            LogRotation::Never => Rotation::NEVER,
        };
        let files = RollingFileAppender::builder().rotation(rotation).filename_prefix(&self.name);
        files.build(folder).map_err(|e| std::io::Error::other(format!("--log-dir {}: {e}", folder.display())))
    }
}
