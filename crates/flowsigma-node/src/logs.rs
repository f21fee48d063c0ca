//! The logs of a process.
//!
//! Owns: where they are written, and their format. Must not know: what is logged.

use std::path::{Path, PathBuf};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// The format of a log line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// The destination of the logs of a process. The default is stderr.
#[derive(Debug, Default)]
pub struct NodeLogs {
    /// The folder of the log files; stderr if `None`.
    pub folder: Option<PathBuf>,
    /// When a new log file is started.
    pub rotation: LogRotation,
    /// The prefix of the file names.
    pub name: String,
    /// Whether each line contains the name and id of its thread.
    pub threads: bool,
}

/// When a new log file is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogRotation {
    /// Every minute.
    Minutely,
    /// Every hour.
    Hourly,
    /// Every day.
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
