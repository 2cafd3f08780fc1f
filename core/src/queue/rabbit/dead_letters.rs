//! Dead letters in RabbitMQ: arrivals are taken from the queue that lanes set messages aside into, and filed in another.
//!
//! Two queues, because reading a quorum queue wears it: each message it gives out and takes back counts as delivered, and at
//! the limit it is gone. So an arrival is taken once, and filed in a classic queue, which counts nothing and may be walked
//! over as often as anybody likes. <https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling>

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use lapin::Channel;
use lapin::options::BasicGetOptions;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::connection::Link;
use super::letter;
use super::publisher::{CONFIRM, Message, Publishing};
use super::replies::SharedChannel;
use super::settle::RabbitSettle;
use super::topology::{in_time, waiting};
use super::trouble::Trouble;
use super::walk;
use crate::queue::dead_letters::{Arrival, Count, DeadLetters, Letter, Walk};
use crate::queue::{PublishError, QueueError};

/// The dead letters of a fleet.
pub(super) struct RabbitLetters {
    /// For taking and settling: an alarm does not stop this connection.
    pub(super) consuming: Link,
    pub(super) channel: SharedChannel,
    pub(super) publishing: Arc<Publishing>,
    /// The channel letters are filed through, one at a time.
    pub(super) filing: Mutex<Option<Channel>>,
}

impl fmt::Debug for RabbitLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitLetters").finish_non_exhaustive()
    }
}

impl RabbitLetters {
    async fn take(&self, channel: &Channel) -> Result<Option<Arrival>, Trouble> {
        let queue = self.publishing.topology.dead().into();
        let options = BasicGetOptions { no_ack: false };
        let Some(message) = in_time(channel.basic_get(queue, options)).await? else {
            return Ok(None);
        };
        let message = message.delivery;
        let tag = message.delivery_tag;
        let lost = self.publishing.counters.lost_settlements.clone();
        Ok(Some(Arrival {
            letters: letter::arrived(&message.properties, message.data),
            settle: Box::new(RabbitSettle::new(Arc::new(channel.clone()), tag, lost)),
        }))
    }

    async fn ask(&self, channel: &Channel) -> Result<Count, Trouble> {
        let topology = &self.publishing.topology;
        Ok(Count {
            arrived: waiting(channel, topology.dead()).await?,
            filed: topology.declare_letters(channel).await?,
        })
    }

    /// What came of it; a channel on which anything went wrong is not used again.
    async fn unless_failed<T>(&self, answer: Result<T, Trouble>) -> Result<T, QueueError> {
        if answer.is_err() {
            self.channel.discard().await;
        }
        answer.map_err(unavailable)
    }
}

pub(super) fn unavailable(trouble: Trouble) -> QueueError {
    QueueError::Unavailable(trouble.into())
}

#[async_trait]
impl DeadLetters for RabbitLetters {
    async fn next(&self) -> Result<Option<Arrival>, QueueError> {
        let channel = self.channel.get().await.map_err(unavailable)?;
        let taken = self.take(&channel).await;
        self.unless_failed(taken).await
    }

    async fn file(&self, letter: &Letter) -> Result<(), QueueError> {
        let (body, properties) =
            letter::to_message(letter).map_err(|error| QueueError::Unavailable(error.into()))?;
        let channel = self.channel.get().await.map_err(unavailable)?;
        let topology = &self.publishing.topology;
        let declared = topology.declare_letters(&channel).await;
        self.unless_failed(declared).await?;
        let message = Message::plain(topology.letters(), body, properties);
        let mut filing = self.filing.lock().await;
        let deadline = Instant::now() + CONFIRM;
        let outcome = self
            .publishing
            .attempt(&mut filing, &message, deadline)
            .await;
        match outcome.into() {
            Ok(()) => Ok(()),
            Err(PublishError::Unavailable(source)) => Err(QueueError::Unavailable(source)),
            Err(refused) => Err(QueueError::Unavailable(refused.into())),
        }
    }

    async fn walk(&self) -> Result<Box<dyn Walk>, QueueError> {
        let walk = walk::begin(&self.consuming, &self.publishing.topology).await;
        Ok(Box::new(walk.map_err(unavailable)?))
    }

    async fn count(&self) -> Result<Count, QueueError> {
        let channel = self.channel.get().await.map_err(unavailable)?;
        let answer = self.ask(&channel).await;
        if matches!(answer, Err(Trouble::Amqp(_))) {
            // The queue of arrivals is missing, most likely: lanes cannot set anything aside without it.
            self.channel.discard().await;
            let channel = self.channel.get().await.map_err(unavailable)?;
            let declared = self.publishing.topology.declare_dead(&channel).await;
            self.unless_failed(declared).await?;
        }
        self.unless_failed(answer).await
    }
}
