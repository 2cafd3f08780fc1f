//! Dead letters: messages that no worker could use, as records that people list, replay and purge. The contract of their
//! store; backends live beside it and pass one suite.
//!
//! The broker's dead-letter queue only feeds the store, see [`crate::queue::dead_letters`].

mod memory;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::job::{Job, JobId, ModelName, Priority};
use crate::key_name::KeyName;
use crate::store::StoreError;
pub use memory::MemoryDeadLetters;

/// The dead letters of a fleet, in the order of their death; those of one moment by id.
#[async_trait]
pub trait DeadLetterStore: Debug + Send + Sync {
    /// Stores a dead letter, unless one with its id is there. Past the bounds the oldest are deleted.
    ///
    /// # Errors
    /// [`StoreError`]; the dead letter may have been stored all the same.
    async fn add(&self, dead_letter: &DeadLetter) -> Result<(), StoreError>;

    /// Up to `limit` dead letters after the oldest `offset`, oldest first. Reads no bodies.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(&self, offset: u64, limit: u64) -> Result<Page, StoreError>;

    /// The dead letter with that id, with its body.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn get(&self, id: JobId) -> Result<Option<DeadLetter>, StoreError>;

    /// Deletes a dead letter; whether it was there.
    ///
    /// # Errors
    /// [`StoreError`]; it may have been deleted all the same.
    async fn remove(&self, id: JobId) -> Result<bool, StoreError>;

    /// Deletes all dead letters; how many there were.
    ///
    /// # Errors
    /// [`StoreError`]; they may have been deleted all the same.
    async fn purge(&self) -> Result<u64, StoreError>;

    /// How many there are.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn count(&self) -> Result<u64, StoreError>;
}

/// How much a store holds before it deletes the oldest dead letters. The newest is kept whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Dead letters.
    pub dead_letters: u64,
    /// Bytes of their bodies: images, or what could not be decoded.
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            dead_letters: 10_000,
            bytes: 64 * 1024 * 1024,
        }
    }
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The job's id, or one of its own where the message holds no job.
    pub id: JobId,
    /// Why it was dead-lettered.
    pub reason: Reason,
    /// How often the job was started; where nobody counted that, how often its message was delivered.
    pub attempts: u32,
    /// The queue it was dead-lettered from.
    pub queue: String,
    /// When it was dead-lettered, by the broker's clock.
    pub died_at: UnixMillis,
    /// What it holds.
    pub content: Content,
}

/// What a dead letter holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A job.
    Job(Box<Job>),
    /// A message of another program, or of another version.
    Foreign(Bytes),
}

/// A dead letter without its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// As [`DeadLetter::id`].
    pub id: JobId,
    /// As [`DeadLetter::reason`].
    pub reason: Reason,
    /// As [`DeadLetter::attempts`].
    pub attempts: u32,
    /// The model its job asks; `None` where it holds no job.
    pub model: Option<ModelName>,
    /// The priority of its job.
    pub priority: Option<Priority>,
    /// The API key its job was submitted with.
    pub owner: Option<KeyName>,
    /// As [`DeadLetter::queue`].
    pub queue: String,
    /// Bytes of the image, or of a message that holds no job.
    pub size: usize,
    /// As [`DeadLetter::died_at`].
    pub died_at: UnixMillis,
}

/// A part of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Oldest first.
    pub items: Vec<Summary>,
    /// How many dead letters there are in all.
    pub total: u64,
}

impl DeadLetter {
    /// The job, where it holds one.
    #[must_use]
    pub fn job(&self) -> Option<&Job> {
        match &self.content {
            Content::Job(job) => Some(job),
            Content::Foreign(_) => None,
        }
    }

    /// The job, where it holds one.
    #[must_use]
    pub fn into_job(self) -> Option<Job> {
        match self.content {
            Content::Job(job) => Some(*job),
            Content::Foreign(_) => None,
        }
    }

    /// Bytes of the image, or of a message that holds no job.
    #[must_use]
    pub fn size(&self) -> usize {
        match &self.content {
            Content::Job(job) => job.image.len(),
            Content::Foreign(bytes) => bytes.len(),
        }
    }

    /// What lists show of it.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let job = self.job();
        let submission = job.and_then(|job| job.submission.as_ref());
        Summary {
            id: self.id,
            reason: self.reason,
            attempts: self.attempts,
            model: job.map(|job| job.model.clone()),
            priority: job.map(Job::priority),
            owner: submission.and_then(|submission| submission.owner.clone()),
            queue: self.queue.clone(),
            size: self.size(),
            died_at: self.died_at,
        }
    }
}

/// Why a message was dead-lettered.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Its job took its worker down each time it was started.
    Poison,
    /// It is none of our messages, or of a newer layout.
    Undecodable,
    /// It can be read, but no worker could use it: a job in another's queue.
    Rejected,
    /// It was handed out too often without an end.
    DeliveryLimit,
    /// It waited longer than a policy of the broker's operator allows.
    Expired,
    /// It had to make room, by a policy of the broker's operator.
    Overflow,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 6] = [
        Self::Poison,
        Self::Undecodable,
        Self::Rejected,
        Self::DeliveryLimit,
        Self::Expired,
        Self::Overflow,
    ];

    /// The reason as JSON, metrics and logs spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::Undecodable => "undecodable",
            Self::Rejected => "rejected",
            Self::DeliveryLimit => "delivery_limit",
            Self::Expired => "expired",
            Self::Overflow => "overflow",
        }
    }
}
