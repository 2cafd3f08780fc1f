//! Waiting for a condition, with an end.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Asks again until the condition gives a value; fails with what was waited for once `limit` is over.
///
/// # Panics
/// When the limit passes first.
pub async fn eventually<T, F, Fut>(what: &str, limit: Duration, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(
            Instant::now() < end,
            "did not happen within {limit:?}: {what}"
        );
        sleep(Duration::from_millis(20)).await;
    }
}
