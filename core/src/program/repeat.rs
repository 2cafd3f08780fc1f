//! Work that is done again and again.

use std::time::Duration;

use rand::Rng as _;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::BoxError;

/// Ticks of a background task, the first at once. After a tick that was late, the next comes no sooner.
#[must_use]
pub fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Takes turn after turn until `stop` fires, with a pause of about `every` before each: processes that started together do
/// not take theirs together. Only the first of several failures is logged, as "cannot `what`".
pub async fn repeat<F>(every: Duration, what: &str, stop: &CancellationToken, turn: impl Fn() -> F)
where
    F: Future<Output = Result<(), BoxError>>,
{
    let mut failing = false;
    loop {
        let pause = every.mul_f64(rand::rng().random_range(0.8..1.2));
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
        let done = turn().await;
        if let Err(error) = &done
            && !failing
        {
            tracing::warn!(%error, "cannot {what}; retrying");
        }
        failing = done.is_err();
    }
}
