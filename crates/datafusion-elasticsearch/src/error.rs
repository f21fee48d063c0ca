//! The conversion of this workspace's errors to `DataFusionError`.
//!
//! Owns: that boundary. A scheduler retries a task only if its error is rooted in an I/O error. Must not know:
//! requests.

use datafusion::error::DataFusionError;

pub(crate) fn from_client(error: elastic_client::Error) -> DataFusionError {
    if error.is_retryable() {
        DataFusionError::IoError(std::io::Error::other(error))
    } else {
        DataFusionError::External(Box::new(error))
    }
}

pub(crate) fn from_arrow(error: elastic_arrow::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
