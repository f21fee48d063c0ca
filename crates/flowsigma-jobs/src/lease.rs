//! The lease of a job: at most one process runs it.
//!
//! Owns: taking, renewing, checking and releasing it. Must not know: what a run does.
//!
//! A lease is a sequence of generations, each an object that is created once. The holder of generation n may create
//! generation n+1, which renews the lease. Anyone may create it once generation n has ended or was released. Whoever
//! creates it holds the lease, and of two only one can. This needs no conditional update, which a file system lacks.
//!
//! Old generations are deleted. A process that was stopped for very long could create one of them again, so after a
//! creation the generations are listed: the highest one holds the lease.
//!
//! Clocks are compared: an end has passed for others a margin later than for the holder. The holder also uses its
//! monotonic clock, so its lease ends in time if its clock is set back.

mod generation;

use crate::error::{Error, Result};
use crate::store::{Published, Store};
use generation::{Deadline, Generation};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

/// Generations that stay, the newest ones.
const KEPT: u64 = 16;

/// How often a process that others beat tries to take the lease.
const ATTEMPTS: usize = 8;

/// Returns this process in the form of [`Lease::take`]: host and process id.
pub fn this_process() -> String {
    let system = rustix::system::uname();
    format!("{} {}", system.nodename().to_string_lossy(), std::process::id())
}

/// A lease that this process holds. It is renewed in the background until it is released, lost or dropped. Dropping it
/// leaves it to end by itself.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    renewal: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    job: String,
    holder: String,
    /// Tells apart two leases of one process.
    nonce: String,
    duration: Duration,
    held: Mutex<Held>,
    /// The process that has the lease now, once it is lost.
    lost: watch::Sender<Option<String>>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    generation: u64,
    deadline: Deadline,
}

impl Lease {
    /// Takes the lease of a job for a duration of at most a day. `holder` names the process, see [`this_process`].
    ///
    /// # Errors
    ///
    /// [`Error::Leased`] if another one holds it, and other errors if the store fails.
    pub async fn take(store: &Store, job: &str, holder: &str, duration: Duration) -> Result<Self> {
        let nonce = format!("{:032x}", rand::random::<u128>());
        let mut faster = None;
        for _ in 0..ATTEMPTS {
            let newest = store.lease_generations(job).await?.last().copied().unwrap_or(0);
            if newest > 0 {
                // Without it, it was deleted since, so there is a newer one.
                let Some(last) = store.lease::<Generation>(job, newest).await? else { continue };
                if !last.has_ended(Timestamp::now()) {
                    return Err(last.leased(job));
                }
                faster = Some(last);
            }
            // The deadline counts from before the object is written.
            let deadline = Deadline::after(duration);
            let next = Generation::new(holder, &nonce, deadline);
            if store.create_lease(job, newest + 1, &next).await? == Published::Exists {
                continue;
            }
            let generations = store.lease_generations(job).await?;
            if generations.last() != Some(&(newest + 1)) {
                continue;
            }
            let held = Held { generation: newest + 1, deadline };
            let shared = Arc::new(Shared {
                store: store.clone(),
                job: job.into(),
                holder: holder.into(),
                nonce,
                duration,
                held: Mutex::new(held),
                lost: watch::Sender::new(None),
            });
            shared.prune(&generations).await;
            let renewal = tokio::spawn(Arc::clone(&shared).keep());
            return Ok(Self { shared, renewal });
        }
        Err(match faster {
            Some(last) => last.leased(job),
            None => Generation::new("another process", "", Deadline::after(duration)).leased(job),
        })
    }

    /// Returns the process that holds it.
    pub fn holder(&self) -> &str {
        &self.shared.holder
    }

    /// Returns the job.
    pub fn job(&self) -> &str {
        &self.shared.job
    }

    /// Asks the store whether this process holds the lease still. What follows must happen well within the duration.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] if not, and other errors if the store fails.
    pub async fn check(&self) -> Result<()> {
        let shared = &self.shared;
        // A renewal holds the lock at most until the deadline.
        let held = shared.held.lock().await;
        if let Some(holder) = shared.lost.borrow().clone() {
            return Err(shared.lost_to(holder));
        }
        let generations = shared.store.lease_generations(&shared.job).await?;
        let newest = generations.last().copied();
        if newest != Some(held.generation) {
            return Err(shared.lose(newest).await);
        }
        // The listing may have taken long.
        if held.deadline.has_passed() {
            return Err(shared.end(held.deadline));
        }
        Ok(())
    }

    /// Waits until the lease is lost, and returns [`Error::LeaseLost`]. A run gives up what it does then.
    pub async fn lost(&self) -> Error {
        let mut lost = self.shared.lost.subscribe();
        let holder = match lost.wait_for(Option::is_some).await {
            Ok(holder) => holder.clone(),
            // The sender lives as long as this lease.
            Err(_) => None,
        };
        self.shared.lost_to(holder.unwrap_or_else(|| "another process".into()))
    }

    /// Releases the lease: another process can take it at once. A lease that was lost is left as it is.
    ///
    /// # Errors
    ///
    /// If the store fails. The lease then ends by itself.
    pub async fn release(self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        // With the lock no renewal is under way.
        let held = shared.held.lock().await;
        self.renewal.abort();
        if shared.lost.borrow().is_some() || held.deadline.has_passed() {
            return Ok(());
        }
        let released = Generation::released(&shared.holder, &shared.nonce);
        let mut next = held.generation + 1;
        while shared.store.create_lease(&shared.job, next, &released).await? == Published::Exists {
            // A renewal whose response was lost.
            match shared.store.lease::<Generation>(&shared.job, next).await? {
                Some(last) if last.nonce == shared.nonce => next += 1,
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    #[cfg(test)]
    async fn generation(&self) -> u64 {
        self.shared.held.lock().await.generation
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl Shared {
    /// Renews the lease every third of its duration, until it is lost.
    async fn keep(self: Arc<Self>) {
        let mut pause = self.duration / 3;
        loop {
            tokio::time::sleep(pause).await;
            let mut held = self.held.lock().await;
            if self.lost.borrow().is_some() {
                return;
            }
            let remaining = held.deadline.remaining();
            match tokio::time::timeout(remaining, self.renew(&mut held)).await {
                Ok(Ok(())) => pause = self.duration / 3,
                Ok(Err(Error::LeaseLost { .. })) => return,
                Ok(Err(error)) => {
                    tracing::warn!(job = self.job, %error, "the lease was not renewed, trying again");
                    pause = self.duration / 12;
                }
                Err(_) => {}
            }
            if held.deadline.has_passed() {
                self.end(held.deadline);
                return;
            }
        }
    }

    async fn renew(&self, held: &mut Held) -> Result<()> {
        loop {
            if held.deadline.has_passed() {
                return Err(self.end(held.deadline));
            }
            let deadline = Deadline::after(self.duration);
            let next = Generation::new(&self.holder, &self.nonce, deadline);
            let generation = held.generation + 1;
            if self.store.create_lease(&self.job, generation, &next).await? == Published::Exists {
                match self.store.lease::<Generation>(&self.job, generation).await? {
                    // An earlier attempt wrote it, and its response was lost. Its end is not known here, so the old one
                    // stays until the next generation.
                    Some(last) if last.nonce == self.nonce => {
                        held.generation = generation;
                        continue;
                    }
                    _ => {
                        let newest = self.store.lease_generations(&self.job).await?.last().copied();
                        return Err(self.lose(newest).await);
                    }
                }
            }
            let generations = self.store.lease_generations(&self.job).await?;
            if generations.last() != Some(&generation) {
                return Err(self.lose(generations.last().copied()).await);
            }
            *held = Held { generation, deadline };
            self.prune(&generations).await;
            return Ok(());
        }
    }

    /// Deletes old generations. What cannot be deleted now is deleted after the next renewal.
    async fn prune(&self, generations: &BTreeSet<u64>) {
        let limit = generations.last().map_or(0, |newest| newest.saturating_sub(KEPT));
        for generation in generations.range(..=limit) {
            if let Err(error) = self.store.delete_lease(&self.job, *generation).await {
                tracing::warn!(job = self.job, %error, "an old generation of the lease was not deleted");
                return;
            }
        }
    }

    /// Flags the lease as lost to the holder of a generation.
    async fn lose(&self, newest: Option<u64>) -> Error {
        let holder = match newest {
            Some(newest) => match self.store.lease::<Generation>(&self.job, newest).await {
                Ok(Some(last)) => last.holder,
                _ => "another process".into(),
            },
            None => "nobody, since the job was removed from the store".into(),
        };
        self.lost.send_replace(Some(holder.clone()));
        self.lost_to(holder)
    }

    /// Flags the lease as lost because it ended before it was renewed.
    fn end(&self, deadline: Deadline) -> Error {
        let holder = format!("nobody yet; it ended at {}", deadline.wall());
        self.lost.send_replace(Some(holder.clone()));
        self.lost_to(holder)
    }

    fn lost_to(&self, holder: String) -> Error {
        Error::LeaseLost { job: self.job.clone(), holder }
    }
}

#[cfg(test)]
#[path = "lease/tests.rs"]
mod tests;
