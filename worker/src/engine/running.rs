//! The jobs with a record that threads of this process have begun. A repeat that takes over an unconfirmed submission publishes
//! its job again, so there may be several messages of one job: only one of them is run here at a time, and counts an attempt.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use selvage_core::job::JobId;

/// The ids of the jobs.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunningJobs(Arc<Mutex<HashSet<JobId>>>);

/// A job that is running until this is dropped.
#[derive(Debug)]
pub struct RunningJob {
    id: JobId,
    jobs: RunningJobs,
}

impl RunningJobs {
    /// Begins a job; `None` where another message of it is running. That one has a delivery of its own, which comes again
    /// if this process ends.
    pub(crate) fn begin(&self, id: JobId) -> Option<RunningJob> {
        let is_first = self.0.lock().insert(id);
        is_first.then(|| RunningJob {
            id,
            jobs: self.clone(),
        })
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        self.jobs.0.lock().remove(&self.id);
    }
}
