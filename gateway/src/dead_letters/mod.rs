//! Dead letters: what people and their scripts can do about messages that were set aside. Knows no HTTP.
//!
//! | module | owns |
//! |---|---|
//! | `filing` | the background task: ends the jobs of arrivals, and files them |
//! | `view` | a letter as people see it |
//! | `command` | `selvage-gateway dead-letters` |

pub mod command;
mod filing;
mod view;

use std::sync::Arc;
use std::time::Duration;

use selvage_core::BoxError;
use selvage_core::clock::Clock;
use selvage_core::job::{Job, JobId, ModelName, Promise};
use selvage_core::key::{Digest, PredictionKey};
use selvage_core::key_name::KeyName;
use selvage_core::queue::QueueError;
use selvage_core::queue::dead_letters::{DeadLetters, Letter, Walk};
use selvage_core::store::Record;

pub use filing::Filing;
pub use view::{LetterView, Page};

use crate::models::Models;
use crate::promised::{PromiseError, Promised};

/// Labels in the answer of a replayed job that nobody had promised: what a request without `top_k` gets.
const TOP_K: u16 = 3;

/// Lists, replays and purges the filed letters of a fleet.
#[derive(Clone, Debug)]
pub struct DeadLetterOffice {
    letters: Arc<dyn DeadLetters>,
    promised: Promised,
    models: Models,
    clock: Clock,
    job_deadline: Duration,
}

/// Why a letter was not replayed, or none could be read.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// The broker is away, or somebody else reads for too long.
    #[error("the dead letters cannot be read now")]
    Unavailable(#[source] BoxError),
    /// No filed letter has this id.
    #[error("there is no dead letter `{0}`")]
    Unknown(JobId),
    /// Nobody can read what it holds.
    #[error("dead letter `{0}` holds no job")]
    Foreign(JobId),
    /// Its model is not served any more.
    #[error("dead letter `{0}` asks a model that is not served: `{1}`")]
    NoModel(JobId, ModelName),
    /// Its new job was not promised; the letter stays.
    #[error("the new job was not taken")]
    NotPromised(ModelName, #[source] PromiseError),
}

impl From<QueueError> for LetterError {
    fn from(error: QueueError) -> Self {
        Self::Unavailable(error.into())
    }
}

/// What has become of a replay of many.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Letters that were replayed, and their new jobs.
    pub jobs: Vec<(JobId, JobId)>,
    /// Letters that cannot be replayed: they hold no job, or their model is gone.
    pub skipped: u64,
    /// Why it ended before the last letter.
    pub stopped: Option<LetterError>,
}

impl DeadLetterOffice {
    /// An office for these letters, whose replayed jobs live for `job_deadline`.
    #[must_use]
    pub const fn new(
        letters: Arc<dyn DeadLetters>,
        promised: Promised,
        models: Models,
        clock: Clock,
        job_deadline: Duration,
    ) -> Self {
        Self {
            letters,
            promised,
            models,
            clock,
            job_deadline,
        }
    }

    /// Messages that no gateway has filed yet.
    ///
    /// # Errors
    /// [`LetterError::Unavailable`].
    pub async fn unfiled(&self) -> Result<u64, LetterError> {
        Ok(self.letters.count().await?.arrived)
    }

    /// Up to `limit` letters after the oldest `offset`, oldest first.
    ///
    /// # Errors
    /// [`LetterError::Unavailable`].
    pub async fn list(&self, offset: u64, limit: u64) -> Result<Page, LetterError> {
        let mut walk = self.letters.walk().await?;
        let read = self.page(walk.as_mut(), offset, limit).await;
        walk.end().await;
        read
    }

    async fn page(
        &self,
        walk: &mut dyn Walk,
        offset: u64,
        limit: u64,
    ) -> Result<Page, LetterError> {
        let mut items = Vec::new();
        let mut seen = 0;
        while seen < offset.saturating_add(limit)
            && let Some(letter) = walk.next().await?
        {
            seen += 1;
            if seen > offset {
                items.push(LetterView::of(&letter));
            }
        }
        let total = walk.total();
        Ok(Page { items, total })
    }

    /// Asks about a letter's image again, as a new job; its record. The letter goes once the broker has confirmed the job,
    /// so a replay that is broken off leaves the letter, and perhaps the job too, but never neither.
    ///
    /// # Errors
    /// See [`LetterError`].
    pub async fn replay(&self, id: JobId, by: Option<&KeyName>) -> Result<Record, LetterError> {
        let mut walk = self.letters.walk().await?;
        let replayed = self.replay_one(walk.as_mut(), id, by).await;
        walk.end().await;
        replayed
    }

    async fn replay_one(
        &self,
        walk: &mut dyn Walk,
        id: JobId,
        by: Option<&KeyName>,
    ) -> Result<Record, LetterError> {
        while let Some(letter) = walk.next().await? {
            if letter.id == id {
                let record = self.promise(letter, by).await?;
                walk.remove().await?;
                return Ok(record);
            }
        }
        Err(LetterError::Unknown(id))
    }

    /// Replays up to `limit` letters, oldest first. It ends early where a new job is not taken.
    ///
    /// # Errors
    /// [`LetterError::Unavailable`] where none can be read.
    pub async fn replay_all(
        &self,
        limit: u64,
        by: Option<&KeyName>,
    ) -> Result<Replayed, LetterError> {
        let mut walk = self.letters.walk().await?;
        let mut replayed = Replayed::default();
        let ended = self.replay_many(walk.as_mut(), limit, by, &mut replayed);
        replayed.stopped = ended.await.err();
        walk.end().await;
        Ok(replayed)
    }

    async fn replay_many(
        &self,
        walk: &mut dyn Walk,
        limit: u64,
        by: Option<&KeyName>,
        replayed: &mut Replayed,
    ) -> Result<(), LetterError> {
        while u64::try_from(replayed.jobs.len()).unwrap_or(u64::MAX) < limit
            && let Some(letter) = walk.next().await?
        {
            let id = letter.id;
            match self.promise(letter, by).await {
                Ok(record) => {
                    replayed.jobs.push((id, record.seed.id));
                    walk.remove().await?;
                }
                Err(LetterError::Foreign(_) | LetterError::NoModel(..)) => replayed.skipped += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Throws all letters away; how many there were.
    ///
    /// # Errors
    /// [`LetterError::Unavailable`].
    pub async fn purge(&self) -> Result<u64, LetterError> {
        let mut walk = self.letters.walk().await?;
        let purged = walk.purge().await;
        walk.end().await;
        Ok(purged?)
    }

    async fn promise(&self, letter: Letter, by: Option<&KeyName>) -> Result<Record, LetterError> {
        let id = letter.id;
        let Some(job) = letter.into_job() else {
            return Err(LetterError::Foreign(id));
        };
        let model = job.model.clone();
        let job = self
            .again(job, by)
            .ok_or_else(|| LetterError::NoModel(id, model.clone()))?;
        let promised = self.promised.submit(job, None).await;
        promised.map_err(|error| LetterError::NotPromised(model, error))
    }

    /// The same question as a new job, to the model that has the name now: the one it was asked of may have been the reason.
    /// It belongs to whom the old one belonged to, else to whoever replays it.
    fn again(&self, job: Job, by: Option<&KeyName>) -> Option<Job> {
        let model = self.models.catalog().get(job.model.as_str())?.clone();
        let now = self.clock.now();
        let earlier = job.promise.unwrap_or_else(|| Promise {
            version: String::new(),
            top_k: TOP_K,
            metadata: serde_json::Map::new(),
            once: None,
            owner: by.cloned(),
            webhook: None,
            retry_of: None,
            image_hash: Some(Digest::of(&job.image)),
        });
        Some(Job {
            id: JobId::new(),
            key: PredictionKey {
                model: model.digest,
                prep: model.prep,
                image: job.key.image,
            },
            created_at: now,
            deadline: now.after(self.job_deadline),
            earlier_attempts: 0,
            reply_to: None,
            request_id: None,
            traceparent: None,
            promise: Some(Promise {
                version: model.version.clone(),
                // The old job keeps its idempotency key for as long as its record is there.
                once: None,
                retry_of: Some(job.id),
                ..earlier
            }),
            ..job
        })
    }
}
