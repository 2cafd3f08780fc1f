//! One queue in memory: what waits, joined into deliveries, and what comes back.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::dead_letters::MemoryDeadLetterQueue;
use crate::dead_letters::Reason;
use crate::job::Job;
use crate::queue::{DELIVERY_LIMIT, PublishError};

/// Jobs that are ready in the same moment and may share one delivery, so that they share its cost.
const GROUP_JOBS: usize = 16;

/// One queue's waiting jobs.
#[derive(Debug)]
pub(super) struct PriorityQueue {
    pub(super) waiting: Mutex<Waiting>,
    pub(super) arrived: Notify,
    /// What a broker would call its queue.
    name: String,
    dead_letters: Arc<MemoryDeadLetterQueue>,
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    messages: VecDeque<Message>,
    /// Jobs in all messages.
    pub(super) jobs: usize,
}

/// Jobs that are handed out and settled together.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) jobs: Vec<Job>,
    pub(super) earlier_deliveries: u32,
}

impl Message {
    /// Whether it may be joined with its neighbours: never a job that may have taken a worker down.
    fn is_fresh(&self) -> bool {
        self.earlier_deliveries == 0 && self.jobs.iter().all(|job| job.earlier_attempts == 0)
    }
}

impl PriorityQueue {
    pub(super) fn new(name: String, dead_letters: Arc<MemoryDeadLetterQueue>) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            name,
            dead_letters,
        }
    }

    pub(super) fn push(&self, job: Job, capacity_jobs: usize) -> Result<(), PublishError> {
        let mut waiting = self.waiting.lock();
        if waiting.jobs >= capacity_jobs {
            return Err(PublishError::Full);
        }
        waiting.jobs += 1;
        waiting.messages.push_back(Message {
            jobs: vec![job],
            earlier_deliveries: 0,
        });
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// The next message, joined with those behind it while all are fresh.
    pub(super) fn pop(&self) -> Option<Message> {
        let mut waiting = self.waiting.lock();
        let mut message = waiting.messages.pop_front()?;
        if message.is_fresh() {
            while message.jobs.len() < GROUP_JOBS
                && waiting.messages.front().is_some_and(Message::is_fresh)
                && let Some(next) = waiting.messages.pop_front()
            {
                message.jobs.extend(next.jobs);
            }
        }
        waiting.jobs -= message.jobs.len();
        let more = !waiting.messages.is_empty();
        drop(waiting);
        if more {
            self.arrived.notify_one();
        }
        Some(message)
    }

    /// Puts a message back at the front, as a broker does; the bound does not hold for it.
    pub(super) fn put_back(&self, message: Message) {
        let earlier_deliveries = message.earlier_deliveries + 1;
        if earlier_deliveries > DELIVERY_LIMIT {
            self.dead_letter(message, Reason::DeliveryLimit);
            return;
        }
        let mut waiting = self.waiting.lock();
        waiting.jobs += message.jobs.len();
        waiting.messages.push_front(Message {
            earlier_deliveries,
            ..message
        });
        drop(waiting);
        self.arrived.notify_one();
    }

    pub(super) fn dead_letter(&self, message: Message, reason: Reason) {
        let handed_out = message.earlier_deliveries + 1;
        for job in message.jobs {
            self.dead_letters.push(&self.name, job, reason, handed_out);
        }
    }
}
