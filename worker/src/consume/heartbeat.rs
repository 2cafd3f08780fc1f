//! Announces this worker to its fleet, and sets the clock by what the fleet says the time is.

use std::sync::Arc;
use std::time::Duration;

use selvage_core::clock::{Clock, UnixMillis};
use selvage_core::fleet::{ANNOUNCE_EVERY, Ends, Fleet, Member, ModelStatus, WorkerStatus};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::consume::hosted_model::{HostedModel, LoadedModel};
use crate::metrics::Metrics;

/// Longest time for one announcement: a reading of the clock that took longer says little about now.
const LIMIT: Duration = Duration::from_secs(1);

/// Who announces what to whom.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    pub(crate) id: String,
    pub(crate) started_at: UnixMillis,
    pub(crate) models: Vec<Arc<HostedModel>>,
    pub(crate) fleet: Arc<dyn Fleet>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    /// Notified of a change that must be published at once.
    pub(crate) changed: Arc<Notify>,
}

impl Heartbeat {
    /// Announces until `stop` fires, then takes its leave.
    pub(crate) async fn beat(self, stop: CancellationToken) {
        let mut ticks = interval(ANNOUNCE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
                () = self.changed.notified() => {}
            }
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
        let held = |held: &Arc<HostedModel>| {
            let files = held.files().into_iter().enumerate();
            // What is counted by the model is counted once.
            let ended = |at: usize| match at {
                0 => self.metrics.ends(&held.name),
                _ => Ends::default(),
            };
            let shown = files.map(|(at, file)| shown(held, &file, ended(at)));
            shown.collect::<Vec<_>>()
        };
        WorkerStatus {
            id: self.id.clone(),
            started_at: self.started_at,
            models: self.models.iter().flat_map(held).collect(),
        }
    }
}

fn shown(held: &HostedModel, file: &LoadedModel, ended: Ends) -> ModelStatus {
    let (jobs, batches) = file.pool.counts();
    ModelStatus {
        name: held.name.clone(),
        version: file.model.version.clone(),
        digest: file.model.digest,
        preprocessing: Some(file.model.preprocessing),
        sessions: small(file.pool.sessions()),
        busy: small(file.pool.busy()),
        jobs,
        batches,
        ended,
        taken: held.taken.read(),
    }
}

fn small(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}
