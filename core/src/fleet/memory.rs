//! The registry inside this process: the embedded shape's one worker, and tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Fleet, FleetError, GONE_AFTER, WorkerStatus};
use crate::clock::{Clock, UnixMillis};

/// Workers of this process.
#[derive(Debug)]
pub struct MemoryFleet {
    workers: Mutex<BTreeMap<String, Announcement>>,
    clock: Clock,
}

#[derive(Debug)]
struct Announcement {
    worker: WorkerStatus,
    gone_at: UnixMillis,
}

impl MemoryFleet {
    /// A registry without workers; its shared time is `clock`'s.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            workers: Mutex::default(),
            clock,
        }
    }

    /// The workers that are not gone, and the time now.
    fn lock(&self) -> (MutexGuard<'_, BTreeMap<String, Announcement>>, UnixMillis) {
        let now = self.clock.now();
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|_, announcement| announcement.gone_at > now);
        (workers, now)
    }
}

#[async_trait]
impl Fleet for MemoryFleet {
    async fn announce(&self, worker: &WorkerStatus) -> Result<UnixMillis, FleetError> {
        let (mut workers, now) = self.lock();
        let announcement = Announcement {
            worker: worker.clone(),
            gone_at: now.after(GONE_AFTER),
        };
        workers.insert(worker.id.clone(), announcement);
        Ok(now)
    }

    async fn leave(&self, worker_id: &str) -> Result<(), FleetError> {
        self.lock().0.remove(worker_id);
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<WorkerStatus>, FleetError> {
        let (workers, _) = self.lock();
        let announced = workers.values();
        Ok(announced
            .map(|announcement| announcement.worker.clone())
            .collect())
    }

    async fn time(&self) -> Result<UnixMillis, FleetError> {
        Ok(self.clock.now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fleet::suite::worker;

    fn empty() -> std::future::Ready<Arc<dyn Fleet>> {
        std::future::ready(Arc::new(MemoryFleet::new(Clock::default())))
    }

    crate::fleet_suite!(empty);

    #[tokio::test]
    async fn a_silent_worker_is_gone() {
        let clock = Clock::default();
        let fleet = MemoryFleet::new(clock.clone());
        let now = fleet.announce(&worker("a")).await.unwrap();
        fleet.announce(&worker("b")).await.unwrap();
        clock.anchor(UnixMillis(now.0 + 4_000));
        fleet.announce(&worker("b")).await.unwrap();
        assert_eq!(fleet.workers().await.unwrap().len(), 2);
        clock.anchor(now.after(GONE_AFTER));
        assert_eq!(fleet.workers().await.unwrap(), [worker("b")]);
    }
}
