//! What is known of queues and workers: depths and drain rates, read in the background. Estimates for people and for
//! `Retry-After`; no decision of correctness is made on them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use selvage_core::catalog::Model;
use selvage_core::fleet::{Fleet, WorkerStatus};
use selvage_core::job::{Lane, ModelName};
use selvage_core::queue::Queue;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, Pace, retry_after, span};
use crate::metrics::Metrics;

/// How often depths and workers are read.
const EVERY: Duration = Duration::from_secs(1);
/// Longest time one reading may take.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// A pace to reckon with while none is known: one job a second is slower than any model that ships.
const UNKNOWN_PACE: f64 = 1.0;

/// Depths, rates and workers as they were last read.
#[derive(Debug)]
pub struct Lanes {
    models: Vec<ModelLanes>,
    workers: RwLock<Option<Arc<Vec<WorkerStatus>>>>,
    queue: Arc<dyn Queue>,
    fleet: Arc<dyn Fleet>,
    metrics: Metrics,
}

#[derive(Debug)]
struct ModelLanes {
    name: ModelName,
    interactive: AtomicU64,
    batch: AtomicU64,
    pace: Pace,
}

impl ModelLanes {
    const fn depth(&self, lane: Lane) -> &AtomicU64 {
        match lane {
            Lane::Interactive => &self.interactive,
            Lane::Batch => &self.batch,
        }
    }
}

impl Lanes {
    /// The lanes of every model; nothing is known of them yet.
    #[must_use]
    pub fn new(
        models: &[Arc<Model>],
        queue: Arc<dyn Queue>,
        fleet: Arc<dyn Fleet>,
        metrics: Metrics,
    ) -> Self {
        let lanes = |name: &ModelName| ModelLanes {
            name: name.clone(),
            interactive: AtomicU64::new(0),
            batch: AtomicU64::new(0),
            pace: Pace::default(),
        };
        Self {
            models: models.iter().map(|model| lanes(&model.name)).collect(),
            workers: RwLock::new(None),
            queue,
            fleet,
            metrics,
        }
    }

    /// Reads depths and workers again and again, until `stop` fires.
    pub async fn watch(&self, admission: &Admission, stop: CancellationToken) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            admission.pace.tick();
            self.read_depths().await;
            self.read_workers().await;
        }
    }

    async fn read_depths(&self) {
        for model in &self.models {
            for lane in Lane::ALL {
                let read = timeout(READ_LIMIT, self.queue.depth(&model.name, lane)).await;
                // While the broker is away, what was last read is the best guess.
                let Ok(Ok(depth)) = read else { continue };
                model.depth(lane).store(depth, Ordering::Relaxed);
                let labels = [model.name.as_str(), lane.as_str()];
                let gauge = self.metrics.queue_depth.with_label_values(&labels);
                gauge.set(i64::try_from(depth).unwrap_or(i64::MAX));
            }
        }
    }

    /// Reads the list of workers now; the last known one where the registry is away, `None` where none is known.
    pub async fn read_workers(&self) -> Option<Arc<Vec<WorkerStatus>>> {
        let Ok(Ok(workers)) = timeout(READ_LIMIT, self.fleet.workers()).await else {
            return self.workers();
        };
        self.metrics
            .workers
            .set(i64::try_from(workers.len()).unwrap_or(i64::MAX));
        for model in &self.models {
            let held = workers.iter().flat_map(|worker| &worker.models);
            let finished = held
                .filter(|held| held.name == model.name)
                .map(|held| held.jobs)
                .sum();
            model.pace.set(finished);
            model.pace.tick();
            let gauge = self
                .metrics
                .drain_rate
                .with_label_values(&[model.name.as_str()]);
            gauge.set(model.pace.per_second());
        }
        let workers = Arc::new(workers);
        let known = Some(Arc::clone(&workers));
        *self.workers.write().unwrap_or_else(PoisonError::into_inner) = known;
        Some(workers)
    }

    /// The workers as they were last read; `None` while they never were.
    #[must_use]
    pub fn workers(&self) -> Option<Arc<Vec<WorkerStatus>>> {
        self.workers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Messages waiting in a lane, at most a second old.
    #[must_use]
    pub fn depth(&self, model: &ModelName, lane: Lane) -> u64 {
        self.find(model)
            .map_or(0, |model| model.depth(lane).load(Ordering::Relaxed))
    }

    /// How long a job that stands at `position` of a lane has to wait; slow where no pace is known.
    #[must_use]
    pub fn eta(&self, model: &ModelName, position: u64) -> Duration {
        let known = span(position, self.per_second(model));
        known
            .or_else(|| span(position, UNKNOWN_PACE))
            .unwrap_or_default()
    }

    /// When a client refused by a full lane should come back.
    #[must_use]
    pub fn retry_after(&self, model: &ModelName, lane: Lane) -> Duration {
        retry_after(self.depth(model, lane), self.per_second(model))
    }

    /// Jobs of a model all workers finish in a second.
    #[must_use]
    pub fn per_second(&self, model: &ModelName) -> f64 {
        self.find(model)
            .map_or(0.0, |model| model.pace.per_second())
    }

    fn find(&self, name: &ModelName) -> Option<&ModelLanes> {
        self.models.iter().find(|model| model.name == *name)
    }
}
