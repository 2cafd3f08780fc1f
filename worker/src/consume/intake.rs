//! Takes deliveries: waits for room, and sends each on its way by the route [`crate::consume::claim`] gives it.
//!
//! What needs record or cache goes on in [`crate::consume::decide`], what may be wanted no more in [`crate::consume::abandoned`]; nothing here
//! waits for either.

use std::sync::Arc;
use std::time::{Duration, Instant};

use selvage_core::job::{Job, Priority};
use selvage_core::outcome::Cost;
use selvage_core::queue::{Consumer, Delivery, QueueError, Settle, split};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::consume::backends::Backends;
use crate::consume::claim::{self, Route};
use crate::consume::elsewhere::Elsewhere;
use crate::consume::hosted_model::{HostedModel, LoadedModel};
use crate::consume::retry_policy::RetryPolicy;
use crate::engine::delivery_guard::DeliveryGuard;
use crate::engine::{Completions, End, Engine, Isolation, Task};
use crate::metrics::Metrics;

/// How long a job whose model file no worker is known to hold is kept from coming back at once.
const HOLD: Duration = Duration::from_secs(1);
/// The same for one whose file another worker holds.
const PASS_ON: Duration = Duration::from_millis(100);
/// How often a store that is away is asked whether it is back.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Takes deliveries in.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) backends: Backends,
    pub(crate) engine: Engine,
    pub(crate) completions: Completions,
    pub(crate) metrics: Metrics,
    pub(crate) retry: RetryPolicy,
    pub(crate) elsewhere: Elsewhere,
    /// Deliveries that are on their way into the engine.
    pub(crate) tasks: TaskTracker,
    /// Settlements that are on their way to the broker.
    pub(crate) settling: TaskTracker,
}

/// One delivery with all that belongs to it.
pub(crate) struct Arrival {
    /// The file its jobs were accepted for; the newest of their model where that is not here.
    pub(crate) loaded: Arc<LoadedModel>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) starts: u32,
    pub(crate) settle: Box<dyn Settle>,
    pub(crate) room: OwnedSemaphorePermit,
    pub(crate) at: Instant,
    /// Fires when the queue is to end or to pause.
    pub(crate) stop: CancellationToken,
}

impl Intake {
    /// Consumes one queue of a model until `shutdown` fires. While the store is away the batch queue pauses: handing its
    /// jobs back and taking them again would only use up their deliveries.
    ///
    /// # Errors
    /// [`QueueError::Refused`] where the broker refuses for good.
    pub(crate) async fn consume(
        self: Arc<Self>,
        held: Arc<HostedModel>,
        priority: Priority,
        prefetch: u16,
        shutdown: CancellationToken,
        opened: impl FnOnce() + Send,
    ) -> Result<(), QueueError> {
        let mut opened = Some(opened);
        while !shutdown.is_cancelled() {
            let stop = shutdown.child_token();
            let name = &held.name;
            let consume = self
                .backends
                .queue
                .consume(name, priority, prefetch, stop.clone());
            let Some(consumer) = shutdown.run_until_cancelled(consume).await else {
                break;
            };
            if let Some(opened) = opened.take() {
                opened();
            }
            self.take_all(&held, priority, consumer?, &stop).await;
            self.wait_for_store(&shutdown).await;
        }
        Ok(())
    }

    async fn take_all(
        self: &Arc<Self>,
        held: &Arc<HostedModel>,
        priority: Priority,
        mut consumer: Box<dyn Consumer>,
        stop: &CancellationToken,
    ) {
        // Given back while this consumer lives, they could be handed to it again, and again.
        let mut refused = Vec::new();
        let metrics = self.metrics.of_priority(&held.name, priority);
        while let Some(delivery) = consumer.next().await {
            let at = Instant::now();
            metrics.arrived(&delivery, self.backends.clock.now());
            held.taken.note(priority, &delivery.jobs);
            match held.room(priority, &delivery.jobs, stop).await {
                Some(room) if !stop.is_cancelled() => {
                    self.take(delivery, room, at, stop).await;
                }
                _ => refused.push(delivery),
            }
        }
        for delivery in refused {
            self.refuse(delivery).await;
        }
    }

    async fn refuse(&self, delivery: Delivery) {
        self.metrics.given_back.inc_by(delivery.jobs.len() as u64);
        delivery.settle.give_back().await;
    }

    async fn wait_for_store(&self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() && !self.backends.store.ping().await {
            shutdown.run_until_cancelled(sleep(LOOK_AGAIN)).await;
        }
    }

    /// Sends a delivery on its way. Only what needs no call is done here; the rest must not delay the next delivery.
    async fn take(
        self: &Arc<Self>,
        delivery: Delivery,
        (loaded, room): (Arc<LoadedModel>, OwnedSemaphorePermit),
        at: Instant,
        stop: &CancellationToken,
    ) {
        let earlier_deliveries = delivery.earlier_deliveries;
        let route = claim::route(&delivery.jobs, earlier_deliveries, &loaded.model);
        let starts = match route {
            Route::Run { starts } => starts,
            Route::GiveBack => return self.refuse(delivery).await,
            Route::Split | Route::Hold | Route::Gone => 0,
        };
        if route == Route::Split {
            let intake = Arc::clone(self);
            self.tasks.spawn(async move {
                split(intake.backends.queue.as_ref(), delivery).await;
                drop(room);
            });
            return;
        }
        let arrival = Arrival {
            loaded,
            jobs: delivery.jobs,
            starts,
            settle: delivery.settle,
            room,
            at,
            stop: stop.clone(),
        };
        let waited_for = arrival.jobs.iter().all(|job| job.submission.is_none());
        match route {
            Route::Hold | Route::Gone => {
                let gone = route == Route::Gone;
                let foreign = Arc::clone(self).foreign(arrival, earlier_deliveries, gone);
                drop(self.tasks.spawn(foreign));
            }
            Route::Run { starts: 0 } if waited_for && self.may_be_abandoned(&arrival.jobs) => {
                drop(
                    self.tasks
                        .spawn(Arc::clone(self).run_unless_abandoned(arrival)),
                );
            }
            Route::Run { starts: 0 } if waited_for => self.run_at_once(arrival).await,
            _ => drop(self.tasks.spawn(Arc::clone(self).decide(arrival, false))),
        }
    }

    /// Jobs for a file that is not here.
    async fn foreign(self: Arc<Self>, arrival: Arrival, earlier_deliveries: u32, gone: bool) {
        if self.elsewhere.holds(&arrival.jobs).await {
            self.pass_on(arrival, earlier_deliveries).await;
        } else if gone {
            self.decide(arrival, true).await;
        } else {
            self.hold(arrival).await;
        }
    }

    /// Another worker holds the file: each job goes to the end of its queue in a new message, until that worker takes it or its
    /// deadline has passed. Given back, it would run out of deliveries, and they would count as starts.
    async fn pass_on(&self, arrival: Arrival, earlier_deliveries: u32) {
        arrival.stop.run_until_cancelled(sleep(PASS_ON)).await;
        let (mut jobs, now) = (arrival.jobs, self.backends.clock.now());
        self.metrics.given_back.inc_by(jobs.len() as u64);
        // Late, it has no use for a worker: nobody waits any more, and a gateway ends its record.
        jobs.retain(|job| now <= job.deadline);
        let delivery = Delivery {
            jobs,
            earlier_deliveries,
            settle: arrival.settle,
        };
        split(self.backends.queue.as_ref(), delivery).await;
    }

    async fn hold(&self, arrival: Arrival) {
        tracing::warn!(
            model.name = %arrival.loaded.model.name,
            "a job for another file of this model was passed on"
        );
        arrival.stop.run_until_cancelled(sleep(HOLD)).await;
        self.metrics.given_back.inc_by(arrival.jobs.len() as u64);
        arrival.settle.give_back().await;
    }

    /// Fresh jobs that somebody waits for: the gateway has just looked into the cache, so the engine is next.
    async fn run_at_once(&self, arrival: Arrival) {
        let loaded = Arc::clone(&arrival.loaded);
        let tasks = self.tasks_of(arrival);
        self.run(&loaded, tasks).await;
    }

    /// Fresh jobs as the engine takes them.
    pub(crate) fn tasks_of(&self, arrival: Arrival) -> Vec<Task> {
        let (jobs, at, room) = (arrival.jobs, arrival.at, Some(arrival.room));
        let labels = &arrival.loaded.model.labels;
        let delivery_guards =
            DeliveryGuard::shares(arrival.settle, jobs.len(), room, &self.settling);
        let task = |(job, delivery_guard)| Task {
            job,
            attempt: 1,
            isolation: Isolation::Together,
            running: None,
            arrived: at,
            delivery_guard,
            labels: Arc::clone(labels),
        };
        jobs.into_iter().zip(delivery_guards).map(task).collect()
    }

    pub(crate) async fn run(&self, loaded: &LoadedModel, tasks: Vec<Task>) {
        if let Err(tasks) = loaded.pool.push(tasks) {
            for task in tasks {
                let priority = task.job.priority();
                let ended = task.ends(End::HandedBack, Cost::default());
                self.completions.send(priority, vec![ended]).await;
            }
        }
    }
}
