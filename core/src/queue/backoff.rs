//! Pauses between attempts: exponential, with full jitter, so that a fleet does not come back in step.
//!
//! Full jitter is the variant that spreads best:
//! <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.

use std::time::Duration;

use rand::Rng;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);

/// A row of attempts.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after one more failure: anything up to 0.2 s, then up to twice that each time, at most 5 s.
    pub(super) fn pause(&mut self) -> Duration {
        let ceiling = FIRST
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        rand::rng().random_range(Duration::ZERO..=ceiling)
    }

    /// Starts again after a success.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_ceiling_and_start_again() {
        let mut backoff = Backoff::default();
        for failures in 0..40 {
            let ceiling = FIRST.as_secs_f64() * 2_f64.powi(failures);
            let pause = backoff.pause();
            assert!(pause.as_secs_f64() <= ceiling + 1e-9, "{failures}");
            assert!(pause <= LONGEST);
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }
}
