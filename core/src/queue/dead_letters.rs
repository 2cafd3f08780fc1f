//! Dead letters: messages that were set aside, and what people can do about them. The contract; each queue's backend has
//! its own part, and all pass the queue's suite.
//!
//! A message that is set aside arrives first ([`DeadLetters::next`]): somebody ends its job and files it as a [`Letter`]
//! with its reason. Filed letters stay until they are taken out or the oldest make room: walking over them changes nothing.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;

use super::{QueueError, Settle};
use crate::clock::UnixMillis;
use crate::job::{Job, JobId};

/// Messages that were set aside.
#[async_trait]
pub trait DeadLetters: Debug + Send + Sync {
    /// The oldest message that was set aside and is in nobody's hands; `None` where there is none now.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] while the broker is away.
    async fn next(&self) -> Result<Option<Arrival>, QueueError>;

    /// Keeps a letter for people; returns once it is safe. Past the bound the oldest goes.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] while the broker is away; the letter may be there all the same.
    async fn file(&self, letter: &Letter) -> Result<(), QueueError>;

    /// Begins a walk over the filed letters. Walks exclude each other, in the whole fleet: one waits a few seconds for
    /// another's end.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] while the broker is away, or another walk takes too long.
    async fn walk(&self) -> Result<Box<dyn Walk>, QueueError>;

    /// How many there are.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] while the broker is away.
    async fn count(&self) -> Result<Count, QueueError>;
}

/// One walk over the filed letters, from the oldest to the newest. It must be ended; where it is dropped, the letters it
/// has seen come back a moment later.
#[async_trait]
pub trait Walk: Send {
    /// How many letters there were at its beginning.
    fn total(&self) -> u64;

    /// The next letter; `None` after the newest.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] where the broker went away: the walk is over.
    async fn next(&mut self) -> Result<Option<Letter>, QueueError>;

    /// Takes out the letter that [`Walk::next`] gave last. One that the broker does not hear of in time stays.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] where the broker went away.
    async fn remove(&mut self) -> Result<(), QueueError>;

    /// Takes out all letters this walk has not come to; how many there were.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] where the broker went away.
    async fn purge(&mut self) -> Result<u64, QueueError>;

    /// Leaves the letters to the next walk, in their old order.
    async fn end(self: Box<Self>);
}

/// How many messages are set aside; those that somebody looks at in this moment are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Not filed yet.
    pub arrived: u64,
    /// Filed.
    pub filed: u64,
}

/// A message that was set aside and is not filed yet.
#[derive(Debug)]
#[must_use = "an arrival that is dropped arrives again"]
pub struct Arrival {
    /// A letter for each job in it, or one for bytes nobody can read.
    pub letters: Vec<Letter>,
    pub(super) settle: Box<dyn Settle>,
}

impl Arrival {
    /// Its letters are filed: it does not arrive again.
    pub async fn done(self) {
        self.settle.ack().await;
    }
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// The job's id, or one of its own where nobody can read it.
    pub id: JobId,
    /// Why it was set aside.
    pub reason: Reason,
    /// How often the job was started; where nobody counted that, how often it was handed out.
    pub attempts: u32,
    /// The queue it was set aside from.
    pub queue: String,
    /// When it was set aside, by the broker's clock.
    pub died_at: UnixMillis,
    /// What it holds.
    pub content: Content,
}

/// What a dead letter holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A job.
    Job(Box<Job>),
    /// Bytes that are none of our messages.
    Foreign(Bytes),
}

impl Letter {
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

    /// Bytes of the image, or of what nobody can read.
    #[must_use]
    pub fn size(&self) -> usize {
        match &self.content {
            Content::Job(job) => job.image.len(),
            Content::Foreign(bytes) => bytes.len(),
        }
    }
}

/// Why a message was set aside.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Its job took its worker down each time it was started.
    Poison,
    /// It is none of our messages, or of a newer layout.
    Undecodable,
    /// It can be read, but no worker could use it: a job in another's lane.
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

    /// The reason of that spelling.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}
