//! Dead-lettered messages in memory, until they are stored.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::clock::UnixMillis;
use crate::dead_letters::{Content, DeadLetter, Reason};
use crate::job::Job;
use crate::queue::dead_letters::{Arrival, DeadLetterQueue};
use crate::queue::{QueueError, Settle, Settlement};

/// Messages held; past it the oldest is dropped.
pub(super) const MAX_MESSAGES: usize = 1000;

type Messages = Arc<Mutex<VecDeque<DeadLetter>>>;

/// Where the queues of a memory queue dead-letter their messages.
#[derive(Debug, Default)]
pub(super) struct MemoryDeadLetterQueue(Messages);

impl MemoryDeadLetterQueue {
    /// Takes a job that was dead-lettered.
    pub(super) fn push(&self, queue: &str, job: Job, reason: Reason, handed_out: u32) {
        let dead_letter = DeadLetter {
            id: job.id,
            reason,
            attempts: job.earlier_attempts.saturating_add(handed_out),
            queue: queue.to_owned(),
            died_at: UnixMillis::wall(),
            content: Content::Job(Box::new(job)),
        };
        let mut messages = self.0.lock();
        if messages.len() >= MAX_MESSAGES {
            messages.pop_front();
        }
        messages.push_back(dead_letter);
    }
}

#[async_trait]
impl DeadLetterQueue for MemoryDeadLetterQueue {
    async fn next(&self) -> Result<Option<Arrival>, QueueError> {
        let Some(dead_letter) = self.0.lock().pop_front() else {
            return Ok(None);
        };
        Ok(Some(Arrival {
            dead_letters: vec![dead_letter.clone()],
            settle: Box::new(TakenMessage {
                dead_letter: Some(dead_letter),
                messages: Arc::clone(&self.0),
            }),
        }))
    }

    async fn count(&self) -> Result<u64, QueueError> {
        Ok(u64::try_from(self.0.lock().len()).unwrap_or(u64::MAX))
    }
}

/// A message that was taken; dropped, it comes back.
#[derive(Debug)]
struct TakenMessage {
    dead_letter: Option<DeadLetter>,
    messages: Messages,
}

impl Drop for TakenMessage {
    fn drop(&mut self) {
        if let Some(dead_letter) = self.dead_letter.take() {
            self.messages.lock().push_front(dead_letter);
        }
    }
}

impl Settle for TakenMessage {
    fn settle(mut self: Box<Self>, settlement: Settlement) {
        if settlement == Settlement::Ack {
            self.dead_letter = None;
        }
    }
}
