//! What is known of queues and workers: depths, counts of jobs and drain rates, read in the background. Estimates for people and for
//! `Retry-After`; no decision of correctness is made on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use selvage_core::catalog::Model;
use selvage_core::clock::{Clock, UnixMillis};
use selvage_core::job::{ModelName, Priority};
use selvage_core::job_state::JobState;
use selvage_core::queue::Queue;
use selvage_core::registry::{Fleet, Members};
use selvage_core::store::{JobStore, Progress, Record};
use serde::Serialize;
use tokio::time::{Instant, timeout};
use utoipa::ToSchema;

use crate::service::admission::{Pace, retry_after, span};
use crate::service::metrics::Metrics;

/// Longest time one reading may take.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// A pace to reckon with while none is known: one job a second is slower than any model that ships.
const UNKNOWN_PACE: f64 = 1.0;

/// Estimates for a queued job: the order in which jobs end is not exactly the order of their submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Queue)]
pub struct QueueView {
    /// Estimated position among the unfinished asynchronous jobs of its model; 1 is next.
    pub position: u64,
    /// Estimated time until it ends, in milliseconds.
    pub eta_ms: u64,
}

/// Depths, rates and processes as they were last read.
#[derive(Debug)]
pub struct Queues {
    models: Vec<ModelQueues>,
    members: RwLock<Option<Listed>>,
    queue: Arc<dyn Queue>,
    store: Arc<dyn JobStore>,
    /// The list of processes.
    pub fleet: Arc<dyn Fleet>,
    clock: Clock,
    metrics: Metrics,
}

/// The processes, and when they were read.
#[derive(Debug)]
struct Listed {
    members: Arc<Members>,
    at: Instant,
}

#[derive(Debug)]
struct ModelQueues {
    name: ModelName,
    interactive: Backlog,
    batch: Backlog,
    /// How fast all jobs finish.
    pace: Pace,
    /// The counts of asynchronous jobs, once they were read: messages of the batch queue hold several.
    progress: Mutex<Option<Progress>>,
    /// How fast asynchronous jobs end.
    progress_pace: Pace,
}

/// What waits in one queue.
#[derive(Debug)]
struct Backlog {
    depth: AtomicU64,
    /// When the queue was last seen empty; the first look, where it never was.
    empty_at: AtomicU64,
}

impl Backlog {
    fn new(now: UnixMillis) -> Self {
        Self {
            depth: AtomicU64::new(0),
            empty_at: AtomicU64::new(now.0),
        }
    }

    fn set(&self, depth: u64, now: UnixMillis) {
        self.depth.store(depth, Ordering::Relaxed);
        if depth == 0 {
            self.empty_at.store(now.0, Ordering::Relaxed);
        }
    }
}

impl ModelQueues {
    const fn priority(&self, priority: Priority) -> &Backlog {
        match priority {
            Priority::Interactive => &self.interactive,
            Priority::Batch => &self.batch,
        }
    }
}

impl Queues {
    /// The queues of every model; nothing is known of them yet.
    #[must_use]
    pub fn new(
        models: &[Arc<Model>],
        (queue, store, fleet): (Arc<dyn Queue>, Arc<dyn JobStore>, Arc<dyn Fleet>),
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        let now = clock.now();
        let queues = |model: &Arc<Model>| ModelQueues {
            name: model.name.clone(),
            interactive: Backlog::new(now),
            batch: Backlog::new(now),
            pace: Pace::default(),
            progress: Mutex::default(),
            progress_pace: Pace::default(),
        };
        Self {
            models: models.iter().map(queues).collect(),
            members: RwLock::new(None),
            queue,
            store,
            fleet,
            clock,
            metrics,
        }
    }

    /// Reads depths, counts of jobs and processes now.
    pub async fn read(&self) {
        let queues = self
            .models
            .iter()
            .flat_map(|model| Priority::ALL.map(|priority| self.read_depth(model, priority)));
        tokio::join!(join_all(queues), self.read_progress(), self.read_members());
    }

    async fn read_depth(&self, model: &ModelQueues, priority: Priority) {
        let read = timeout(READ_LIMIT, self.queue.depth(&model.name, priority)).await;
        // While the broker is away, what was last read is the best guess.
        if let Ok(Ok(depth)) = read {
            model.priority(priority).set(depth, self.clock.now());
        }
        let labels = [model.name.as_str(), priority.as_str()];
        let depth = self.depth(&model.name, priority);
        let gauge = self.metrics.queue_depth.with_label_values(&labels);
        gauge.set(i64::try_from(depth).unwrap_or(i64::MAX));
        let oldest = self.oldest(&model.name, priority).unwrap_or_default();
        let gauge = self.metrics.queue_oldest.with_label_values(&labels);
        gauge.set(oldest.as_secs_f64());
    }

    /// Measures how fast asynchronous jobs end. Where all that were unfinished at the last look have ended, there may have been
    /// nothing to do since, so what was measured is the least.
    async fn read_progress(&self) {
        let names: Vec<ModelName> = self.models.iter().map(|model| model.name.clone()).collect();
        let Ok(Ok(found)) = timeout(READ_LIMIT, self.store.progress(&names)).await else {
            // While the store is away, what was last read is the best guess.
            return;
        };
        for (model, now) in self.models.iter().zip(found) {
            let before = model.progress.lock().replace(now).unwrap_or_default();
            model.progress_pace.set(now.ended);
            if before.unfinished() == 0 {
                model.progress_pace.rest();
            } else if now.ended >= before.submitted {
                model.progress_pace.tick_at_least();
            } else {
                model.progress_pace.tick();
            }
        }
    }

    /// Reads the list of processes now; the last known one where the registry is away, `None` where none is known.
    pub async fn read_members(&self) -> Option<Arc<Members>> {
        let at = Instant::now();
        let Ok(Ok(members)) = timeout(READ_LIMIT, self.fleet.members()).await else {
            return self.members();
        };
        self.metrics
            .workers
            .set(i64::try_from(members.workers.len()).unwrap_or(i64::MAX));
        for model in &self.models {
            let held = members.workers.iter().flat_map(|worker| &worker.models);
            let held = held.filter(|held| held.name == model.name);
            model.pace.set(held.map(|held| held.jobs).sum());
            model.pace.tick();
            let gauge = self
                .metrics
                .drain_rate
                .with_label_values(&[model.name.as_str()]);
            gauge.set(model.pace.per_second());
        }
        let members = Arc::new(members);
        *self.members.write() = Some(Listed {
            members: Arc::clone(&members),
            at,
        });
        Some(members)
    }

    /// The processes as they were last read; `None` while they never were.
    #[must_use]
    pub fn members(&self) -> Option<Arc<Members>> {
        let listed = self.members.read();
        listed.as_ref().map(|listed| Arc::clone(&listed.members))
    }

    /// When the next process falls silent that nothing more is heard of.
    #[must_use]
    pub fn next_silence(&self) -> Option<Instant> {
        let listed = self.members.read();
        let listed = listed.as_ref()?;
        Some(listed.at + listed.members.next_silence()?)
    }

    /// Messages waiting in a queue, at most a second old.
    #[must_use]
    pub fn depth(&self, model: &ModelName, priority: Priority) -> u64 {
        self.find(model).map_or(0, |model| {
            model.priority(priority).depth.load(Ordering::Relaxed)
        })
    }

    /// How long the oldest message of a queue waits at most; `None` for an empty queue.
    ///
    /// RabbitMQ does not show a queue's head. But what waits was made after the youngest job that a worker has taken, and
    /// after the queue was last seen empty. A gateway that never saw it empty and knows of no worker takes its own start for
    /// that moment; then the message may be older.
    #[must_use]
    pub fn oldest(&self, model: &ModelName, priority: Priority) -> Option<Duration> {
        let backlog = self.find(model)?.priority(priority);
        if backlog.depth.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let members = self.members();
        let workers = members.iter().flat_map(|members| &members.workers);
        let held = workers.flat_map(|worker| &worker.models);
        let taken = held
            .filter(|held| held.name == *model)
            .filter_map(|held| held.taken.of(priority))
            .max();
        let empty_at = UnixMillis(backlog.empty_at.load(Ordering::Relaxed));
        let made_after = taken.map_or(empty_at, |taken| taken.max(empty_at));
        Some(self.clock.now().since(made_after))
    }

    /// The estimates for a queued job, from counts that are at most a second old; `None` for another job, and where its number or
    /// the counts are unknown.
    #[must_use]
    pub fn queue_view(&self, record: &Record) -> Option<QueueView> {
        let model = &record.seed.model;
        let number = record.number.filter(|_| record.state == JobState::Queued)?;
        let progress = *self.find(model)?.progress.lock();
        let position = progress?.position(number);
        let eta = self.eta(model, position);
        Some(QueueView {
            position,
            eta_ms: u64::try_from(eta.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// How long the asynchronous job at this queue position has to wait; slow where no pace is known.
    #[must_use]
    pub fn eta(&self, model: &ModelName, position: u64) -> Duration {
        span(position, self.progress_per_second(model))
            .or_else(|| span(position, self.per_second(model)))
            .or_else(|| span(position, UNKNOWN_PACE))
            .unwrap_or_default()
    }

    /// Jobs that wait in a queue, or `known` of them where that is more.
    #[must_use]
    pub fn waiting(&self, model: &ModelName, priority: Priority, known: u64) -> u64 {
        let unfinished =
            |model: &ModelQueues| model.progress.lock().unwrap_or_default().unfinished();
        let counted = match priority {
            Priority::Interactive => known,
            Priority::Batch => self.find(model).map_or(0, unfinished),
        };
        // What was last read may be older than the crowd.
        self.depth(model, priority).max(counted)
    }

    /// When a client refused by a full queue should come back: when what waits there now is done.
    #[must_use]
    pub fn retry_after(&self, model: &ModelName, priority: Priority, waiting: u64) -> Duration {
        let pace = match priority {
            Priority::Batch => self.progress_per_second(model),
            Priority::Interactive => 0.0,
        };
        let pace = if pace > 0.0 {
            pace
        } else {
            self.per_second(model)
        };
        retry_after(waiting, pace)
    }

    fn progress_per_second(&self, model: &ModelName) -> f64 {
        let pace = |model: &ModelQueues| model.progress_pace.per_second();
        self.find(model).map_or(0.0, pace)
    }

    /// Jobs of a model all workers finish in a second.
    #[must_use]
    pub fn per_second(&self, model: &ModelName) -> f64 {
        self.find(model)
            .map_or(0.0, |model| model.pace.per_second())
    }

    fn find(&self, name: &ModelName) -> Option<&ModelQueues> {
        self.models.iter().find(|model| model.name == *name)
    }
}

#[cfg(test)]
mod tests;
