//! Names and arguments of queues. Whoever comes first declares them, so gateways and workers must agree to the dead letter.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use tokio::time::timeout;

use super::connection::Live;
use super::error::RabbitError;
use crate::job::{ModelName, Priority};
use crate::program::config::Prefix;
use crate::queue::DELIVERY_LIMIT;

/// Longest wait for one declaration.
const DECLARE: Duration = Duration::from_secs(5);
/// Dead-lettered messages that wait to be stored; the oldest goes first, since a full dead-letter queue would fill the queues
/// in turn: at-least-once dead-lettering holds what it cannot place. <https://www.rabbitmq.com/docs/quorum-queues#dead-lettering>
const DEAD_LETTERS: i64 = 10_000;
const DEAD_KEY: &str = "dead";

/// How much may wait in a model's queues. Part of the queues' arguments, so it must be the same in the whole fleet, and a
/// change needs the queues deleted first; a policy on the broker can lower it at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages in an interactive queue.
    pub interactive_messages: u32,
    /// Messages in a batch queue.
    pub batch_messages: u32,
    /// Bytes in either queue.
    pub bytes: u32,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            interactive_messages: 2000,
            batch_messages: 20_000,
            bytes: 512 * 1024 * 1024,
        }
    }
}

impl QueueLimits {
    const fn messages(&self, priority: Priority) -> u32 {
        match priority {
            Priority::Interactive => self.interactive_messages,
            Priority::Batch => self.batch_messages,
        }
    }
}

/// The queues of one fleet.
#[derive(Debug)]
pub(super) struct Topology {
    pub(super) prefix: Prefix,
    pub(super) models: Vec<ModelName>,
    pub(super) limits: QueueLimits,
}

impl Topology {
    pub(super) fn queue(&self, model: &ModelName, priority: Priority) -> String {
        format!("{}.v1.{model}.{}", self.prefix.as_str(), priority.as_str())
    }

    pub(super) fn dead(&self) -> String {
        format!("{}.v1.dead", self.prefix.as_str())
    }

    /// The name of a queue that is never there.
    pub(super) fn nowhere(&self) -> String {
        format!("{}.nowhere", self.prefix.as_str())
    }

    /// What all reply queues of the fleet begin with.
    pub(super) fn reply_prefix(&self) -> String {
        format!("{}.v1.reply.", self.prefix.as_str())
    }

    pub(super) fn dead_letter_exchange(&self) -> String {
        format!("{}.dlx", self.prefix.as_str())
    }

    /// Declares all queues, on a channel of its own.
    pub(super) async fn declare(&self, live: &Live) -> Result<(), RabbitError> {
        self.declare_where(live, |_| true).await
    }

    /// Declares the queue with that name, if a model has one, and where its dead letters go.
    pub(super) async fn declare_named(&self, live: &Live, name: &str) -> Result<(), RabbitError> {
        self.declare_where(live, |queue| queue == name).await
    }

    async fn declare_where(
        &self,
        live: &Live,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<(), RabbitError> {
        let channel = live.channel().await?;
        self.declare_dead(&channel).await?;
        for model in &self.models {
            for priority in Priority::ALL {
                let queue = self.queue(model, priority);
                if is_wanted(&queue) {
                    self.declare_queue(&channel, queue, priority).await?;
                }
            }
        }
        Ok(())
    }

    /// Declares the dead-letter queue.
    pub(super) async fn declare_dead(&self, channel: &Channel) -> Result<(), RabbitError> {
        let exchange = ShortString::from(self.dead_letter_exchange());
        let queue = ShortString::from(self.dead());
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let kind = ExchangeKind::Direct;
        let declaring =
            channel.exchange_declare(exchange.clone(), kind, durable, FieldTable::default());
        in_time(declaring).await?;
        let arguments = table([
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", number(DELIVERY_LIMIT)),
            ("x-max-length", AMQPValue::LongLongInt(DEAD_LETTERS)),
            ("x-max-length-bytes", number(self.limits.bytes)),
            ("x-overflow", text("drop-head")),
        ]);
        let options = QueueDeclareOptions::durable();
        in_time(channel.queue_declare(queue.clone(), options, arguments)).await?;
        let binding = channel.queue_bind(
            queue,
            exchange,
            DEAD_KEY.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        in_time(binding).await
    }

    async fn declare_queue(
        &self,
        channel: &Channel,
        queue: String,
        priority: Priority,
    ) -> Result<(), RabbitError> {
        let arguments = table([
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", number(DELIVERY_LIMIT)),
            ("x-max-length", number(self.limits.messages(priority))),
            ("x-max-length-bytes", number(self.limits.bytes)),
            ("x-overflow", text("reject-publish")),
            ("x-dead-letter-exchange", text(&self.dead_letter_exchange())),
            ("x-dead-letter-routing-key", text(DEAD_KEY)),
            ("x-dead-letter-strategy", text("at-least-once")),
        ]);
        let options = QueueDeclareOptions::durable();
        in_time(channel.queue_declare(queue.into(), options, arguments)).await?;
        Ok(())
    }
}

/// How many messages wait in a queue that is there.
pub(super) async fn waiting(channel: &Channel, queue: String) -> Result<u64, RabbitError> {
    let options = QueueDeclareOptions::durable().passive();
    let asking = channel.queue_declare(queue.into(), options, FieldTable::default());
    Ok(u64::from(in_time(asking).await?.message_count()))
}

/// Waits for the broker's answer to one declaration, but not for ever.
pub(super) async fn in_time<T>(
    declaring: impl Future<Output = lapin::Result<T>>,
) -> Result<T, RabbitError> {
    match timeout(DECLARE, declaring).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(RabbitError::Slow("a declaration", DECLARE)),
    }
}

pub(super) fn table<const N: usize>(arguments: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(name.into(), value);
    }
    table
}

pub(super) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

pub(super) fn number(value: u32) -> AMQPValue {
    AMQPValue::LongLongInt(value.into())
}
