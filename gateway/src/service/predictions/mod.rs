//! The service: one image, asked for by one client, to one answer or one asynchronous job. Knows no HTTP.
//!
//! Cache, then a computation that others may share, then, if the wait runs out, an asynchronous job. `docs/ARCHITECTURE.md` tells
//! the same in order of time.

mod recorded;
mod request;
mod waiter;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use selvage_core::cache::{Cache, MemoryCache};
use selvage_core::clock::{Clock, UnixMillis};
use selvage_core::job::{CachePolicy, Job, ModelName, Priority};
use selvage_core::outcome::{Cost, Failure, FailureCode, Outcome, Report};
use selvage_core::output::Output;
use selvage_core::program::trace;
use selvage_core::queue::Queue;
use selvage_core::store::JobStore;
use tokio::time::{Instant, sleep};

pub use request::{Answer, Finished, Hit, PredictError, PredictRequest, Source};
use waiter::{Leaving, Waiter};

use crate::service::admission::{Admission, Full};
use crate::service::inflight::{Entered, InFlightEntry, Inflight, Refusal, Verdict};
use crate::service::lifecycle::{Lifecycle, Phase};
use crate::service::metrics::Metrics;
use crate::service::queues::Queues;
use crate::service::submit::{SubmitError, Submitter};
use crate::service::watch::Watch;

/// Pause before a job that was queued, and whose reply was lost, is queued again while the broker takes none.
const QUEUE_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How one turn of waiting ended.
enum WaitOutcome {
    /// A worker has answered; `collapsed` where it was another request's job.
    Reported { report: Report, collapsed: bool },
    /// The job was not queued.
    Refused(Refusal),
    /// The request whose job it was has left, or its reply was lost: ask again.
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
    pub local_cache: Option<MemoryCache>,
    /// The way to the workers.
    pub queue: Arc<dyn Queue>,
    /// Deadlines are made by it.
    pub clock: Clock,
    /// Who waits for what.
    pub inflight: Arc<Inflight>,
    /// Who may begin.
    pub admission: Arc<Admission>,
    /// Depths and rates.
    pub queues: Arc<Queues>,
    /// Where abandoned jobs are noted.
    pub store: Arc<dyn JobStore>,
    /// Submits asynchronous jobs.
    pub submitter: Submitter,
    /// Tells when an asynchronous job has ended.
    pub watch: Watch,
    /// Where this gateway is in its life.
    pub life: Arc<Lifecycle>,
    /// What is counted.
    pub metrics: Metrics,
    /// Asynchronous jobs survive this process.
    pub durable: bool,
}

impl Predictions {
    /// Answers, synchronous or by a job.
    ///
    /// # Errors
    /// See [`PredictError`].
    pub async fn answer(&self, request: &PredictRequest) -> Result<Answer, PredictError> {
        let answer = self.answer_or_submission(request).await?;
        if let Answer::Finished(finished) = &answer {
            self.metrics.answered(finished);
        }
        Ok(answer)
    }

    async fn answer_or_submission(&self, request: &PredictRequest) -> Result<Answer, PredictError> {
        let known = self.ask_cache(request).await;
        if request.is_recorded() {
            return self.answer_with_record(request, known).await;
        }
        if let Some(finished) = known {
            return Ok(Answer::Finished(
                self.keep_for_later(request, finished).await,
            ));
        }
        if self.life.phase() >= Phase::Draining {
            return Err(PredictError::Draining);
        }
        if request.is_asynchronous() {
            return self.submission(request, None).await;
        }
        let until = request.began + request.wait.min(request.life);
        let mut was_queued = false;
        loop {
            match self.wait_once(request, until).await? {
                WaitOutcome::Reported { report, collapsed } => {
                    return self
                        .finish(request, report, collapsed)
                        .map(Answer::Finished);
                }
                // After a lost connection replies come before jobs can be sent again.
                WaitOutcome::Refused(Refusal::Unavailable)
                    if was_queued && self.may_go_on(until) =>
                {
                    sleep(QUEUE_AGAIN_AFTER).await;
                }
                WaitOutcome::Refused(refusal) => return Err(self.refused(request, refusal)),
                WaitOutcome::Abandoned if self.may_go_on(until) => {
                    was_queued = true;
                    // The computation may have ended all the same, without its reply.
                    if let Some(finished) = self.ask_cache(request).await {
                        return Ok(Answer::Finished(finished));
                    }
                }
                WaitOutcome::Abandoned | WaitOutcome::Over => break,
            }
        }
        self.after_the_wait(request).await
    }

    /// Records an answer whose client did not mean to wait for it, and may look for its id instead. The answer stands where
    /// that cannot be done.
    async fn keep_for_later(&self, request: &PredictRequest, finished: Finished) -> Finished {
        if !request.is_asynchronous() || self.life.phase() >= Phase::Draining {
            return finished;
        }
        let recorded = self
            .submission(request, finished.output(request))
            .await
            .is_ok();
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
    async fn ask_cache(&self, request: &PredictRequest) -> Option<Finished> {
        let found = self.look_into_cache(request).await?;
        match found {
            Some(_) => self.metrics.cache_hits.inc(),
            None => self.metrics.cache_misses.inc(),
        }
        found
    }

    /// What the cache has; `None` where it was not asked or did not answer.
    async fn look_into_cache(&self, request: &PredictRequest) -> Option<Option<Finished>> {
        if !request.policy.read {
            return None;
        }
        let Ok(mut found) = self.cache.get(std::slice::from_ref(&request.key)).await else {
            self.metrics.cache_errors.inc();
            return None;
        };
        let found = found.pop().flatten();
        let taken = found.filter(|found| request.takes(&found.scores));
        Some(taken.map(|cached| Finished {
            scores: Some(cached.scores),
            cost: Cost::default(),
            attempts: 0,
            source: Source::Cache(Some(Hit {
                ttl: cached.ttl,
                age: UnixMillis::wall().since(cached.made_at),
            })),
            recorded: false,
            total: request.began.elapsed(),
        }))
    }

    fn is_at_hand(&self, request: &PredictRequest) -> bool {
        let known = self.cache.at_hand(&request.key);
        known.is_some_and(|known| request.takes(&known.scores))
    }

    fn leaving(&self) -> Leaving<'_> {
        Leaving {
            inflight: &self.inflight,
            store: &self.store,
            clock: &self.clock,
            metrics: &self.metrics,
            tasks: &self.life.tasks,
        }
    }

    /// Leads or follows one computation.
    async fn wait_once(
        &self,
        request: &PredictRequest,
        until: Instant,
    ) -> Result<WaitOutcome, PredictError> {
        let CachePolicy {
            read: shared,
            write: keep,
        } = request.policy;
        let entry = InFlightEntry {
            id: request.id,
            key: request.key,
            shared,
            keep,
            until,
        };
        let entered = self.inflight.enter(entry, || self.admission.admit());
        self.metrics.in_flight.set(in_flight(&self.admission));
        let (mut waiter, collapsed) = match entered {
            Err(Full {
                in_flight,
                retry_after,
            }) => {
                return Err(PredictError::Full {
                    waiting: in_flight as u64,
                    retry_after,
                });
            }
            Ok(Entered::Follows(flight, waiting)) => {
                (Waiter::new(self.leaving(), flight, waiting), true)
            }
            // Another request's computation may have ended since the look into the cache.
            Ok(Entered::Leads(_)) if shared && self.is_at_hand(request) => {
                self.inflight.settle(request.id, &Verdict::Expired);
                self.metrics.in_flight.set(in_flight(&self.admission));
                return Ok(WaitOutcome::Abandoned);
            }
            Ok(Entered::Leads(waiting)) => {
                let waiter = Waiter::new(self.leaving(), request.id, waiting);
                self.publish(request, until);
                (waiter, false)
            }
        };
        let verdict = waiter.verdict(until).await;
        if verdict.is_none() && !collapsed {
            self.inflight.settle(request.id, &Verdict::Expired);
        }
        Ok(match verdict {
            // The job's deadline was the end of its own client's wait; whoever shares it may wait longer.
            Some(Verdict::Report(report)) if report.outcome == Outcome::Expired => {
                if collapsed {
                    WaitOutcome::Abandoned
                } else {
                    WaitOutcome::Over
                }
            }
            Some(Verdict::Report(report)) => WaitOutcome::Reported { report, collapsed },
            Some(Verdict::Refused(refusal)) => WaitOutcome::Refused(refusal),
            Some(Verdict::Expired) => WaitOutcome::Abandoned,
            None => WaitOutcome::Over,
        })
    }

    /// Publishes the job of a flight that was just opened. A refusal reaches everybody on it.
    fn publish(&self, request: &PredictRequest, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        let Some(reply_to) = self.queue.reply_address() else {
            self.inflight
                .settle(request.id, &Verdict::Refused(Refusal::Unavailable));
            return;
        };
        let job = Job {
            deadline: self.clock.now().after(left),
            reply_to: Some(reply_to),
            ..request.job(None)
        };
        let (queue, inflight, id) = (
            Arc::clone(&self.queue),
            Arc::clone(&self.inflight),
            request.id,
        );
        let mut publishing = Box::pin(async move {
            if let Err(error) = trace::publish(queue.as_ref(), job).await {
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

    fn finish(
        &self,
        request: &PredictRequest,
        report: Report,
        collapsed: bool,
    ) -> Result<Finished, PredictError> {
        let scores = match report.outcome {
            Outcome::Succeeded(scores) => scores,
            Outcome::Failed(failure) => return Err(PredictError::Failed(failure)),
            Outcome::Canceled => return Err(PredictError::Canceled),
            Outcome::Expired => return Ok(request.expired()),
        };
        if !request.takes(&scores) {
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
                stored: request.policy.write,
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
            total: request.began.elapsed(),
        })
    }

    /// A wait that ran out: the answer may have come into the cache by another way, else the job becomes asynchronous.
    async fn after_the_wait(&self, request: &PredictRequest) -> Result<Answer, PredictError> {
        if let Some(Some(finished)) = self.look_into_cache(request).await {
            return Ok(Answer::Finished(finished));
        }
        // A worker's clock may run ahead of this one, so this clock alone does not decide whether the deadline has passed.
        if !request.outlives_its_wait() || request.began.elapsed() >= request.life {
            return Ok(Answer::Finished(request.expired()));
        }
        // A job kept in memory would end with the process that is ending.
        if !self.durable && self.life.phase() >= Phase::Draining {
            return Err(PredictError::Draining);
        }
        self.submission(request, None).await
    }

    /// Submits a job, or finds the one that the same request got before.
    async fn submission(
        &self,
        request: &PredictRequest,
        known: Option<Output>,
    ) -> Result<Answer, PredictError> {
        let job = request.job(Some(request.submission()));
        match self.submitter.submit(job, known).await {
            Ok(record) => Ok(Answer::Recorded(Box::new(record))),
            Err(error) => Err(self.not_submitted(&request.model.name, error)),
        }
    }

    /// The error of a client whose job of this model was not accepted.
    pub fn not_submitted(&self, model: &ModelName, error: SubmitError) -> PredictError {
        match error {
            SubmitError::Mismatch => PredictError::Mismatch,
            SubmitError::InProgress => PredictError::InProgress,
            SubmitError::Full => self.full(model, Priority::Batch),
            SubmitError::TooLarge => PredictError::TooLarge,
            SubmitError::Broker(source) => PredictError::Broker(Some(source)),
            SubmitError::Store(source) => PredictError::Store(source),
        }
    }

    fn refused(&self, request: &PredictRequest, refusal: Refusal) -> PredictError {
        match refusal {
            Refusal::Full => self.full(&request.model.name, Priority::Interactive),
            Refusal::TooLarge => PredictError::TooLarge,
            Refusal::Unavailable => PredictError::Broker(None),
        }
    }

    fn full(&self, model: &ModelName, priority: Priority) -> PredictError {
        let in_flight = self.inflight.len() as u64;
        let waiting = self.queues.waiting(model, priority, in_flight);
        PredictError::Full {
            waiting,
            retry_after: self.queues.retry_after(model, priority, waiting),
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
            if let (Some(local_cache), Some(scores)) = (&self.local_cache, scores)
                && let Some(entry) = self.inflight.entry(id).filter(|entry| entry.keep)
            {
                local_cache.keep(entry.key, scores);
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
