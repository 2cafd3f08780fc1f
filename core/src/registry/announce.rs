//! Keeps a process on the list.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{ANNOUNCE_EVERY, Fleet, Member};
use crate::clock::Clock;
use crate::program::ticks;

/// Longest time for one announcement: a reading of the clock that took longer says little about now.
const LIMIT: Duration = Duration::from_secs(1);

/// Announces a process until `stop` fires, then takes it off the list. Each announcement returns the shared time, which sets
/// the clock. A change that notifies `changed` is announced at once.
pub async fn keep_announced(
    (fleet, clock): (&dyn Fleet, &Clock),
    changed: &Notify,
    stop: &CancellationToken,
    member: impl Fn() -> Member,
) {
    let mut ticks = ticks(ANNOUNCE_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
            () = changed.notified() => {}
        }
        let asked = clock.now();
        match timeout(LIMIT, fleet.announce(&member())).await {
            Ok(Ok(now)) => clock.correct(now, asked),
            Ok(Err(error)) => tracing::debug!(error = %error.0, "announcement failed"),
            Err(_late) => tracing::debug!("announcement not answered"),
        }
    }
    // Who cannot say goodbye is missed after a moment anyway.
    timeout(LIMIT, fleet.leave(member().id())).await.ok();
}
