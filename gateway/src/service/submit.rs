//! Submits an asynchronous job: record, publish, confirm, in this order. Knows no HTTP.
//!
//! Only what has gone through all three may be answered with a 202.

use std::sync::Arc;
use std::time::Duration;

use selvage_core::BoxError;
use selvage_core::clock::Clock;
use selvage_core::job::{Job, JobId};
use selvage_core::job_state::JobState;
use selvage_core::outcome::Cost;
use selvage_core::output::Output;
use selvage_core::program::{failpoint, trace};
use selvage_core::queue::{PublishError, Queue};
use selvage_core::store::{Completion, End, JobStore, Record, Seed, StoreError, Submitted};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::service::metrics::Metrics;

/// Longest time a record may take to be written.
const STORE_LIMIT: Duration = Duration::from_secs(3);
/// Longest time a confirm may take; the queue's own limit is shorter.
const PUBLISH_LIMIT: Duration = Duration::from_secs(6);
/// How often a submission is tried whose idempotency key belongs to a job that is gone when it is looked up: its request
/// was refused at that moment.
const MAX_ATTEMPTS: usize = 3;
/// Pauses between two looks at a record that another request has not confirmed: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(250));
/// Most submissions under way at once.
const MAX_UNDER_WAY: usize = 1024;

/// Why a job was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// Its queue, or this gateway's share of submissions, is at its bound.
    #[error("the queue is full")]
    Full,
    /// It does not fit into a message.
    #[error("the job is larger than a message may be")]
    TooLarge,
    /// The broker did not confirm it.
    #[error("the broker did not take the job")]
    Broker(#[source] BoxError),
    /// Its record could not be written; nothing was published.
    #[error("the job's record could not be written")]
    Store(#[source] BoxError),
    /// The same request is being submitted, and was not confirmed in time.
    #[error("the same request is being submitted")]
    InProgress,
    /// Another request has its idempotency key.
    #[error("another request has this idempotency key")]
    Mismatch,
}

/// Submits asynchronous jobs.
#[derive(Clone, Debug)]
pub struct Submitter {
    store: Arc<dyn JobStore>,
    queue: Arc<dyn Queue>,
    clock: Clock,
    retention: Duration,
    under_way: Arc<Semaphore>,
    tasks: TaskTracker,
    metrics: Metrics,
}

impl Submitter {
    /// Jobs stored with these; records live for `retention` after their deadline.
    #[must_use]
    pub fn new(
        (store, queue, clock): (Arc<dyn JobStore>, Arc<dyn Queue>, Clock),
        retention: Duration,
        tasks: TaskTracker,
        metrics: Metrics,
    ) -> Self {
        let under_way = Arc::new(Semaphore::new(MAX_UNDER_WAY));
        Self {
            store,
            queue,
            clock,
            retention,
            under_way,
            tasks,
            metrics,
        }
    }

    /// Submits a job that carries a [`selvage_core::job::Submission`]; its record. With an answer that is `known` already the
    /// job has ended, and nothing is published; where the same request has made a job before, that is the one.
    ///
    /// Runs in a task of its own: a client that goes away leaves no half submission behind.
    ///
    /// # Errors
    /// See [`SubmitError`]; a record that was written already is withdrawn.
    pub async fn submit(&self, mut job: Job, known: Option<Output>) -> Result<Record, SubmitError> {
        let Some(seed) = Seed::of(&job) else {
            return Err(SubmitError::Store(
                "a job without a submission has no record".into(),
            ));
        };
        let Ok(permit) = Arc::clone(&self.under_way).try_acquire_owned() else {
            return Err(SubmitError::Full);
        };
        let this = self.clone();
        let submission = self.tasks.spawn(async move {
            let _permit = permit;
            let submitter = seed.id;
            let record = match this.record(seed).await? {
                Start::Earlier(record) => return Ok(*record),
                Start::Publish(record) => *record,
            };
            let id = record.seed.id;
            if let Some(output) = known {
                return this.complete(id, output).await;
            }
            job.id = id;
            this.publish(job, submitter).await?;
            if record.seed.submission.idempotency.is_some() {
                within(this.store.confirm(id)).await?;
            }
            this.metrics.submitted.inc();
            Ok(record)
        });
        match submission.await {
            Ok(submitted) => submitted,
            Err(died) => Err(SubmitError::Store(died.into())),
        }
    }

    /// Writes the record, or finds the one that the same request has made before, once that is confirmed.
    async fn record(&self, seed: Seed) -> Result<Start, SubmitError> {
        let until = Instant::now() + PUBLISH_LIMIT;
        let (mut pause, longest) = PAUSES;
        let mut attempts = 0;
        while attempts < MAX_ATTEMPTS {
            match within(self.store.submit(&seed)).await? {
                Submitted::Recorded(number) => return Ok(self.queued(seed, number)),
                Submitted::Mismatch => return Err(SubmitError::Mismatch),
                Submitted::InProgress if Instant::now() >= until => {
                    return Err(SubmitError::InProgress);
                }
                Submitted::InProgress => {
                    sleep(pause).await;
                    pause = longest.min(pause * 2);
                }
                Submitted::Existing(id) => {
                    if let Some(found) = self.find(id).await? {
                        return Ok(Start::Earlier(Box::new(found)));
                    }
                    attempts += 1;
                }
                Submitted::TakenOver(id) => {
                    return Ok(self.queued(Seed { id, ..seed }, None));
                }
            }
        }
        Err(SubmitError::Store("its job comes and goes".into()))
    }

    async fn find(&self, id: JobId) -> Result<Option<Record>, SubmitError> {
        Ok(within(self.store.get(&[id])).await?.pop().flatten())
    }

    async fn publish(&self, job: Job, submitter: JobId) -> Result<(), SubmitError> {
        let id = job.id;
        failpoint::reach("after_record", [&job]);
        let crashes = failpoint::is_set("after_confirm", [&job.image]);
        let published = timeout(PUBLISH_LIMIT, trace::publish(self.queue.as_ref(), job)).await;
        if crashes {
            std::process::abort();
        }
        let error = match published {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(PublishError::Full)) => SubmitError::Full,
            Ok(Err(PublishError::TooLarge)) => SubmitError::TooLarge,
            Ok(Err(PublishError::Unavailable(source))) => SubmitError::Broker(source),
            Err(elapsed) => SubmitError::Broker(elapsed.into()),
        };
        self.take_back(id, submitter).await;
        Err(error)
    }

    /// Ends a job that was just recorded with an answer out of the cache.
    async fn complete(&self, id: JobId, output: Output) -> Result<Record, SubmitError> {
        let completion = Completion {
            id,
            end: End::Succeeded(output),
            cost: Cost::default(),
            cached: true,
        };
        within(self.store.complete(&[completion])).await?;
        let found = self.find(id).await?;
        found.ok_or_else(|| SubmitError::Store("its record is gone".into()))
    }

    /// Withdraws the record of a job that was refused: no client knows its id, and thousands of refusals a second must not
    /// fill the store. A job that arrives all the same is run and gets a record of its own. Where withdrawing fails, the
    /// sweeper ends the record by its deadline.
    async fn take_back(&self, id: JobId, submitter: JobId) {
        let withdrawn = timeout(STORE_LIMIT, self.store.withdraw(id, submitter)).await;
        if !matches!(withdrawn, Ok(Ok(()))) {
            tracing::warn!(job.id = %id, "a refused job's record could not be withdrawn; the sweeper ends it");
        }
    }

    /// The record as [`JobStore::submit`] wrote it.
    fn queued(&self, seed: Seed, number: Option<u64>) -> Start {
        Start::Publish(Box::new(Record {
            number,
            state: JobState::Queued,
            attempts: 0,
            started_at: None,
            finished_at: None,
            expires_at: seed.deadline.max(self.clock.now()).after(self.retention),
            output: None,
            failure: None,
            cost: Cost::default(),
            cached: false,
            delivery: None,
            seed,
        }))
    }
}

/// What a submission begins with.
enum Start {
    /// The record of the same request's job: it is the answer.
    Earlier(Box<Record>),
    /// The record of this submission, which is to publish its job.
    Publish(Box<Record>),
}

/// What the store answers within its time.
async fn within<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, SubmitError> {
    match timeout(STORE_LIMIT, call).await {
        Ok(answered) => answered.map_err(|StoreError(source)| SubmitError::Store(source)),
        Err(elapsed) => Err(SubmitError::Store(elapsed.into())),
    }
}
