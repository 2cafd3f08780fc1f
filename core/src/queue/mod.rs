//! The queue between gateways and workers: its contract. Backends live beside it and pass one suite.
//!
//! Jobs travel one way, reports the other. Delivery is at least once: a job may arrive twice, never not at all while the
//! broker keeps its disk. So workers must be able to run a job twice without harm, and they are: an answer is a pure
//! function of the job's key.

pub mod dead_letters;
pub mod memory;
pub mod rabbit;
mod split;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
pub mod wire;

use std::fmt::Debug;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::BoxError;
use crate::job::{Job, ModelName, Priority, ReplyAddress};
use crate::outcome::Report;

pub use split::split;

/// Deliveries after which a message that is always requeued is dead-lettered. Only a net: a job
/// that takes workers down is ended by its own count of attempts long before.
pub const DELIVERY_LIMIT: u32 = 20;

/// Jobs to workers, reports back to the gateway that waits.
#[async_trait]
pub trait Queue: Debug + Send + Sync {
    /// Sends one job and returns once it is safe: confirmed by the broker, or held in memory.
    ///
    /// Jobs published in the same moment may share one message; one that was started before travels alone. Dropping the
    /// future does not unsend the job.
    ///
    /// # Errors
    /// See [`PublishError`]. After an error the job may still arrive, once.
    async fn publish(&self, job: Job) -> Result<(), PublishError>;

    /// Takes jobs of one queue until `stop` fires; at most `prefetch` messages are in hand at once.
    ///
    /// # Errors
    /// [`QueueError::Refused`] where a retry cannot help. A broker that is merely away is waited for.
    async fn consume(
        &self,
        model: &ModelName,
        priority: Priority,
        prefetch: u16,
        stop: CancellationToken,
    ) -> Result<Box<dyn Consumer>, QueueError>;

    /// Where this process takes replies now; `None` while it has no connection, or takes none at all.
    fn reply_address(&self) -> Option<ReplyAddress>;

    /// Sends reports to a gateway that may wait for them. A lost reply costs the waiter time, not the answer.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] while the broker is away.
    async fn reply(&self, to: &ReplyAddress, reports: Vec<Report>) -> Result<(), QueueError>;

    /// Jobs' messages waiting in a queue, not counting those in workers' hands.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] while the broker is away.
    async fn depth(&self, model: &ModelName, priority: Priority) -> Result<u64, QueueError>;

    /// Whether publishing can be expected to work now.
    fn health(&self) -> Health;

    /// Ends connections and the tasks behind them; what was confirmed stays with the broker.
    async fn close(&self);
}

/// The stream of reports for jobs this process published, given out once by the backend's constructor.
pub type Reports = mpsc::Receiver<Vec<Report>>;

/// One queue's deliveries.
#[async_trait]
pub trait Consumer: Send {
    /// The next delivery; reconnects by itself. `None` only after the stop token has fired and what had arrived by then
    /// has been given out, or after the queue was closed. Dropping the future loses nothing.
    async fn next(&mut self) -> Option<Delivery>;
}

/// One message in a worker's hands: one or more jobs that are settled together.
#[derive(Debug)]
#[must_use = "a delivery that is dropped unsettled is given back"]
pub struct Delivery {
    /// The jobs, in the order they were published.
    pub jobs: Vec<Job>,
    /// How often this message was handed out before; 0 the first time.
    pub earlier_deliveries: u32,
    /// Tells the broker what became of it.
    pub settle: Box<dyn Settle>,
}

/// Settles one delivery, once. Dropped unsettled, it gives the delivery back.
pub trait Settle: Debug + Send + Sync {
    /// Tells the broker; does not wait for it.
    fn settle(self: Box<Self>, settlement: Settlement);

    /// See [`Settlement::Ack`].
    fn ack(self: Box<Self>) {
        self.settle(Settlement::Ack);
    }

    /// See [`Settlement::GiveBack`].
    fn give_back(self: Box<Self>) {
        self.settle(Settlement::GiveBack);
    }

    /// See [`Settlement::DeadLetter`].
    fn dead_letter(self: Box<Self>) {
        self.settle(Settlement::DeadLetter);
    }
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Everything in the message is finished and stored; the broker may forget it.
    Ack,
    /// The message is requeued for another worker.
    GiveBack,
    /// The message is dead-lettered, see [`dead_letters`].
    DeadLetter,
}

/// Whether publishing can be expected to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Connected and taking messages.
    Up,
    /// Connected, but the broker has stopped taking messages (a memory or disk alarm).
    Blocked,
    /// Not connected.
    Down,
}

/// Why a job was not taken; each is answered differently.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The queue is at its bound: the client should slow down.
    #[error("the queue is full")]
    Full,
    /// The job does not fit into a message.
    #[error("the job is larger than a message may be")]
    TooLarge,
    /// The broker is away, blocked, silent or without its queue: nobody can publish now.
    #[error("the broker does not take messages")]
    Unavailable(#[source] BoxError),
}

/// Why a queue operation failed.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The broker is away; it is being reconnected to.
    #[error("the broker cannot be reached")]
    Unavailable(#[source] BoxError),
    /// The broker refused us for good: credentials, permissions, or a queue with other arguments.
    #[error("the broker refused: {0}")]
    Refused(String),
}
