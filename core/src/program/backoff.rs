//! Pauses between attempts: exponential, with full jitter, so that a fleet does not come back in step.
//!
//! Full jitter is the variant that spreads best:
//! <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.

use std::time::Duration;

use rand::Rng as _;

/// The pauses of a row of attempts.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses of up to `first`, then up to twice that each time, at most `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    /// For a broker: up to 0.2 s, then up to 5 s.
    #[must_use]
    pub const fn for_broker() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(5))
    }

    /// How long to wait after one more failure.
    pub fn pause(&mut self) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures);
        let ceiling = self.first.saturating_mul(factor).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        rand::rng().random_range(Duration::ZERO..=ceiling)
    }

    /// Starts again after a success.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_ceiling_and_start_again() {
        let (first, longest) = (Duration::from_millis(200), Duration::from_secs(5));
        let mut backoff = Backoff::new(first, longest);
        for failures in 0..40 {
            let ceiling = first.as_secs_f64() * 2_f64.powi(failures);
            let pause = backoff.pause();
            assert!(pause.as_secs_f64() <= ceiling + 1e-9, "{failures}");
            assert!(pause <= longest);
        }
        backoff.reset();
        assert!(backoff.pause() <= first);
    }
}
