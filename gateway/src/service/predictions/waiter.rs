//! A place among those who wait for one computation. Left before the verdict, it may be the last: then the job is abandoned.

use std::sync::Arc;
use std::time::Duration;

use selvage_core::clock::Clock;
use selvage_core::job::JobId;
use selvage_core::store::JobStore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use crate::service::inflight::{InFlightEntry, Inflight, Verdict, Waiting};
use crate::service::metrics::Metrics;

/// Longest time an abandonment may take to be noted.
const NOTE: Duration = Duration::from_secs(2);
/// How much longer than its job an abandonment lasts: clocks differ a little.
const SLACK: Duration = Duration::from_secs(1);

/// What it takes to leave a computation, and to abandon the job that nobody waits for any more.
#[derive(Clone, Copy)]
pub(super) struct Leaving<'a> {
    pub(super) inflight: &'a Inflight,
    pub(super) store: &'a Arc<dyn JobStore>,
    pub(super) clock: &'a Clock,
    pub(super) metrics: &'a Metrics,
    pub(super) tasks: &'a TaskTracker,
}

/// One waiter. Dropped, because its client has gone or its wait is over, it leaves.
pub(super) struct Waiter<'a> {
    leaving: Leaving<'a>,
    flight: JobId,
    waiting: Option<Waiting>,
}

impl<'a> Waiter<'a> {
    pub(super) const fn new(leaving: Leaving<'a>, flight: JobId, waiting: Waiting) -> Self {
        Self {
            leaving,
            flight,
            waiting: Some(waiting),
        }
    }

    /// The verdict; `None` where it has not come by then.
    pub(super) async fn verdict(&mut self, until: Instant) -> Option<Verdict> {
        let waiting = self.waiting.as_mut()?;
        let verdict = timeout_at(until, waiting).await.ok()?;
        self.waiting = None;
        verdict.ok()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let Some(waiting) = self.waiting.take() else {
            return;
        };
        drop(waiting);
        if let Some(entry) = self.leaving.inflight.leave(self.flight) {
            self.leaving.abandon(&entry);
        }
    }
}

impl Leaving<'_> {
    /// Tells workers not to begin a job that nobody waits for any more.
    fn abandon(&self, entry: &InFlightEntry) {
        self.metrics.abandoned.inc();
        let left = entry.until.saturating_duration_since(Instant::now());
        let until = self.clock.now().after(left + SLACK);
        let (store, id) = (Arc::clone(self.store), entry.id);
        self.tasks.spawn(async move {
            let noted = timeout(NOTE, store.abandon(id, until)).await;
            if !matches!(noted, Ok(Ok(()))) {
                tracing::debug!(job.id = %id, "an abandonment was not noted; the job may be run for nobody");
            }
        });
    }
}
