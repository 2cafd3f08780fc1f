//! Announces this worker to its fleet, and sets the clock by what the fleet says the time is.

use std::sync::Arc;
use std::time::Duration;

use selvage_core::clock::{Clock, UnixMillis};
use selvage_core::fleet::{ANNOUNCE_EVERY, Fleet, HeldModel, Member, WorkerStatus};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::consume::Held;
use crate::metrics::Metrics;

/// Longest time for one announcement: a reading of the clock that took longer says little about now.
const LIMIT: Duration = Duration::from_secs(1);

/// Who announces what to whom.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    pub(crate) id: String,
    pub(crate) started_at: UnixMillis,
    pub(crate) models: Vec<Arc<Held>>,
    pub(crate) fleet: Arc<dyn Fleet>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
}

impl Heartbeat {
    /// Announces until `stop` fires, then takes its leave.
    pub(crate) async fn beat(self, stop: CancellationToken) {
        let mut ticks = interval(ANNOUNCE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let status = Member::Worker(self.status());
            match timeout(LIMIT, self.fleet.announce(&status)).await {
                Ok(Ok(now)) => self.clock.anchor(now),
                Ok(Err(error)) => tracing::debug!(error = %error.0, "nobody heard the heartbeat"),
                Err(_late) => tracing::debug!("nobody answered the heartbeat"),
            }
        }
        // Who cannot say goodbye is missed after a moment anyway.
        timeout(LIMIT, self.fleet.leave(&self.id)).await.ok();
    }

    fn status(&self) -> WorkerStatus {
        let model = |held: &Arc<Held>| {
            let (jobs, batches) = held.pool.counts();
            HeldModel {
                name: held.model.name.clone(),
                version: held.model.version.clone(),
                digest: held.model.digest,
                sessions: small(held.pool.sessions()),
                busy: small(held.pool.busy()),
                jobs,
                batches,
                ended: self.metrics.ends(&held.model.name),
                taken: held.taken.read(),
            }
        };
        WorkerStatus {
            id: self.id.clone(),
            started_at: self.started_at,
            models: self.models.iter().map(model).collect(),
        }
    }
}

fn small(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}
