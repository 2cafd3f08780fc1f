//! Records of asynchronous jobs: their contract. Backends live beside it and pass one suite.
//!
//! A record is a small state machine. Every change is an atomic compare-and-set on the state, and each operation may be
//! repeated without harm, since a caller that timed out cannot know whether it was done.
//!
//! ```text
//!            submit            claim             complete
//!  (none) ----------> queued --------> running ----------> succeeded | failed
//!                       ^                 |
//!                       +---- release ----+     (takes the attempt back)
//!                       +---- check ------+     (a worker was killed and the message came again: the attempt stays counted)
//!  queued           -- cancel -----------> canceled
//!  running          -- cancel, then complete or release -> canceled     (a running job is asked to stop)
//!  queued | running -- complete(Expired), complete(Canceled)
//!  queued           -- withdraw ---------> (none)       (the broker refused it, and no client knows its id)
//! ```
//! The record of a job with an idempotency key is unconfirmed at first: a repeat of its request is not given its id before
//! `confirm`, `check` or `claim`. [`SUBMIT_LEASE`] after the submission a repeat takes it over. Where it expires unconfirmed,
//! nobody knows of it: it sends no webhook unless `confirm` follows, and a repeat makes a new job.
//! Terminal states are absorbing: the first writer wins, later calls change nothing and return so.

mod entry;
mod memory;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::BoxError;
use crate::clock::UnixMillis;
use crate::job::{Job, JobId, ModelName, Submission};
use crate::job_state::JobState;
use crate::key::{Digest, PredictionKey};
use crate::key_name::KeyName;
use crate::outcome::{Cost, Failure};
use crate::output::Output;
use crate::webhook::{Delivery, Next};
pub use memory::MemoryStore;

/// Starts after which a job that never finished is `failed` / `poison`.
pub const MAX_ATTEMPTS: u32 = 3;

/// How long a submitter has to publish a job with an idempotency key before a repeat of its request may do it: longer than
/// the gateway's limits for writing the record and for the broker's confirm together, 9 s.
pub const SUBMIT_LEASE: Duration = Duration::from_secs(10);

/// Most jobs that one call of [`JobStore::list`] scans.
pub const MOST_SCANNED: usize = 500;

/// Records of asynchronous jobs, as gateways use them.
#[async_trait]
pub trait JobStore: WorkerStore + WebhookOutbox {
    /// Writes a record in state `queued`. A record that is already there stays as it is, and none is written where another
    /// job has the same idempotency key. The key is taken as long as its job's record is there.
    ///
    /// # Errors
    /// [`StoreError`]; the record may have been written all the same.
    async fn submit(&self, seed: &Seed) -> Result<Submitted, StoreError>;

    /// Notes that the broker has the message of a job with an idempotency key: from now on repeats are given its id.
    ///
    /// # Errors
    /// [`StoreError`]; then no client may get the id.
    async fn confirm(&self, id: JobId) -> Result<(), StoreError>;

    /// Forgets a job that was refused after its record had been written. Only touches a job in state `queued`: one that
    /// was started all the same has its record and ends by itself. Where the job has an idempotency key, its record must
    /// be unconfirmed, and `submitter` the id in the seed that last took or wrote it.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn withdraw(&self, id: JobId, submitter: JobId) -> Result<(), StoreError>;

    /// Cancels a job: at once where it is queued, by asking where it runs.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn cancel(&self, id: JobId) -> Result<Cancel, StoreError>;

    /// The records, in the ids' order; `None` for an unknown id.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn get(&self, ids: &[JobId]) -> Result<Vec<Option<Record>>, StoreError>;

    /// Up to `limit` records of one owner, or of nobody's, newest id first, all older than `before`, and in `state` where one
    /// is given. At most [`MOST_SCANNED`] jobs are scanned for them, so a page may be short, or empty, and not the last one. A
    /// long list may leave its oldest jobs out.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(
        &self,
        owner: Option<&KeyName>,
        before: Option<JobId>,
        limit: usize,
        state: Option<JobState>,
    ) -> Result<Page, StoreError>;

    /// How many jobs of each model were submitted and have ended, in the models' order.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn progress(&self, models: &[ModelName]) -> Result<Vec<Progress>, StoreError>;

    /// Up to `limit` records whose deadline has passed and that have no terminal state, oldest deadline first.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn overdue(&self, limit: usize) -> Result<Vec<Record>, StoreError>;

    /// Notes that nobody waits for a job any more, until that moment. It is a job without a record; whoever takes it up drops
    /// it unrun.
    ///
    /// # Errors
    /// [`StoreError`]; then the job may be run for nobody.
    async fn abandon(&self, id: JobId, until: UnixMillis) -> Result<(), StoreError>;
}

/// Records of asynchronous jobs, as workers use them.
#[async_trait]
pub trait WorkerStore: Debug + Send + Sync {
    /// Says for each job of a message that a worker has received, in order, whether it is to be run. Counts nothing: the job
    /// may wait long for a thread, and the worker may be killed meanwhile. A job that is to be run is confirmed, and in state
    /// `queued` again where an earlier start left it `running`. A missing record is written from the job itself, so that a
    /// wiped store loses no queued job, and takes its idempotency key again where that is free.
    ///
    /// # Errors
    /// [`StoreError`]; records may have been written all the same.
    async fn check(&self, seeds: &[Seed]) -> Result<Vec<Claim>, StoreError>;

    /// As [`WorkerStore::check`], when a thread begins the jobs: each that is to be run is in state `running` then, and has one
    /// attempt more.
    ///
    /// # Errors
    /// [`StoreError`]; starts may have been counted all the same.
    async fn claim(&self, seeds: &[Seed]) -> Result<Vec<Claim>, StoreError>;

    /// Takes starts back: the jobs were handed back before they were run. Only touches jobs in state `running`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn release(&self, ids: &[JobId]) -> Result<(), StoreError>;

    /// Puts each job into its terminal state; true where this call did it, false where it had one already or is unknown.
    /// A running job that was asked to stop ends `canceled` whatever the completion says.
    ///
    /// # Errors
    /// [`StoreError`]; some may have been completed all the same.
    async fn complete(&self, completions: &[Completion]) -> Result<Vec<bool>, StoreError>;

    /// Says for each job, in order, whether it was abandoned.
    ///
    /// # Errors
    /// [`StoreError`]; callers go on as if none was.
    async fn abandoned(&self, ids: &[JobId]) -> Result<Vec<bool>, StoreError>;

    /// Whether the store answers now.
    async fn ping(&self) -> bool;
}

/// Webhooks of ended jobs that are to be delivered.
#[async_trait]
pub trait WebhookOutbox: Debug + Send + Sync {
    /// Up to `limit` ended jobs whose webhooks are due, each for this caller alone until `lease` is over: by then it is
    /// [completed](WebhookOutbox::complete_webhook), or another caller's. A webhook is due once when its job ends in a state it is
    /// asked for. Until it has ended, and for [`crate::webhook::KEPT_FOR`] at most, its record is kept beyond the retention.
    ///
    /// # Errors
    /// [`StoreError`]; webhooks may have been leased all the same.
    async fn lease_webhooks(
        &self,
        limit: usize,
        lease: Duration,
    ) -> Result<Vec<Record>, StoreError>;

    /// Notes what has become of a job's webhook, where it was tried, and when it is due again.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn complete_webhook(
        &self,
        id: JobId,
        delivery: Option<&Delivery>,
        next: Next,
    ) -> Result<(), StoreError>;
}

/// What a record is made of at its start: the job without its image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seed {
    /// The job.
    pub id: JobId,
    /// Its model's name.
    pub model: ModelName,
    /// What its answer depends on.
    pub key: PredictionKey,
    /// When it was accepted.
    pub created_at: UnixMillis,
    /// When it expires unless it has finished.
    pub deadline: UnixMillis,
    /// What the job carries besides its image.
    #[serde(flatten)]
    pub submission: Submission,
}

impl Seed {
    /// Digest of the image's bytes.
    #[must_use]
    pub fn image_hash(&self) -> Digest {
        self.submission.image_hash.unwrap_or(self.key.image)
    }

    /// The seed of an asynchronous job; `None` for a synchronous job: it has no record.
    #[must_use]
    pub fn of(job: &Job) -> Option<Self> {
        Some(Self {
            id: job.id,
            model: job.model.clone(),
            key: job.key,
            created_at: job.created_at,
            deadline: job.deadline,
            submission: job.submission.clone()?,
        })
    }
}

/// What the store knows of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What it was accepted with.
    pub seed: Seed,
    /// [`Progress::submitted`] of its model when it was written, itself included; `None` in a record of an earlier version.
    pub number: Option<u64>,
    /// Its state now.
    pub state: JobState,
    /// Starts so far.
    pub attempts: u32,
    /// First start.
    pub started_at: Option<UnixMillis>,
    /// End; present exactly in terminal states.
    pub finished_at: Option<UnixMillis>,
    /// When the record will be forgotten.
    pub expires_at: UnixMillis,
    /// The answer; present exactly in state `succeeded`.
    pub output: Option<Output>,
    /// The reason; present exactly in state `failed`.
    pub failure: Option<Failure>,
    /// What the run that ended it cost.
    pub cost: Cost,
    /// The answer came out of the cache.
    pub cached: bool,
    /// What has become of its webhook, once it was tried.
    pub delivery: Option<Delivery>,
}

/// The counts of a model's jobs since the store was last empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Records that were written and not withdrawn.
    pub submitted: u64,
    /// Jobs of these that have ended, in whatever way.
    pub ended: u64,
}

impl Progress {
    /// Jobs that have not ended.
    #[must_use]
    pub const fn unfinished(self) -> u64 {
        self.submitted.saturating_sub(self.ended)
    }

    /// The estimated queue position of a job with that number, from 1 on: jobs do not end in exactly the order of their
    /// numbers.
    #[must_use]
    pub fn position(self, number: u64) -> u64 {
        number.saturating_sub(self.ended).max(1)
    }
}

/// A part of an owner's list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Records, newest first; fewer than asked for where some have gone, or too few of the jobs scanned are in the state.
    pub records: Vec<Record>,
    /// What the next part is older than; `None` where this is the last part.
    pub next: Option<JobId>,
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// Its record is there, with this number.
    Recorded(Option<u64>),
    /// The same request made this job before; nothing was written.
    Existing(JobId),
    /// The same request is being submitted, and its job is not confirmed; nothing was written.
    InProgress,
    /// The same request was submitted as this job and never confirmed. Its record has the caller's
    /// seed now, but for the id: the caller publishes it under that.
    TakenOver(JobId),
    /// Another request has its idempotency key; nothing was written.
    Mismatch,
}

/// What a worker is to do with a job it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Run it; this is the given start, counted from 1.
    Run(u32),
    /// It has ended already: acknowledge its message.
    Finished,
    /// Its deadline has passed: complete it as expired, or from the cache.
    Overdue,
    /// It was started [`MAX_ATTEMPTS`] times and never ended: complete it as poison.
    Exhausted,
    /// It was asked to stop: complete it as canceled.
    CancelRequested,
}

/// A job's end, to be written into its record.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The job.
    pub id: JobId,
    /// How it ended.
    pub end: End,
    /// What it cost.
    pub cost: Cost,
    /// The answer came out of the cache.
    pub cached: bool,
}

/// A terminal state with what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The labelled answer.
    Succeeded(Output),
    /// The reason.
    Failed(Failure),
    /// The client no longer wanted it.
    Canceled,
    /// Its deadline passed.
    Expired,
}

impl End {
    /// The state this end puts a record into.
    #[must_use]
    pub const fn state(&self) -> JobState {
        match self {
            Self::Succeeded(_) => JobState::Succeeded,
            Self::Failed(_) => JobState::Failed,
            Self::Canceled => JobState::Canceled,
            Self::Expired => JobState::Expired,
        }
    }
}

/// What a cancellation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// It was queued and is canceled now, or was canceled before.
    Canceled,
    /// It runs and was asked to stop.
    Requested,
    /// It had ended in this state.
    Finished(JobState),
    /// No such job.
    Unknown,
}

/// The store could not do it.
#[derive(Debug, thiserror::Error)]
#[error("the job store cannot be reached")]
pub struct StoreError(#[source] pub BoxError);

/// Among the sources of a [`StoreError`]: the store has no room left for records.
#[derive(Debug, thiserror::Error)]
#[error("the job store is full")]
pub struct StoreFull(#[source] pub BoxError);

impl StoreFull {
    /// Whether it is this error, or among its sources.
    #[must_use]
    pub fn is_in(error: &(dyn std::error::Error + 'static)) -> bool {
        std::iter::successors(Some(error), |error| error.source())
            .any(<dyn std::error::Error>::is::<Self>)
    }
}
