//! Jobs whose clients may have left while they waited: asks the store, and drops those unrun that were abandoned.

use std::sync::Arc;
use std::time::Duration;

use selvage_core::job::{Job, JobId};
use selvage_core::outcome::{Cost, Outcome};
use tokio::time::timeout;

use crate::consume::intake::{Arrival, Intake};
use crate::engine::{End, Task};

/// A client that asked so short a time ago is taken to be there still: a question would cost more than it saves.
const PATIENT: Duration = Duration::from_millis(100);
/// Longest time for the question; without an answer the jobs are run.
const LIMIT: Duration = Duration::from_millis(50);

impl Intake {
    /// Whether any of these jobs has waited so long that its client may have left.
    pub(crate) fn may_be_abandoned(&self, jobs: &[Job]) -> bool {
        let now = self.backends.clock.now();
        jobs.iter().any(|job| now.since(job.created_at) > PATIENT)
    }

    /// Fresh jobs that somebody waited for, and those among them that nobody waits for any more.
    pub(crate) async fn run_unless_abandoned(self: Arc<Self>, arrival: Arrival) {
        let ids: Vec<JobId> = arrival.jobs.iter().map(|job| job.id).collect();
        let asked = timeout(LIMIT, self.backends.store.abandoned(&ids)).await;
        let abandoned = asked.map_or_else(|_| Vec::new(), Result::unwrap_or_default);
        let loaded = Arc::clone(&arrival.loaded);
        let tasks = arrival.into_tasks().into_iter().enumerate();
        let is_abandoned = |(at, _): &(usize, Task)| abandoned.get(*at) == Some(&true);
        let (dropped, wanted): (Vec<_>, Vec<_>) = tasks.partition(is_abandoned);
        let cancel =
            |(_, task): (usize, Task)| task.ends(End::Outcome(Outcome::Canceled), Cost::default());
        let dropped = dropped.into_iter().map(cancel).collect();
        self.completions.send(dropped).await;
        self.run(&loaded, wanted.into_iter().map(|(_, task)| task).collect())
            .await;
    }
}
