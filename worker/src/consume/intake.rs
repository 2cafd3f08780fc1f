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

use crate::consume::claim::{self, Route};
use crate::consume::elsewhere::Elsewhere;
use crate::consume::hosted_model::{HostedModel, LoadedModel};
use crate::engine::delivery_guard::DeliveryGuard;
use crate::engine::{Completions, End, Engine, Isolation, Task};
use crate::metrics::Metrics;
use selvage_core::backends::Backends;

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
    pub(crate) elsewhere: Elsewhere,
    /// Deliveries that are on their way into the engine.
    pub(crate) tasks: TaskTracker,
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

impl Arrival {
    /// Its jobs as the engine takes them.
    pub(crate) fn into_tasks(self) -> Vec<Task> {
        let guards = DeliveryGuard::shares(self.settle, self.jobs.len(), Some(self.room));
        let task = |(job, delivery_guard)| Task {
            job,
            attempt: self.starts.max(1),
            isolation: Isolation::Together,
            running: None,
            arrived: self.at,
            delivery_guard,
            meaning: self.loaded.model.meaning(),
        };
        self.jobs.into_iter().zip(guards).map(task).collect()
    }
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
            self.give_back(&delivery.jobs, delivery.settle);
        }
    }

    /// Gives jobs back to the broker.
    pub(crate) fn give_back(&self, jobs: &[Job], settle: Box<dyn Settle>) {
        self.metrics.given_back.inc_by(jobs.len() as u64);
        settle.give_back();
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
        let intake = Arc::clone(self);
        let starts = match route {
            Route::Run { starts } => starts,
            Route::GiveBack => return self.give_back(&delivery.jobs, delivery.settle),
            Route::Split => {
                self.tasks.spawn(async move {
                    split(intake.backends.queue.as_ref(), delivery).await;
                    drop(room);
                });
                return;
            }
            Route::Hold | Route::Gone => 0,
        };
        let arrival = Arrival {
            loaded,
            jobs: delivery.jobs,
            starts,
            settle: delivery.settle,
            room,
            at,
            stop: stop.clone(),
        };
        let is_fresh = starts == 0 && arrival.jobs.iter().all(|job| job.submission.is_none());
        if matches!(route, Route::Hold | Route::Gone) {
            let gone = route == Route::Gone;
            self.tasks
                .spawn(intake.foreign(arrival, earlier_deliveries, gone));
        } else if !is_fresh {
            self.tasks.spawn(intake.decide(arrival, false));
        } else if self.may_be_abandoned(&arrival.jobs) {
            self.tasks.spawn(intake.run_unless_abandoned(arrival));
        } else {
            // The gateway has just looked into the cache, so the engine is next.
            let loaded = Arc::clone(&arrival.loaded);
            self.run(&loaded, arrival.into_tasks()).await;
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
        self.give_back(&arrival.jobs, arrival.settle);
    }

    pub(crate) async fn run(&self, loaded: &LoadedModel, tasks: Vec<Task>) {
        if let Err(tasks) = loaded.pool.push(tasks) {
            for task in tasks {
                let ended = task.ends(End::HandedBack, Cost::default());
                self.completions.send(vec![ended]).await;
            }
        }
    }
}
