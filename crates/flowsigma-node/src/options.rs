//! The options that all processes have.
//!
//! Owns: their names, and applying them. Must not know: which process it is.

use crate::config::{Config, ConfigFileError};
use crate::logs::{LogFormat, NodeLogs};
use std::path::PathBuf;

/// The options that all processes have.
#[derive(clap::Args, Debug)]
pub struct NodeArgs {
    /// Configuration file of this process [default: $FLOWSIGMA_CONFIG, ./flowsigma.toml, then the user's
    /// configuration folder]
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Log format; logs go to stderr unless another option sets a file, and $RUST_LOG filters them
    #[arg(long, global = true, value_enum, default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
}

impl NodeArgs {
    /// Reads the configuration file of this process. It does not read secrets.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Config::load`].
    pub fn load_config(&self) -> Result<Config, ConfigFileError> {
        Config::load(self.config.as_deref())
    }

    /// Starts logging. `$RUST_LOG` sets the filter, and `default` is the filter without it. Call it once in a
    /// process.
    ///
    /// # Errors
    ///
    /// Returns an error if the log files cannot be created.
    pub fn write_logs(&self, default: &str, logs: &NodeLogs) -> std::io::Result<()> {
        logs.write(default, self.log_format)
    }
}
