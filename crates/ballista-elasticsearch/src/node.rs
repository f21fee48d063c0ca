//! What all processes do alike: client, scheduler and executor.
//!
//! Owns: their common options, logs, the runtime, and being told to end. Must not know: which of them
//! it is.

use ballista_core::config::LogRotationPolicy;
use elastic_client::{Config, ConfigError, ConnectionRegistry};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// The options that all processes have.
#[derive(clap::Args, Debug)]
pub struct NodeArgs {
    /// File with this node's connections [default: $FLOWSIGMA_CONFIG, ./flowsigma.toml, then the
    /// user's configuration folder]
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    /// How logs are written, to stderr unless another option says where; $RUST_LOG says which
    #[arg(long, global = true, value_enum, default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl NodeArgs {
    /// The connections of this node's own configuration. Reads no secret yet.
    pub fn registry(&self) -> Result<Arc<ConnectionRegistry>, ConfigError> {
        Ok(Arc::new(ConnectionRegistry::new(Config::load(self.config.as_deref())?.config)))
    }

    /// Writes logs from now on: what `$RUST_LOG` names, or else what `default` does. Once a process.
    ///
    /// # Errors
    ///
    /// If there is no folder for their files.
    pub fn write_logs(&self, default: &str, logs: &NodeLogs) -> std::io::Result<()> {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
        let writer = match &logs.folder {
            Some(folder) => BoxMakeWriter::new(logs.files(folder)?),
            None => BoxMakeWriter::new(std::io::stderr),
        };
        let lines = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_thread_names(logs.threads)
            .with_thread_ids(logs.threads)
            .with_writer(writer)
            .with_env_filter(filter);
        match self.log_format {
            LogFormat::Text => lines.init(),
            LogFormat::Json => lines.json().init(),
        }
        Ok(())
    }
}

/// What Ballista's options say of the logs of a scheduler or executor.
#[derive(Debug, Default)]
pub struct NodeLogs {
    /// Where files of them are written, in place of stderr.
    pub folder: Option<String>,
    /// When another file is begun.
    pub rotation: LogRotationPolicy,
    /// What the files' names begin with.
    pub name: String,
    /// Whether each line names its thread.
    pub threads: bool,
}

impl NodeLogs {
    fn files(&self, folder: &str) -> std::io::Result<RollingFileAppender> {
        let rotation = match self.rotation {
            LogRotationPolicy::Minutely => Rotation::MINUTELY,
            LogRotationPolicy::Hourly => Rotation::HOURLY,
            LogRotationPolicy::Daily => Rotation::DAILY,
            LogRotationPolicy::Never => Rotation::NEVER,
        };
        let files = RollingFileAppender::builder().rotation(rotation).filename_prefix(&self.name);
        files.build(folder).map_err(|e| std::io::Error::other(format!("--log-dir {folder}: {e}")))
    }
}

/// A runtime for plans: they are deep recursions, in debug builds more so.
pub fn node_runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().thread_stack_size(32 << 20).build()
}

/// Returns at Ctrl-C, and at SIGTERM as service managers send it.
pub async fn told_to_end() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        signal = tokio::signal::ctrl_c() => signal,
        _ = terminate.recv() => Ok(()),
    }
}
