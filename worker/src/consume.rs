//! Takes deliveries: waits for room, and sends each on its way by the route [`crate::claim`] gives it.
//!
//! What needs record or cache goes on in [`crate::decide`], what may be wanted no more in [`crate::recalled`]; nothing here
//! waits for either.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use selvage_core::catalog::Model;
use selvage_core::clock::UnixMillis;
use selvage_core::fleet::Taken;
use selvage_core::job::{Job, Lane};
use selvage_core::outcome::Cost;
use selvage_core::queue::{Consumer, Delivery, QueueError, Settle, split};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Backends;
use crate::claim::{self, Route};
use crate::engine::{Care, End, Engine, Exits, Pool, Task};
use crate::insist::Insist;
use crate::metrics::Metrics;
use crate::ticket::Ticket;

/// How long a job whose model is not here is kept from coming back at once.
const HOLD: Duration = Duration::from_secs(1);
/// How often a store that is away is asked whether it is back.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Jobs in hand per lane, in full batches of all sessions: one is computed, one waits, two are being written down.
const IN_HAND: usize = 4;

/// A model this worker holds.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) model: Arc<Model>,
    pub(crate) pool: Arc<Pool>,
    interactive: Arc<Semaphore>,
    batch: Arc<Semaphore>,
    /// Most jobs of one lane in hand.
    room: usize,
    /// How far the lanes have been read.
    pub(crate) taken: Progress,
}

/// When the youngest job was made that was taken from each lane, in Unix milliseconds; 0 while none was.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    interactive: AtomicU64,
    batch: AtomicU64,
}

impl Progress {
    fn note(&self, lane: Lane, jobs: &[Job]) {
        let youngest = jobs.iter().map(|job| job.id.made_at().0).max();
        let reached = match lane {
            Lane::Interactive => &self.interactive,
            Lane::Batch => &self.batch,
        };
        reached.fetch_max(youngest.unwrap_or_default(), Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Taken {
        let read = |reached: &AtomicU64| match reached.load(Ordering::Relaxed) {
            0 => None,
            millis => Some(UnixMillis(millis)),
        };
        Taken {
            interactive: read(&self.interactive),
            batch: read(&self.batch),
        }
    }
}

impl Held {
    pub(crate) fn new(model: Arc<Model>, pool: Arc<Pool>) -> Self {
        let room = IN_HAND * pool.max_batch() * pool.sessions();
        Self {
            model,
            pool,
            interactive: Arc::new(Semaphore::new(room)),
            batch: Arc::new(Semaphore::new(room)),
            room,
            taken: Progress::default(),
        }
    }

    /// Waits for room for a delivery's jobs; one with more jobs than there is room waits for all of it.
    async fn room(
        &self,
        lane: Lane,
        jobs: usize,
        stop: &CancellationToken,
    ) -> Option<OwnedSemaphorePermit> {
        let room = Arc::clone(match lane {
            Lane::Interactive => &self.interactive,
            Lane::Batch => &self.batch,
        });
        let wanted = u32::try_from(jobs.min(self.room)).unwrap_or(u32::MAX);
        let permit = room.acquire_many_owned(wanted);
        stop.run_until_cancelled(permit).await?.ok()
    }
}

/// Takes deliveries in.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) backends: Backends,
    pub(crate) engine: Engine,
    pub(crate) exits: Exits,
    pub(crate) metrics: Metrics,
    pub(crate) insist: Insist,
    /// Deliveries that are on their way into the engine.
    pub(crate) tasks: TaskTracker,
    /// Settlements that are on their way to the broker.
    pub(crate) settling: TaskTracker,
}

/// One delivery with all that belongs to it.
pub(crate) struct Arrival {
    pub(crate) held: Arc<Held>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) starts: u32,
    pub(crate) settle: Box<dyn Settle>,
    pub(crate) room: OwnedSemaphorePermit,
    pub(crate) at: Instant,
    /// Fires when the lane is to end or to pause.
    pub(crate) stop: CancellationToken,
}

impl Intake {
    /// Consumes one lane of a model until `shutdown` fires. While the store is away the batch lane pauses: handing its
    /// jobs back and taking them again would only use up their deliveries.
    ///
    /// # Errors
    /// [`QueueError::Refused`] where the broker refuses for good.
    pub(crate) async fn consume(
        self: Arc<Self>,
        held: Arc<Held>,
        lane: Lane,
        prefetch: u16,
        shutdown: CancellationToken,
        opened: impl FnOnce() + Send,
    ) -> Result<(), QueueError> {
        let mut opened = Some(opened);
        while !shutdown.is_cancelled() {
            let stop = shutdown.child_token();
            let name = &held.model.name;
            let consume = self
                .backends
                .queue
                .consume(name, lane, prefetch, stop.clone());
            let Some(consumer) = shutdown.run_until_cancelled(consume).await else {
                break;
            };
            if let Some(opened) = opened.take() {
                opened();
            }
            self.take_all(&held, lane, consumer?, &stop).await;
            self.wait_for_store(&shutdown).await;
        }
        Ok(())
    }

    async fn take_all(
        self: &Arc<Self>,
        held: &Arc<Held>,
        lane: Lane,
        mut consumer: Box<dyn Consumer>,
        stop: &CancellationToken,
    ) {
        // Given back while this consumer lives, they could be handed to it again, and again.
        let mut refused = Vec::new();
        while let Some(delivery) = consumer.next().await {
            let at = Instant::now();
            held.taken.note(lane, &delivery.jobs);
            match held.room(lane, delivery.jobs.len(), stop).await {
                Some(room) if !stop.is_cancelled() => {
                    self.take(held, delivery, room, at, stop).await;
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
        held: &Arc<Held>,
        delivery: Delivery,
        room: OwnedSemaphorePermit,
        at: Instant,
        stop: &CancellationToken,
    ) {
        let route = claim::route(&delivery.jobs, delivery.earlier_deliveries, &held.model);
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
            held: Arc::clone(held),
            jobs: delivery.jobs,
            starts,
            settle: delivery.settle,
            room,
            at,
            stop: stop.clone(),
        };
        let waited_for = arrival.jobs.iter().all(|job| job.promise.is_none());
        match route {
            Route::Hold => drop(self.tasks.spawn(Arc::clone(self).hold(arrival))),
            Route::Run { starts: 0 } if waited_for && self.may_be_recalled(&arrival.jobs) => {
                drop(
                    self.tasks
                        .spawn(Arc::clone(self).run_unless_recalled(arrival)),
                );
            }
            Route::Run { starts: 0 } if waited_for => self.run_at_once(arrival).await,
            _ => {
                let gone = route == Route::Gone;
                drop(self.tasks.spawn(Arc::clone(self).decide(arrival, gone)));
            }
        }
    }

    async fn hold(self: Arc<Self>, arrival: Arrival) {
        tracing::warn!(
            model.name = %arrival.held.model.name,
            "a job for another file of this model was passed on"
        );
        arrival.stop.run_until_cancelled(sleep(HOLD)).await;
        self.metrics.given_back.inc_by(arrival.jobs.len() as u64);
        arrival.settle.give_back().await;
    }

    /// Fresh jobs that somebody waits for: the gateway has just looked into the cache, so the engine is next.
    async fn run_at_once(&self, arrival: Arrival) {
        let held = Arc::clone(&arrival.held);
        let tasks = self.tasks_of(arrival);
        self.run(&held, tasks).await;
    }

    /// Fresh jobs as the engine takes them.
    pub(crate) fn tasks_of(&self, arrival: Arrival) -> Vec<Task> {
        let (jobs, at, room) = (arrival.jobs, arrival.at, Some(arrival.room));
        let tickets = Ticket::shares(arrival.settle, jobs.len(), room, &self.settling);
        let task = |(job, ticket)| Task {
            job,
            attempt: 1,
            care: Care::Together,
            arrived: at,
            ticket,
        };
        jobs.into_iter().zip(tickets).map(task).collect()
    }

    pub(crate) async fn run(&self, held: &Held, tasks: Vec<Task>) {
        if let Err(tasks) = held.pool.push(tasks) {
            for task in tasks {
                let lane = task.job.lane();
                let ended = task.ends(End::HandedBack, Cost::default());
                self.exits.send(lane, vec![ended]).await;
            }
        }
    }
}
