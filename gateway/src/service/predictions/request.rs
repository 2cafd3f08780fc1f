//! What the service is asked, and what it answers: types without behaviour of their own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use selvage_core::BoxError;
use selvage_core::catalog::Model;
use selvage_core::clock::UnixMillis;
use selvage_core::job::{CachePolicy, Idempotency, Job, JobId, Submission};
use selvage_core::job_state::JobState;
use selvage_core::key::{Digest, PredictionKey};
use selvage_core::key_name::KeyName;
use selvage_core::outcome::{Cost, Failure, Scores};
use selvage_core::output::Output;
use selvage_core::store::Record;
use selvage_core::webhook::Webhook;
use serde_json::{Map, Value};
use tokio::time::Instant;

/// One image and all that is asked about it.
#[derive(Clone, Debug)]
pub struct PredictRequest {
    /// The identity of this request's job.
    pub id: JobId,
    /// The model.
    pub model: Arc<Model>,
    /// What the answer depends on.
    pub key: PredictionKey,
    /// Digest of the image's bytes.
    pub image_hash: Digest,
    /// The encoded image.
    pub image: Bytes,
    /// How the cache may be used.
    pub policy: CachePolicy,
    /// Values in a usable answer where that is no result of the model: one per pixel and channel of the picture itself.
    pub values: Option<usize>,
    /// Labels in the answer.
    pub top_k: u16,
    /// The client's own data.
    pub metadata: Map<String, Value>,
    /// The owner of the job, should it become asynchronous.
    pub owner: Option<KeyName>,
    /// How long the client waits; zero makes it asynchronous at once.
    pub wait: Duration,
    /// How long the job may live at most.
    pub life: Duration,
    /// When it was accepted, by the shared clock.
    pub created_at: UnixMillis,
    /// When it was accepted, by this process's clock.
    pub began: Instant,
    /// The request's id.
    pub request_id: Arc<str>,
    /// W3C trace context.
    pub traceparent: Option<Arc<str>>,
    /// What makes it the same request when it is repeated.
    pub idempotency: Option<Idempotency>,
    /// Where its webhook is delivered.
    pub webhook: Option<Webhook>,
}

/// What a client gets.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The job has ended within the wait; there is no record.
    Finished(Finished),
    /// The job has a record: it is asynchronous, or has ended.
    Recorded(Box<Record>),
}

/// A job that ended within the wait.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// The answer, as many values as were asked for; `None` for a job whose life was over first.
    pub scores: Option<Scores>,
    /// What it cost.
    pub cost: Cost,
    /// Starts; 0 where no worker was asked.
    pub attempts: u32,
    /// Where the answer came from.
    pub source: Source,
    /// Whether a record keeps it for later.
    pub recorded: bool,
    /// From acceptance to answer.
    pub total: Duration,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Out of the cache, with what the gateway knows of the entry; nothing where a worker found it.
    Cache(Option<Hit>),
    /// Computed for this request; `stored` where it is in the cache now.
    Computed {
        /// In the cache now.
        stored: bool,
    },
    /// Computed for another request of the same moment.
    Collapsed,
    /// Nowhere: the job expired.
    Nowhere,
}

/// An entry of the cache that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// How long it stays unless it is asked for again.
    pub ttl: Duration,
    /// How long ago the answer was computed.
    pub age: Duration,
}

impl Source {
    /// Whether the job object says `cached`.
    #[must_use]
    pub const fn is_cache(self) -> bool {
        matches!(self, Self::Cache(_))
    }

    /// The word metrics have for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cache(_) => "cache",
            Self::Computed { .. } => "computed",
            Self::Collapsed => "collapsed",
            Self::Nowhere => "nowhere",
        }
    }
}

/// Why a client gets neither.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// All places, or the queue, are taken.
    #[error("{waiting} jobs are waiting")]
    Full {
        /// Jobs waiting.
        waiting: u64,
        /// When to come back.
        retry_after: Duration,
    },
    /// The image does not fit into a message.
    #[error("the image is larger than a message may be")]
    TooLarge,
    /// Jobs cannot be queued now.
    #[error("the broker does not take messages")]
    Broker(#[source] Option<BoxError>),
    /// Records cannot be written now.
    #[error("records cannot be written")]
    Store(#[source] BoxError),
    /// Another request has the same idempotency key.
    #[error("another request has this idempotency key")]
    Mismatch,
    /// The same request is being submitted, and was not confirmed in time.
    #[error("the same request is being submitted")]
    InProgress,
    /// The gateway is shutting down.
    #[error("this gateway is shutting down")]
    Draining,
    /// The job failed for good.
    #[error("{}", .0.detail)]
    Failed(Failure),
    /// Somebody canceled the job.
    #[error("the job was canceled")]
    Canceled,
}

impl PredictRequest {
    /// Whether the job has a record from its beginning, also where the client waits: a repeat must find it, and a webhook
    /// tells of it.
    pub(super) const fn is_recorded(&self) -> bool {
        self.idempotency.is_some() || self.webhook.is_some()
    }

    /// Whether the client wants the job's id instead of its answer.
    pub(super) fn is_asynchronous(&self) -> bool {
        self.wait.is_zero() && self.outlives_its_wait()
    }

    /// Whether the job goes on when its client's wait is over. Otherwise it cannot become asynchronous.
    pub(super) fn outlives_its_wait(&self) -> bool {
        self.life > self.wait
    }

    /// The submission of the job that answers this.
    pub(super) fn submission(&self) -> Submission {
        Submission {
            version: self.model.version.clone(),
            top_k: self.top_k,
            metadata: self.metadata.clone(),
            idempotency: self.idempotency,
            owner: self.owner.clone(),
            webhook: self.webhook.clone(),
            retry_of: None,
            image_hash: (self.image_hash != self.key.image).then_some(self.image_hash),
        }
    }

    /// The job that answers this; asynchronous where `submission` is given.
    pub(super) fn job(&self, submission: Option<Submission>) -> Job {
        Job {
            id: self.id,
            model: self.model.name.clone(),
            key: self.key,
            created_at: self.created_at,
            deadline: self.created_at.after(self.life),
            cache: self.policy,
            earlier_attempts: 0,
            reply_to: None,
            request_id: Some(Arc::clone(&self.request_id)),
            traceparent: self.traceparent.clone(),
            submission,
            image: self.image.clone(),
        }
    }

    /// Whether these can be the answer: they are of this model.
    pub(super) fn takes(&self, scores: &Scores) -> bool {
        match self.values {
            Some(values) => scores.as_slice().len() == values,
            None => self.model.meaning().fits(scores),
        }
    }

    /// The end of a job whose life was over before its answer.
    pub(super) fn expired(&self) -> Finished {
        Finished {
            scores: None,
            cost: Cost::default(),
            attempts: 0,
            source: Source::Nowhere,
            recorded: false,
            total: self.began.elapsed(),
        }
    }
}

impl Finished {
    /// The answer as a client sees it.
    #[must_use]
    pub fn output(&self, request: &PredictRequest) -> Option<Output> {
        let meaning = request.model.meaning();
        meaning.output(self.scores.as_ref()?, request.top_k)
    }

    /// The job's terminal state.
    #[must_use]
    pub const fn state(&self) -> JobState {
        match self.scores {
            Some(_) => JobState::Succeeded,
            None => JobState::Expired,
        }
    }
}
