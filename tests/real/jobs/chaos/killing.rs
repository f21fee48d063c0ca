//! Killing a run at a chosen moment.
//!
//! Owns: the moments, and how a process is killed. Must not know: what a run does, or when it is killed.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

const SIGKILL: i32 = 9;

/// When a run is killed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// As it sends this request, from 1: to the server, to the sink or to the store.
    Request(usize),
    /// Once there are so many objects more in the store.
    Objects(usize),
}

/// A run that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) process: u32,
    pub(super) requests: usize,
}

impl Ended {
    pub(super) fn was_killed(&self) -> bool {
        self.status.signal() == Some(SIGKILL)
    }
}

/// Counts the requests of a process, and kills it as it sends one of them.
#[derive(Clone, Default)]
pub(super) struct Counter(Arc<Mutex<Counted>>);

#[derive(Default)]
pub(super) struct Counted {
    pub(super) requests: usize,
    pub(super) kill_at: Option<usize>,
    pub(super) process: Option<Child>,
}

impl Counter {
    /// Reads or changes what was counted. No request passes meanwhile.
    pub(super) fn with<T>(&self, then: impl FnOnce(&mut Counted) -> T) -> T {
        then(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a request. Returns whether the process was killed.
    pub(super) fn request(&self) -> bool {
        self.with(|counted| {
            counted.requests += 1;
            let is_at = counted.kill_at == Some(counted.requests);
            if is_at && let Some(process) = &mut counted.process {
                process.kill().unwrap();
            }
            is_at
        })
    }
}
