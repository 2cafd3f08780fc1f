//! Dead letters: what people and their scripts can do about messages that no worker could use. Knows no HTTP.
//! `view` is a dead letter as people see it.

mod view;

use std::sync::Arc;
use std::time::Duration;

use selvage_core::BoxError;
use selvage_core::clock::Clock;
use selvage_core::dead_letters::DeadLetterStore;
use selvage_core::job::{Idempotency, Job, JobId, ModelName, Submission};
use selvage_core::key::{Digest, PredictionKey};
use selvage_core::key_name::KeyName;
use selvage_core::store::{Record, StoreError};

pub use view::{DeadLetterView, Page};

use crate::service::models::Models;
use crate::service::submit::{SubmitError, Submitter};

/// Labels in the answer of a replayed synchronous job: what a request without `top_k` gets.
const TOP_K: u16 = 3;
/// Dead letters listed by one call while many are replayed.
const PAGE: u64 = 500;

/// Lists, replays and purges the dead letters of a fleet.
#[derive(Clone, Debug)]
pub struct DeadLetterService {
    pub(crate) store: Arc<dyn DeadLetterStore>,
    submitter: Submitter,
    models: Models,
    clock: Clock,
    job_deadline: Duration,
}

/// Why a dead letter was not replayed, or none could be read.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The store is away.
    #[error("the dead letters cannot be read now")]
    Unavailable(#[source] BoxError),
    /// No dead letter has this id.
    #[error("there is no dead letter `{0}`")]
    Unknown(JobId),
    /// Nobody can read what it holds.
    #[error("dead letter `{0}` holds no job")]
    Foreign(JobId),
    /// Its model is not served any more.
    #[error("dead letter `{0}` asks a model that is not served: `{1}`")]
    NoModel(JobId, ModelName),
    /// Its new job was not accepted; the dead letter stays.
    #[error("the new job was not taken")]
    NotSubmitted(ModelName, #[source] SubmitError),
}

impl From<StoreError> for DeadLetterError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.into())
    }
}

/// What has become of a replay of many.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Dead letters that were replayed, and their new jobs.
    pub jobs: Vec<(JobId, JobId)>,
    /// Dead letters that cannot be replayed: they hold no job, or their model is gone.
    pub skipped: u64,
    /// Why it ended before the last one.
    pub stopped: Option<DeadLetterError>,
}

impl DeadLetterService {
    /// The dead letters of that store; replayed jobs live for `job_deadline`.
    #[must_use]
    pub const fn new(
        store: Arc<dyn DeadLetterStore>,
        submitter: Submitter,
        models: Models,
        clock: Clock,
        job_deadline: Duration,
    ) -> Self {
        Self {
            store,
            submitter,
            models,
            clock,
            job_deadline,
        }
    }

    /// Up to `limit` dead letters after the oldest `offset`, oldest first.
    ///
    /// # Errors
    /// [`DeadLetterError::Unavailable`].
    pub async fn list(&self, offset: u64, limit: u64) -> Result<Page, DeadLetterError> {
        Ok(self.store.list(offset, limit).await?.into())
    }

    /// Asks about a dead letter's image again, as a new job; its record. The dead letter is removed once the broker has
    /// confirmed the job. A replay that is broken off before that can be repeated, and makes no second job.
    ///
    /// # Errors
    /// See [`DeadLetterError`].
    pub async fn replay(&self, id: JobId, by: Option<&KeyName>) -> Result<Record, DeadLetterError> {
        let dead_letter = self.store.get(id).await?;
        let dead_letter = dead_letter.ok_or(DeadLetterError::Unknown(id))?;
        let job = dead_letter.into_job().ok_or(DeadLetterError::Foreign(id))?;
        let model = job.model.clone();
        let job = self
            .again(job, by)
            .ok_or_else(|| DeadLetterError::NoModel(id, model.clone()))?;
        let submitter = self.submitter.submit(job, None).await;
        let record = submitter.map_err(|error| DeadLetterError::NotSubmitted(model, error))?;
        self.store.remove(id).await?;
        Ok(record)
    }

    /// Replays up to `limit` dead letters, oldest first. It ends early where a new job is not taken.
    ///
    /// # Errors
    /// [`DeadLetterError::Unavailable`] where none can be read.
    pub async fn replay_all(
        &self,
        limit: u64,
        by: Option<&KeyName>,
    ) -> Result<Replayed, DeadLetterError> {
        let (ids, skipped) = self.replayable(limit).await?;
        let mut replayed = Replayed {
            skipped,
            ..Replayed::default()
        };
        for id in ids {
            match self.replay(id, by).await {
                Ok(record) => replayed.jobs.push((id, record.seed.id)),
                // Somebody else has replayed or purged it meanwhile.
                Err(DeadLetterError::Unknown(_)) => {}
                Err(DeadLetterError::Foreign(_) | DeadLetterError::NoModel(..)) => {
                    replayed.skipped += 1;
                }
                Err(error) => {
                    replayed.stopped = Some(error);
                    break;
                }
            }
        }
        Ok(replayed)
    }

    /// The oldest dead letters that can be replayed, and how many among them cannot.
    async fn replayable(&self, limit: u64) -> Result<(Vec<JobId>, u64), DeadLetterError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let catalog = self.models.catalog();
        let (mut ids, mut skipped, mut offset) = (Vec::new(), 0, 0);
        loop {
            let page = self.store.list(offset, PAGE).await?;
            for dead_letter in page.items {
                if ids.len() == limit {
                    return Ok((ids, skipped));
                }
                let model = dead_letter.model.as_ref();
                if model.is_some_and(|model| catalog.get(model.as_str()).is_some()) {
                    ids.push(dead_letter.id);
                } else {
                    skipped += 1;
                }
            }
            offset += PAGE;
            if offset >= page.total {
                return Ok((ids, skipped));
            }
        }
    }

    /// Deletes all dead letters; how many there were.
    ///
    /// # Errors
    /// [`DeadLetterError::Unavailable`].
    pub async fn purge(&self) -> Result<u64, DeadLetterError> {
        Ok(self.store.purge().await?)
    }

    /// The same question as a new job, to the model that has the name now: the one it was asked of may have been the reason.
    /// It belongs to whom the old one belonged to, else to whoever replays it.
    fn again(&self, job: Job, by: Option<&KeyName>) -> Option<Job> {
        let idempotency = replay_key(&job);
        let model = self.models.catalog().get(job.model.as_str())?.clone();
        let now = self.clock.now();
        let earlier = job.submission.unwrap_or_else(|| Submission {
            top_k: TOP_K,
            owner: by.cloned(),
            image_hash: Some(Digest::of(&job.image)),
            ..Submission::default()
        });
        Some(Job {
            id: JobId::new(),
            key: PredictionKey {
                model: model.digest,
                preprocessing: model.preprocessing,
                image: job.key.image,
            },
            created_at: now,
            deadline: now.after(self.job_deadline),
            earlier_attempts: 0,
            reply_to: None,
            request_id: None,
            traceparent: None,
            submission: Some(Submission {
                version: model.version.clone(),
                idempotency: Some(idempotency),
                retry_of: Some(job.id),
                ..earlier
            }),
            ..job
        })
    }
}

/// Whoever replays a dead letter, and however often, makes one job: the store takes replays for repeats of one request. It
/// does so while that job's record is there, which the dead letter needs not be.
fn replay_key(job: &Job) -> Idempotency {
    let id = job.id.as_bytes();
    Idempotency {
        key: Digest::of_parts(&[b"replay", id]),
        fingerprint: Digest::of_parts(&[id, job.model.as_str().as_bytes()]),
    }
}
