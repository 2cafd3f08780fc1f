//! Calls that are made again until they succeed.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use crate::BoxError;

/// How a call is retried.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Longest time for one attempt.
    pub attempt: Duration,
    /// The longest first pause, and the longest of all.
    pub pauses: (Duration, Duration),
    /// How long attempts are made.
    pub patience: Duration,
}

impl RetryPolicy {
    /// The call's result; `None` once patience is at its end, or `stop` fires between two attempts. `failed` is called with each
    /// failure and its number, from 1.
    pub async fn run<T, E, F>(
        &self,
        stop: &CancellationToken,
        failed: impl Fn(u32, BoxError),
        call: impl Fn() -> F,
    ) -> Option<T>
    where
        E: Into<BoxError>,
        F: Future<Output = Result<T, E>>,
    {
        let started = Instant::now();
        let mut backoff = Backoff::new(self.pauses.0, self.pauses.1);
        for attempt in 1.. {
            match timeout(self.attempt, call()).await {
                Ok(Ok(value)) => return Some(value),
                Ok(Err(error)) => failed(attempt, error.into()),
                Err(late) => failed(attempt, late.into()),
            }
            let pause = backoff.pause();
            let in_time = started.elapsed() + pause < self.patience;
            if !in_time || stop.run_until_cancelled(sleep(pause)).await.is_none() {
                break;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        attempt: Duration::from_secs(5),
        pauses: (Duration::from_millis(50), Duration::from_secs(2)),
        patience: Duration::from_secs(30),
    };

    #[tokio::test(start_paused = true)]
    async fn a_dependency_that_comes_back_is_waited_for() {
        let failures = Cell::new(0);
        let call = || async {
            match failures.get() {
                0..3 => Err("away"),
                failures => Ok(failures),
            }
        };
        let stop = CancellationToken::new();
        let done = POLICY.run(&stop, |number, _| failures.set(number), call);
        assert_eq!(done.await, Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_is_a_failure() {
        let failures = Cell::new(0);
        let call = || async {
            if failures.get() == 0 {
                std::future::pending::<()>().await;
            }
            Ok::<_, BoxError>(7)
        };
        let stop = CancellationToken::new();
        let done = POLICY.run(&stop, |number, _| failures.set(number), call);
        assert_eq!((done.await, failures.get()), (Some(7), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_without_a_storm_of_calls() {
        let (failures, stop) = (Cell::new(0), CancellationToken::new());
        let started = Instant::now();
        let call = || async { Err::<(), _>("away") };
        let refused = POLICY.run(&stop, |number, _| failures.set(number), call);
        assert_eq!(refused.await, None);
        assert!(started.elapsed() <= POLICY.patience);
        assert!((10..100).contains(&failures.get()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_waiting_but_not_a_call() {
        let (failures, stop) = (Cell::new(0), CancellationToken::new());
        stop.cancel();
        let failed = |number, _| failures.set(number);
        let call = || async { Ok::<_, BoxError>(7) };
        assert_eq!(POLICY.run(&stop, failed, call).await, Some(7));
        let call = || async { Err::<(), _>("away") };
        assert_eq!(POLICY.run(&stop, failed, call).await, None);
        assert_eq!(failures.get(), 1);
    }
}
