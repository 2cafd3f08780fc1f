//! From the queue into the engine: takes deliveries, asks record and cache, and sends each job on its way.
//!
//! The rules are in [`crate::claim`]; here are the calls and the waiting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use selvage_core::cache::Cached;
use selvage_core::catalog::Model;
use selvage_core::job::{Job, Lane};
use selvage_core::outcome::Cost;
use selvage_core::queue::{Consumer, Delivery, QueueError, Settle, split};
use selvage_core::store::{Claim, MAX_ATTEMPTS, Seed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Backends;
use crate::claim::{self, Route, Verdict, Why};
use crate::engine::{Care, End, Ended, Engine, Exclusive, Exits, Pool, Task};
use crate::failpoint;
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
struct Arrival {
    held: Arc<Held>,
    jobs: Vec<Job>,
    starts: u32,
    settle: Box<dyn Settle>,
    room: OwnedSemaphorePermit,
    at: Instant,
    /// Fires when the lane is to end or to pause.
    stop: CancellationToken,
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
        while let Some(delivery) = consumer.next().await {
            let at = Instant::now();
            match held.room(lane, delivery.jobs.len(), stop).await {
                Some(room) if !stop.is_cancelled() => {
                    self.take(held, delivery, room, at, stop).await;
                }
                _ => self.refuse(delivery).await,
            }
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
        let (jobs, at, held) = (arrival.jobs, arrival.at, arrival.held);
        let tickets = Ticket::shares(
            arrival.settle,
            jobs.len(),
            Some(arrival.room),
            &self.settling,
        );
        let task = |(job, ticket)| Task {
            job,
            attempt: 1,
            care: Care::Together,
            arrived: at,
            ticket,
        };
        let tasks = jobs.into_iter().zip(tickets).map(task).collect();
        self.run(&held, tasks).await;
    }

    async fn run(&self, held: &Held, tasks: Vec<Task>) {
        if let Err(tasks) = held.pool.push(tasks) {
            for task in tasks {
                let lane = task.job.lane();
                let ended = task.ends(End::HandedBack, Cost::default());
                self.exits.send(lane, vec![ended]).await;
            }
        }
    }

    /// Jobs with a record, and jobs that were started before: record and cache say what becomes of them.
    async fn decide(self: Arc<Self>, arrival: Arrival, gone: bool) {
        let exclusive = if arrival.starts + 1 >= MAX_ATTEMPTS && !gone {
            let right = self.engine.exclusive();
            match arrival.stop.run_until_cancelled(right).await {
                Some(right) => Some(right),
                None => return self.back(arrival).await,
            }
        } else {
            None
        };
        // With everyone waiting for this job alone there is no time for a store that is away.
        let hurry = CancellationToken::new();
        let patience = if exclusive.is_some() {
            hurry.cancel();
            &hurry
        } else {
            &arrival.stop
        };
        let (cached, claims) = tokio::join!(
            self.cached(&arrival.jobs),
            self.claims(&arrival.jobs, patience)
        );
        let Some(claims) = claims else {
            drop(exclusive);
            // Ends this lane's consumer; it is opened again when the store is back.
            arrival.stop.cancel();
            return self.back(arrival).await;
        };
        failpoint::reach("after_claim", &arrival.jobs);
        self.follow(arrival, cached, claims, exclusive, gone).await;
    }

    async fn back(&self, arrival: Arrival) {
        self.metrics.given_back.inc_by(arrival.jobs.len() as u64);
        arrival.settle.give_back().await;
    }

    /// Per job what the cache has, if the job may look.
    async fn cached(&self, jobs: &[Job]) -> Vec<Option<Cached>> {
        let readers: Vec<_> = jobs
            .iter()
            .filter(|job| job.cache.read)
            .map(|job| job.key)
            .collect();
        if readers.is_empty() {
            return vec![None; jobs.len()];
        }
        let mut found = match self.backends.cache.get(&readers).await {
            Ok(found) => found.into_iter(),
            Err(error) => {
                self.metrics.cache_errors.inc();
                tracing::debug!(error = %error.0, "the cache was not asked");
                Vec::new().into_iter()
            }
        };
        let of = |job: &Job| {
            if job.cache.read {
                found.next().flatten()
            } else {
                None
            }
        };
        jobs.iter().map(of).collect()
    }

    /// Per promised job what its record says. `None`: the store stays away.
    async fn claims(&self, jobs: &[Job], patience: &CancellationToken) -> Option<Vec<Claim>> {
        let seeds: Vec<Seed> = jobs.iter().filter_map(Seed::of).collect();
        if seeds.is_empty() {
            return Some(Vec::new());
        }
        self.insist
            .on(patience, || self.backends.store.claim(&seeds))
            .await
    }

    /// Sends each job where its verdict says.
    async fn follow(
        &self,
        arrival: Arrival,
        cached: Vec<Option<Cached>>,
        claims: Vec<Claim>,
        mut exclusive: Option<Exclusive>,
        gone: bool,
    ) {
        let now = self.backends.clock.now();
        let (starts, at, held) = (arrival.starts, arrival.at, arrival.held);
        let count = arrival.jobs.len();
        let tickets = Ticket::shares(arrival.settle, count, Some(arrival.room), &self.settling);
        let mut claims = claims.into_iter();
        let mut run = Vec::new();
        let mut ended: Vec<Ended> = Vec::new();
        for ((job, ticket), cached) in arrival.jobs.into_iter().zip(tickets).zip(cached) {
            let verdict = match job.promise {
                // A store that answers for fewer jobs than it was asked about is no reason to lose one.
                Some(_) => claims
                    .next()
                    .map_or(Verdict::End(End::HandedBack), |claim| {
                        claim::promised(claim, cached)
                    }),
                None => claim::waited_for(&job, starts, now, cached),
            };
            let mut task = Task {
                job,
                attempt: starts + 1,
                care: Care::Together,
                arrived: at,
                ticket,
            };
            match verdict {
                Verdict::Run(_) if gone => ended.push(task.ends(claim::gone(), Cost::default())),
                Verdict::Run(start) => {
                    task.attempt = start;
                    task.care = match exclusive.take() {
                        Some(right) => Care::Exclusive(right),
                        None if starts > 0 || start > 1 => Care::Alone,
                        None => Care::Together,
                    };
                    run.push(task);
                }
                Verdict::End(end) => ended.push(task.ends(end, Cost::default())),
                Verdict::Settled(why) => self.let_go(task, why),
            }
        }
        drop(exclusive);
        if !ended.is_empty() {
            let lane = ended[0].task.job.lane();
            self.exits.send(lane, ended).await;
        }
        self.run(&held, run).await;
    }

    fn let_go(&self, task: Task, why: Why) {
        match why {
            Why::Finished => {}
            Why::Late => self.metrics.ended(&task.job.model, "expired"),
            Why::Worn => {
                tracing::warn!(job.id = %task.job.id, "a job that was in falling workers' hands was let go");
                self.metrics.ended(&task.job.model, "dropped");
            }
        }
        task.ticket.done();
    }
}
