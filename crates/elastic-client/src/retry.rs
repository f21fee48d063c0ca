//! The wait before a retry.
//!
//! Owns: the back-off. Must not know: requests, or which of them are idempotent.

use rand::Rng;
use std::time::Duration;

/// Exponential back-off with jitter, with a limit on the retries and on each wait.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The most attempts after the first one.
    pub max_retries: u32,
    /// The upper bound of the first wait. It doubles with each retry.
    pub base: Duration,
    /// The upper bound of every wait without a `Retry-After`.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_retries: 5, base: Duration::from_millis(200), cap: Duration::from_secs(10) }
    }
}

impl RetryPolicy {
    /// Returns the wait before the retry with this number, from 0.
    ///
    /// A longer `Retry-After` of the server has precedence, up to 60 s. Half of the wait is fixed and half is random,
    /// so that slices do not retry at the same time.
    pub fn delay(&self, retry: u32, retry_after: Option<Duration>, rng: &mut impl Rng) -> Duration {
        let full = self.base.saturating_mul(1 << retry.min(16)).min(self.cap);
        let drawn = full / 2 + full.mul_f64(rng.random_range(0.0..0.5));
        match retry_after {
            Some(asked) => drawn.max(asked.min(Duration::from_secs(60))),
            None => drawn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn waits_grow_stay_under_the_cap_and_honour_retry_after() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        let policy = RetryPolicy::default();
        for retry in 0..20 {
            let full = policy.base.saturating_mul(1 << retry.min(16)).min(policy.cap);
            let wait = policy.delay(retry, None, &mut rng);
            assert!(wait >= full / 2 && wait <= full, "{retry}: {wait:?}");
        }
        assert_eq!(policy.delay(0, Some(Duration::from_secs(7)), &mut rng), Duration::from_secs(7));
        assert_eq!(policy.delay(0, Some(Duration::from_secs(999)), &mut rng), Duration::from_secs(60));
    }
}
