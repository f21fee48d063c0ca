//! Deliveries to sinks.
//!
//! Owns: which sink is owed which revision, and in which order. Must not know: what a sink does with alerts.
//!
//! A sink gets the revisions of a window in ascending order, each as the difference to the revision before that was
//! also for it. So a sink that failed at one revision gets that one before the next, and a sink that the job got later
//! gets all findings once.

use super::{Run, Runner};
use crate::alerts::alerts;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::sink::Sink;
use crate::store::Revision;

/// Returns the sinks that some revision must still be delivered to.
pub(super) fn owed(history: &[Revision]) -> Vec<String> {
    let mut owed: Vec<String> = Vec::new();
    for Revision { manifest, deliveries } in history {
        for sink in &manifest.sinks {
            if !deliveries.contains(sink) && !owed.contains(sink) {
                owed.push(sink.clone());
            }
        }
    }
    owed
}

/// Returns the revision that a sink has before the one at an index.
fn previous<'a>(history: &'a [Revision], index: usize, sink: &str) -> Option<&'a Manifest> {
    let is_for_sink = |manifest: &&Manifest| manifest.sinks.iter().any(|name| name == sink);
    history[..index].iter().rev().map(|revision| &revision.manifest).find(is_for_sink)
}

impl Runner<'_> {
    /// Delivers what is owed.
    pub(super) async fn deliver(&self, mut history: Vec<Revision>, counted: bool) -> Result<Run> {
        let mut failures = Vec::new();
        for sink in self.sinks {
            if let Err(error) = self.deliver_to(sink.as_ref(), &mut history).await? {
                tracing::warn!(job = self.job.name, sink = sink.name(), %error, "a sink failed");
                failures.push(error);
            }
        }
        let owed = owed(&history);
        let Revision { manifest, .. } =
            history.pop().expect("a window without a revision was counted before");
        let before = history.last().map(|revision| &revision.manifest);
        Ok(Run { alerts: alerts(before, &manifest), manifest, counted, owed, failures })
    }

    /// Delivers to one sink until it fails. The outer result is the store's.
    async fn deliver_to(&self, sink: &dyn Sink, history: &mut [Revision]) -> Result<Result<()>> {
        let name = sink.name();
        for index in 0..history.len() {
            let Revision { manifest, deliveries } = &history[index];
            if deliveries.contains(name) || !manifest.sinks.iter().any(|n| n == name) {
                continue;
            }
            // The process that has the lease now delivers.
            if let Err(error) = self.lease.check().await {
                return Ok(Err(self.not_delivered(name, &error)));
            }
            let alerts = alerts(previous(history, index, name), manifest);
            if !alerts.is_empty()
                && let Err(error) = sink.deliver(manifest, &alerts).await
            {
                return Ok(Err(error));
            }
            self.store.record_delivery(&self.job.name, manifest.window, manifest.revision, name).await?;
            history[index].deliveries.insert(name.to_owned());
        }
        Ok(Ok(()))
    }

    fn not_delivered(&self, sink: &str, error: &Error) -> Error {
        Error::Sink {
            job: self.job.name.clone(),
            sink: sink.into(),
            problem: match error {
                Error::LeaseLost { holder, .. } => {
                    format!("the lease was lost to {holder} before the delivery")
                }
                other => format!("the lease could not be checked before the delivery: {other}"),
            },
        }
    }
}
