//! Who gets the findings of a window, as a run sees it.
//!
//! Owns: the interface. Must not know: files, servers, or what was delivered before.

use crate::alert::Alert;
use crate::error::Result;
use crate::manifest::Manifest;
use async_trait::async_trait;

/// Delivers the alerts of one revision of a window.
///
/// A delivery is recorded after it has succeeded, so a run that dies between the two delivers the same alerts again. A
/// sink that can recognize an alert by its id writes it once; any other sink may repeat it.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Returns the sink's name, unique within a job. A delivery is recorded under it.
    fn name(&self) -> &str;

    /// Delivers the alerts of the manifest's revision. A run calls it only with alerts.
    ///
    /// # Errors
    ///
    /// If one alert is not known to have arrived. The next run delivers all of them again.
    async fn deliver(&self, manifest: &Manifest, alerts: &[Alert]) -> Result<()>;
}
