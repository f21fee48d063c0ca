//! What all processes do alike: client, scheduler and executor.
//!
//! Owns: their common options, logs, the runtime, and being told to end. Must not know: which of them
//! it is.

use elastic_client::{Config, ConfigError, ConnectionRegistry};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The options that all processes have.
#[derive(clap::Args, Debug)]
pub struct NodeArgs {
    /// File with this node's connections [default: $FLOWSIGMA_CONFIG, ./flowsigma.toml, then the
    /// user's configuration folder]
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    /// How logs are written to stderr; $RUST_LOG says which
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
    pub fn write_logs(&self, default: &str) {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
        let logs =
            tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).with_env_filter(filter);
        match self.log_format {
            LogFormat::Text => logs.init(),
            LogFormat::Json => logs.json().init(),
        }
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
