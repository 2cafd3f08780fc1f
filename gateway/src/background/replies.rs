//! Replies of workers, and the end of those that do not come.

use std::sync::Arc;
use std::time::Duration;

use selvage_core::program::ticks;
use selvage_core::queue::Reports;
use tokio_util::sync::CancellationToken;

use crate::service::gateway::Gateway;

/// How often flights nobody waits for any more are ended; it bounds how long a client that left keeps its place.
const EXPIRE_EVERY: Duration = Duration::from_millis(250);

/// Takes in what workers say of this gateway's jobs.
pub async fn take(gateway: Arc<Gateway>, mut reports: Reports, stop: CancellationToken) {
    while let Some(Some(batch)) = stop.run_until_cancelled(reports.recv()).await {
        gateway.predictions.take(batch);
    }
}

/// Ends flights nobody waits for any more. Where replies go to another queue than before, what was on its way to the old
/// one is lost: then all flights end, and whoever waits looks into the cache and asks again.
pub async fn expire(gateway: Arc<Gateway>, stop: CancellationToken) {
    let mut ticks = ticks(EXPIRE_EVERY);
    let mut address = None;
    while let Some(now) = stop.run_until_cancelled(ticks.tick()).await {
        let predictions = &gateway.predictions;
        let current = predictions.queue.reply_address();
        let moved = current.is_some() && address.is_some() && current != address;
        address = current.or(address);
        predictions.inflight.expire((!moved).then_some(now));
    }
}
