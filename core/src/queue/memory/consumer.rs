//! What a worker holds of a queue in memory: a consumer, and the settlement of each delivery.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::priority_queue::{Message, PriorityQueue};
use crate::dead_letters::Reason;
use crate::queue::{Consumer, Delivery, Settle, Settlement};

pub(super) struct MemoryConsumer {
    pub(super) queue: Arc<PriorityQueue>,
    pub(super) hands: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
    pub(super) closed: CancellationToken,
    /// Deliveries still to be given out; known once `stop` has fired.
    pub(super) left: Option<usize>,
}

impl MemoryConsumer {
    fn deliver(&self, message: Message, permit: OwnedSemaphorePermit) -> Delivery {
        Delivery {
            jobs: message.jobs.clone(),
            earlier_deliveries: message.earlier_deliveries,
            settle: Box::new(MemorySettle {
                message: Some(message),
                queue: Arc::clone(&self.queue),
                _permit: permit,
            }),
        }
    }

    /// What a broker would already have sent counts as arrived: as many messages as hands are free.
    fn next_arrived(&mut self) -> Option<Delivery> {
        let free = self.hands.available_permits();
        let left = self.left.get_or_insert(free);
        *left = left.checked_sub(1)?;
        let permit = Arc::clone(&self.hands).try_acquire_owned().ok()?;
        let message = self.queue.pop()?;
        Some(self.deliver(message, permit))
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            if self.closed.is_cancelled() {
                return None;
            }
            if self.stop.is_cancelled() {
                return self.next_arrived();
            }
            let permit = tokio::select! {
                permit = Arc::clone(&self.hands).acquire_owned() => permit.ok()?,
                () = self.stop.cancelled() => continue,
                () = self.closed.cancelled() => continue,
            };
            if let Some(message) = self.queue.pop() {
                return Some(self.deliver(message, permit));
            }
            drop(permit);
            tokio::select! {
                () = self.queue.arrived.notified() => {}
                () = self.stop.cancelled() => {}
                () = self.closed.cancelled() => {}
            }
        }
    }
}

/// Settles one message; dropped unsettled, the message comes back.
#[derive(Debug)]
struct MemorySettle {
    message: Option<Message>,
    queue: Arc<PriorityQueue>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for MemorySettle {
    fn drop(&mut self) {
        if let Some(message) = self.message.take() {
            self.queue.put_back(message);
        }
    }
}

impl Settle for MemorySettle {
    fn settle(mut self: Box<Self>, settlement: Settlement) {
        match settlement {
            Settlement::Ack => self.message = None,
            Settlement::GiveBack => {}
            Settlement::DeadLetter => {
                if let Some(message) = self.message.take() {
                    self.queue.dead_letter(message, Reason::Rejected);
                }
            }
        }
    }
}
