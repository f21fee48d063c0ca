//! The options that all processes have.
//!
//! Owns: how they are spelled, and what follows from them. Must not know: which process it is.

use crate::config::{Config, ConfigFileError};
use crate::logs::{LogFormat, NodeLogs};
use std::path::PathBuf;

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

impl NodeArgs {
    /// Reads this process's configuration file. Reads no secret yet.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn load_config(&self) -> Result<Config, ConfigFileError> {
        Config::load(self.config.as_deref())
    }

    /// Writes logs from now on: what `$RUST_LOG` names, or else what `default` does. Once a process.
    ///
    /// # Errors
    ///
    /// If there is no folder for their files.
    pub fn write_logs(&self, default: &str, logs: &NodeLogs) -> std::io::Result<()> {
        logs.write(default, self.log_format)
    }
}
