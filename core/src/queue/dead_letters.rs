//! Dead-lettered messages on their way into the store, [`crate::dead_letters`]. Each queue's backend has its own part, and all
//! pass the queue's suite.

use std::fmt::Debug;

use async_trait::async_trait;

use super::{QueueError, Settle};
use crate::dead_letters::DeadLetter;

/// Dead-lettered messages that are not stored yet.
#[async_trait]
pub trait DeadLetterQueue: Debug + Send + Sync {
    /// The oldest message that nobody holds; `None` where there is none now.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] while the broker is away.
    async fn next(&self) -> Result<Option<Arrival>, QueueError>;

    /// How many messages there are that nobody holds.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] while the broker is away.
    async fn count(&self) -> Result<u64, QueueError>;
}

/// A dead-lettered message.
#[derive(Debug)]
#[must_use = "an arrival that is dropped arrives again"]
pub struct Arrival {
    /// One for each job in it, or one for bytes that hold no job.
    pub dead_letters: Vec<DeadLetter>,
    pub(super) settle: Box<dyn Settle>,
}

impl Arrival {
    /// Its dead letters are stored: it does not arrive again.
    pub fn ack(self) {
        self.settle.ack();
    }
}
