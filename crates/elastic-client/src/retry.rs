//! How long to wait before asking again.
//!
//! Owns: the back-off. Must not know: requests, or which of them may be repeated.

use rand::Rng;
use std::time::Duration;

/// Exponential back-off with full jitter, bounded in tries and in length.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Tries after the first.
    pub max_retries: u32,
    /// The first wait's upper bound; doubles with each try.
    pub base: Duration,
    /// No wait is longer.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_retries: 5, base: Duration::from_millis(200), cap: Duration::from_secs(10) }
    }
}

impl RetryPolicy {
    /// The wait before retry number `retry` (from 0). A `Retry-After` wins where it is longer,
    /// up to a minute. Half of the wait is fixed, half drawn, so that slices do not march in step.
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
