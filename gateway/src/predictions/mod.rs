//! The service: one image, asked for by one client, to one answer or one promise. Knows no HTTP.
//!
//! Cache, then a computation that others may share, then, if the wait runs out, a promise. `docs/ARCHITECTURE.md` tells
//! the same in order of time.

mod ask;
mod recorded;
mod seat;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use selvage_core::cache::{Cache, MemoryCache};
use selvage_core::clock::{Clock, UnixMillis};
use selvage_core::job::{CachePolicy, Job, Lane, ModelName};
use selvage_core::outcome::{Cost, Failure, FailureCode, Outcome, Report};
use selvage_core::output::Output;
use selvage_core::queue::Queue;
use selvage_core::store::JobStore;
use tokio::time::Instant;

pub use ask::{Answer, Ask, Finished, Hit, PredictError, Source};
use seat::Seat;

use crate::admission::{Admission, Full};
use crate::inflight::{Entered, Inflight, Refusal, Ticket, Verdict};
use crate::lanes::Lanes;
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::Metrics;
use crate::promised::{PromiseError, Promised};
use crate::watch::Watch;

/// How one turn of waiting ended.
enum Turn {
    /// A worker has answered; `collapsed` where it was another request's job.
    Reported { report: Report, collapsed: bool },
    /// The job was not queued.
    Refused(Refusal),
    /// The request whose job it was has left, or its reply was lost: ask anew.
    Abandoned,
    /// The wait is over.
    Over,
}

/// The service behind `/predict` and `/jobs`; one per gateway.
#[derive(Debug)]
pub struct Predictions {
    /// Results, shared by all processes.
    pub cache: Arc<dyn Cache>,
    /// This process's own share of them; where workers write elsewhere.
    pub near: Option<MemoryCache>,
    /// The way to the workers.
    pub queue: Arc<dyn Queue>,
    /// Deadlines are made by it.
    pub clock: Clock,
    /// Who waits for what.
    pub inflight: Arc<Inflight>,
    /// Who may begin.
    pub admission: Arc<Admission>,
    /// Depths and rates.
    pub lanes: Arc<Lanes>,
    /// Where recalls are noted.
    pub store: Arc<dyn JobStore>,
    /// Makes promises.
    pub promised: Promised,
    /// Tells when a promised job has ended.
    pub watch: Watch,
    /// Where this gateway is in its life.
    pub life: Arc<Lifecycle>,
    /// What is counted.
    pub metrics: Metrics,
    /// Promises survive this process.
    pub durable: bool,
}

impl Predictions {
    /// Answers or promises.
    ///
    /// # Errors
    /// See [`PredictError`].
    pub async fn answer(&self, ask: &Ask) -> Result<Answer, PredictError> {
        let answer = self.answer_or_promise(ask).await?;
        if let Answer::Finished(finished) = &answer {
            self.metrics.answered(finished);
        }
        Ok(answer)
    }

    async fn answer_or_promise(&self, ask: &Ask) -> Result<Answer, PredictError> {
        let known = self.ask_cache(ask).await;
        if ask.is_recorded() {
            return self.answer_with_record(ask, known).await;
        }
        if let Some(finished) = known {
            return Ok(Answer::Finished(self.keep_for_later(ask, finished).await));
        }
        if self.life.phase() >= Phase::Draining {
            return Err(PredictError::Draining);
        }
        if ask.is_asynchronous() {
            return self.promise(ask, None).await;
        }
        let until = ask.began + ask.wait.min(ask.life);
        loop {
            match self.take_turn(ask, until).await? {
                Turn::Reported { report, collapsed } => {
                    return self.finish(ask, report, collapsed).map(Answer::Finished);
                }
                Turn::Refused(refusal) => return Err(self.refused(ask, refusal)),
                Turn::Abandoned if self.may_go_on(until) => {
                    // The computation may have ended all the same, without its reply.
                    if let Some(finished) = self.ask_cache(ask).await {
                        return Ok(Answer::Finished(finished));
                    }
                }
                Turn::Abandoned | Turn::Over => break,
            }
        }
        self.after_the_wait(ask).await
    }

    /// Records an answer whose client did not mean to wait for it, and may look for its id instead. The answer stands where
    /// that cannot be done.
    async fn keep_for_later(&self, ask: &Ask, finished: Finished) -> Finished {
        if !ask.is_asynchronous() || self.life.phase() >= Phase::Draining {
            return finished;
        }
        let recorded = self.promise(ask, finished.output(ask)).await.is_ok();
        Finished {
            recorded,
            ..finished
        }
    }

    fn may_go_on(&self, until: Instant) -> bool {
        self.life.phase() < Phase::Ending && Instant::now() < until
    }

    /// The answer that is there already, counted as a hit or a miss; as neither where the request skips the cache or the
    /// cache does not answer.
    async fn ask_cache(&self, ask: &Ask) -> Option<Finished> {
        let found = self.look_into_cache(ask).await?;
        match found {
            Some(_) => self.metrics.cache_hits.inc(),
            None => self.metrics.cache_misses.inc(),
        }
        found
    }

    /// What the cache has; `None` where it was not asked or did not answer.
    async fn look_into_cache(&self, ask: &Ask) -> Option<Option<Finished>> {
        if !ask.policy.read {
            return None;
        }
        let Ok(mut found) = self.cache.get(std::slice::from_ref(&ask.key)).await else {
            self.metrics.cache_errors.inc();
            return None;
        };
        let found = found.pop().flatten();
        let taken = found.filter(|found| ask.takes(&found.scores));
        Some(taken.map(|cached| Finished {
            scores: Some(cached.scores),
            cost: Cost::default(),
            attempts: 0,
            source: Source::Cache(Some(Hit {
                ttl: cached.ttl,
                age: UnixMillis::wall().since(cached.made_at),
            })),
            recorded: false,
            total: ask.began.elapsed(),
        }))
    }

    fn is_at_hand(&self, ask: &Ask) -> bool {
        let known = self.cache.at_hand(&ask.key);
        known.is_some_and(|known| ask.takes(&known.scores))
    }

    /// Leads or follows one computation.
    async fn take_turn(&self, ask: &Ask, until: Instant) -> Result<Turn, PredictError> {
        let CachePolicy {
            read: shared,
            write: keep,
        } = ask.policy;
        let ticket = Ticket {
            id: ask.id,
            key: ask.key,
            shared,
            keep,
            until,
        };
        let entered = self.inflight.enter(ticket, || self.admission.admit());
        self.metrics.in_flight.set(in_flight(&self.admission));
        let (mut seat, collapsed) = match entered {
            Err(Full {
                in_flight,
                retry_after,
            }) => {
                return Err(PredictError::Full {
                    waiting: in_flight as u64,
                    retry_after,
                });
            }
            Ok(Entered::Follows(flight, waiting)) => (Seat::new(self, flight, waiting), true),
            // Another request's computation may have ended since the look into the cache.
            Ok(Entered::Leads(_)) if shared && self.is_at_hand(ask) => {
                self.inflight.settle(ask.id, &Verdict::Lapsed);
                self.metrics.in_flight.set(in_flight(&self.admission));
                return Ok(Turn::Abandoned);
            }
            Ok(Entered::Leads(waiting)) => {
                let seat = Seat::new(self, ask.id, waiting);
                self.publish(ask, until);
                (seat, false)
            }
        };
        let verdict = seat.verdict(until).await;
        if verdict.is_none() && !collapsed {
            self.inflight.settle(ask.id, &Verdict::Lapsed);
        }
        Ok(match verdict {
            // The job's deadline was the end of its own client's wait; whoever shares it may wait longer.
            Some(Verdict::Report(report)) if report.outcome == Outcome::Expired => {
                if collapsed {
                    Turn::Abandoned
                } else {
                    Turn::Over
                }
            }
            Some(Verdict::Report(report)) => Turn::Reported { report, collapsed },
            Some(Verdict::Refused(refusal)) => Turn::Refused(refusal),
            Some(Verdict::Lapsed) => Turn::Abandoned,
            None => Turn::Over,
        })
    }

    /// Publishes the job of a flight that was just opened. A refusal reaches everybody on it.
    fn publish(&self, ask: &Ask, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        let Some(reply_to) = self.queue.reply_address() else {
            self.inflight
                .settle(ask.id, &Verdict::Refused(Refusal::Unavailable));
            return;
        };
        let job = Job {
            deadline: self.clock.now().after(left),
            reply_to: Some(reply_to),
            ..ask.job(None)
        };
        let (queue, inflight, id) = (Arc::clone(&self.queue), Arc::clone(&self.inflight), ask.id);
        let mut publishing = Box::pin(async move {
            if let Err(error) = queue.publish(job).await {
                tracing::debug!(job.id = %id, error = %error, "a job was not queued");
                inflight.settle(id, &Verdict::Refused(Refusal::from(&error)));
            }
        });
        // A queue in memory takes a job at once; only one that has to wait for its broker needs a task.
        let mut context = Context::from_waker(Waker::noop());
        if Pin::new(&mut publishing).poll(&mut context).is_pending() {
            self.life.tasks.spawn(publishing);
        }
    }

    fn finish(&self, ask: &Ask, report: Report, collapsed: bool) -> Result<Finished, PredictError> {
        let scores = match report.outcome {
            Outcome::Succeeded(scores) => scores,
            Outcome::Failed(failure) => return Err(PredictError::Failed(failure)),
            Outcome::Canceled => return Err(PredictError::Canceled),
            Outcome::Expired => return Ok(ask.expired()),
        };
        if !ask.takes(&scores) {
            let failure = Failure::new(
                FailureCode::InferenceFailed,
                "the model gave no usable scores",
            );
            return Err(PredictError::Failed(failure));
        }
        let source = match (report.cached, collapsed) {
            (true, _) => Source::Cache(None),
            (false, true) => Source::Collapsed,
            (false, false) => Source::Computed {
                stored: ask.policy.write,
            },
        };
        if collapsed {
            self.metrics.collapsed.inc();
        }
        let Report { cost, attempts, .. } = report;
        Ok(Finished {
            scores: Some(scores),
            cost,
            attempts,
            source,
            recorded: false,
            total: ask.began.elapsed(),
        })
    }

    /// A wait that ran out: the answer may have come into the cache by another way, else the job is promised.
    async fn after_the_wait(&self, ask: &Ask) -> Result<Answer, PredictError> {
        if let Some(Some(finished)) = self.look_into_cache(ask).await {
            return Ok(Answer::Finished(finished));
        }
        // A worker's clock may run before ours: the end of a life that is the wait is not told by ours alone.
        if !ask.outlives_its_wait() || ask.began.elapsed() >= ask.life {
            return Ok(Answer::Finished(ask.expired()));
        }
        // A promise kept in memory would end with the process that is ending.
        if !self.durable && self.life.phase() >= Phase::Draining {
            return Err(PredictError::Draining);
        }
        self.promise(ask, None).await
    }

    /// Makes a promise, or finds the one that the same request was given before.
    async fn promise(&self, ask: &Ask, known: Option<Output>) -> Result<Answer, PredictError> {
        let job = ask.job(Some(ask.promise()));
        match self.promised.submit(job, known).await {
            Ok(record) => Ok(Answer::Recorded(Box::new(record))),
            Err(error) => Err(self.not_promised(&ask.model.name, error)),
        }
    }

    /// What a client is told whose job of this model was not promised.
    pub fn not_promised(&self, model: &ModelName, error: PromiseError) -> PredictError {
        match error {
            PromiseError::Mismatch => PredictError::Mismatch,
            PromiseError::InProgress => PredictError::InProgress,
            PromiseError::Full => self.full(model, Lane::Batch),
            PromiseError::TooLarge => PredictError::TooLarge,
            PromiseError::Broker(source) => PredictError::Broker(Some(source)),
            PromiseError::Store(source) => PredictError::Store(source),
        }
    }

    fn refused(&self, ask: &Ask, refusal: Refusal) -> PredictError {
        match refusal {
            Refusal::Full => self.full(&ask.model.name, Lane::Interactive),
            Refusal::TooLarge => PredictError::TooLarge,
            Refusal::Unavailable => PredictError::Broker(None),
        }
    }

    fn full(&self, model: &ModelName, lane: Lane) -> PredictError {
        let in_flight = self.inflight.len() as u64;
        let waiting = self.lanes.waiting(model, lane, in_flight);
        PredictError::Full {
            waiting,
            retry_after: self.lanes.retry_after(model, lane, waiting),
        }
    }

    /// Takes in what workers say of jobs this gateway published.
    pub fn take(&self, reports: Vec<Report>) {
        self.admission.pace.count(reports.len() as u64);
        for report in reports {
            let id = report.id;
            let scores = match &report.outcome {
                Outcome::Succeeded(scores) => Some(scores.clone()),
                Outcome::Failed(_) | Outcome::Canceled | Outcome::Expired => None,
            };
            // Kept before the flight ends: who finds neither would compute it again.
            if let (Some(near), Some(scores)) = (&self.near, scores)
                && let Some(ticket) = self.inflight.ticket(id).filter(|ticket| ticket.keep)
            {
                near.keep(ticket.key, scores);
            }
            let settled = self.inflight.settle(id, &Verdict::Report(report));
            if settled.is_none() {
                self.metrics.late_reports.inc();
            }
        }
        self.metrics.in_flight.set(in_flight(&self.admission));
    }
}

fn in_flight(admission: &Admission) -> i64 {
    i64::try_from(admission.in_flight()).unwrap_or(i64::MAX)
}
