//! The adaptive concurrency limit of a connection.
//!
//! Owns: how many requests may be in flight. The limit is halved when the server responds with status 429, and rises by
//! one after as many good responses as the limit. Must not know: requests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// The limit, which all slices of a connection share.
#[derive(Debug)]
pub(crate) struct ConcurrencyLimit {
    permits: Semaphore,
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    /// Permits in use that are not returned when dropped, because the limit is lower than the requests in flight.
    owed: usize,
    /// The number of good responses since the limit last changed.
    good: usize,
    /// How often the limit was lowered.
    lowered: u64,
}

/// The permit to send one request. It is returned when dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    concurrency: &'a ConcurrencyLimit,
    /// `State::lowered` when the permit was acquired.
    lowered: u64,
}

impl ConcurrencyLimit {
    pub(crate) fn new(max: usize) -> Self {
        let state = State { limit: max, owed: 0, good: 0, lowered: 0 };
        Self { permits: Semaphore::new(max), max, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many requests may be in flight now.
    pub(crate) fn limit(&self) -> usize {
        self.state().limit
    }

    pub(crate) async fn acquire(&self) -> Permit<'_> {
        self.permits.acquire().await.expect("the semaphore is never closed").forget();
        Permit { concurrency: self, lowered: self.state().lowered }
    }
}

impl Permit<'_> {
    /// Records a good response. After as many of them as the limit, the limit rises by one.
    pub(crate) fn good(&self) {
        // If the limit is not used up, a good response does not prove that a higher limit would work.
        if self.concurrency.permits.available_permits() > 0 {
            return;
        }
        let mut state = self.concurrency.state();
        state.good += 1;
        if state.good < state.limit || state.limit == self.concurrency.max {
            return;
        }
        state.limit += 1;
        state.good = 0;
        if state.owed > 0 {
            state.owed -= 1;
        } else {
            self.concurrency.permits.add_permits(1);
        }
    }

    /// Records a response with status 429. It is ignored if the limit was lowered after this request was sent.
    pub(crate) fn too_many(&self) {
        let mut state = self.concurrency.state();
        if self.lowered != state.lowered {
            return;
        }
        let limit = (state.limit / 2).max(1);
        let less = state.limit - limit;
        state.limit = limit;
        state.good = 0;
        state.lowered += 1;
        state.owed += less - self.concurrency.permits.forget_permits(less);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.concurrency.state();
        if state.owed > 0 {
            state.owed -= 1;
        } else {
            self.concurrency.permits.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn take_all(concurrency: &ConcurrencyLimit) -> Vec<Permit<'_>> {
        std::iter::from_fn(|| concurrency.acquire().now_or_never()).collect()
    }

    #[test]
    fn it_halves_once_a_round_and_never_lets_more_through_than_the_limit() {
        let concurrency = ConcurrencyLimit::new(8);
        let permits = take_all(&concurrency);
        assert_eq!(permits.len(), 8);
        // All eight requests were in flight at the same time, so the limit is lowered once.
        permits.iter().for_each(Permit::too_many);
        assert_eq!(concurrency.limit(), 4);
        drop(permits);
        let permits = take_all(&concurrency);
        assert_eq!(permits.len(), 4);
        permits[0].too_many();
        assert_eq!(concurrency.limit(), 2);
        drop(permits);
        for _ in 0..3 {
            take_all(&concurrency)[0].too_many();
        }
        assert_eq!((concurrency.limit(), take_all(&concurrency).len()), (1, 1));
    }

    #[test]
    fn it_recovers_by_one_a_round_up_to_the_most() {
        let concurrency = ConcurrencyLimit::new(8);
        let permits = take_all(&concurrency);
        permits[0].too_many();
        // Four permits are owed while the limit rises again.
        permits.iter().take(4).for_each(Permit::good);
        assert_eq!(concurrency.limit(), 5);
        drop(permits);
        assert_eq!(take_all(&concurrency).len(), 5);
        for _ in 0..100 {
            concurrency.acquire().now_or_never().iter().for_each(Permit::good);
        }
        assert_eq!(concurrency.limit(), 5, "one at a time proves nothing");
        for _ in 0..100 {
            take_all(&concurrency).iter().for_each(Permit::good);
        }
        assert_eq!((concurrency.limit(), take_all(&concurrency).len()), (8, 8));
    }
}
