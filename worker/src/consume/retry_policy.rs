//! Calls to the job store that must succeed: tried again with growing pauses, until they do or it is time to give up.

use std::future::Future;
use std::time::Duration;

use prometheus::IntCounter;
use selvage_core::store::StoreError;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long one call may take; the store has a shorter budget of its own.
const ONE_CALL: Duration = Duration::from_secs(5);
/// How long the store may be away before its jobs go back to the broker: several times what a restart of it takes, and a
/// small part of the half hour after which RabbitMQ takes unsettled deliveries away.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first pause and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How store calls are retried.
#[derive(Clone, Debug)]
pub(crate) struct RetryPolicy {
    /// Counts what failed.
    pub(crate) errors: IntCounter,
}

impl RetryPolicy {
    /// The call's result; `None` once patience is at its end or `stop` fires while the store is away.
    pub(crate) async fn on<T, F>(&self, stop: &CancellationToken, call: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let give_up = Instant::now() + PATIENCE;
        let mut pause = PAUSES.0;
        loop {
            match timeout(ONE_CALL, call()).await {
                Ok(Ok(value)) => return Some(value),
                Ok(Err(StoreError(error))) => {
                    tracing::debug!(%error, "the job store failed; retrying");
                }
                Err(_late) => tracing::debug!("the job store does not answer; retrying"),
            }
            self.errors.inc();
            // Several workers must not come back in step.
            let jittered = pause.mul_f64(rand::random_range(0.5..1.5));
            let in_time = Instant::now() + jittered < give_up;
            if !in_time || stop.run_until_cancelled(sleep(jittered)).await.is_none() {
                return None;
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn retry() -> RetryPolicy {
        RetryPolicy {
            errors: IntCounter::new("errors", "errors").unwrap(),
        }
    }

    fn away() -> StoreError {
        StoreError("away".into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_comes_back_is_waited_for() {
        let calls = AtomicU32::new(0);
        let retry = retry();
        let call = || async {
            match calls.fetch_add(1, Ordering::Relaxed) {
                0..3 => Err(away()),
                call => Ok(call),
            }
        };
        assert_eq!(retry.on(&CancellationToken::new(), call).await, Some(3));
        assert_eq!(retry.errors.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_without_a_storm_of_calls() {
        let retry = retry();
        let started = Instant::now();
        let refused = retry
            .on(&CancellationToken::new(), || async { Err::<(), _>(away()) })
            .await;
        assert_eq!(refused, None);
        assert!(started.elapsed() <= PATIENCE);
        assert!((10..100).contains(&retry.errors.get()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_waiting_but_not_a_call() {
        let stop = CancellationToken::new();
        stop.cancel();
        let retry = retry();
        assert_eq!(retry.on(&stop, || async { Ok(7) }).await, Some(7));
        let refused = retry.on(&stop, || async { Err::<(), _>(away()) }).await;
        assert_eq!((refused, retry.errors.get()), (None, 1));
    }
}
