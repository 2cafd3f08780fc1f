//! Announces this worker to its fleet, and sets the clock by what the fleet says the time is.

use std::sync::Arc;

use selvage_core::backends::Backends;
use selvage_core::clock::UnixMillis;
use selvage_core::registry::{Ends, Member, ModelStatus, WorkerStatus, keep_announced};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::consume::hosted_model::{HostedModel, LoadedModel};
use crate::metrics::Metrics;

/// What is announced.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    pub(crate) id: String,
    pub(crate) started_at: UnixMillis,
    pub(crate) models: Vec<Arc<HostedModel>>,
    pub(crate) metrics: Metrics,
}

impl Heartbeat {
    /// Announces until `stop` fires; at once where `changed` is notified.
    pub(crate) async fn beat(
        self,
        backends: Backends,
        changed: Arc<Notify>,
        stop: CancellationToken,
    ) {
        let to = (backends.fleet.as_ref(), &backends.clock);
        let status = || Member::Worker(self.status());
        keep_announced(to, &changed, &stop, status).await;
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
        placement: Some(file.pool.placement().clone()),
    }
}

fn small(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}
