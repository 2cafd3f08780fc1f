//! One queue's deliveries: a channel, a prefetch and a consumer, made again whenever the broker ends them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery as AmqpDelivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Consumer as AmqpConsumer};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::{Link, Live};
use super::counters::QueueCounters;
use super::error::RabbitError;
use super::publisher::REDECLARE_DELAY;
use super::settle::RabbitSettle;
use super::topology::{Topology, in_time};
use crate::job::{ModelName, Priority};
use crate::program::Backoff;
use crate::queue::wire::decode_jobs;
use crate::queue::{Consumer, Delivery, Settle};

/// Longest wait for the broker to stop deliveries.
const CANCEL: Duration = Duration::from_secs(5);
/// Where RabbitMQ's quorum queues say how often a message was handed out before.
/// <https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling>
const DELIVERY_COUNT: &str = "x-delivery-count";

/// Which queue is consumed, and how.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) link: Link,
    pub(super) topology: Arc<Topology>,
    pub(super) counters: QueueCounters,
    pub(super) model: ModelName,
    pub(super) priority: Priority,
    pub(super) prefetch: u16,
    pub(super) stop: CancellationToken,
}

impl Order {
    /// The first subscription, waited for; fails only where the broker refuses it for good.
    pub(super) async fn open(self) -> Result<RabbitConsumer, RabbitError> {
        let mut backoff = Backoff::for_broker();
        let stop = self.stop.clone();
        let subscribing = async {
            loop {
                let live = self.link.usable_or_refused().await?;
                let error = match self.subscribe(&live).await {
                    Ok(subscription) => return Ok(subscription),
                    Err(error) => error,
                };
                if error.refusal().is_some() {
                    return Err(error);
                }
                sleep(backoff.pause()).await;
            }
        };
        let subscription = stop.run_until_cancelled(subscribing).await.transpose()?;
        Ok(RabbitConsumer {
            order: self,
            subscription,
            backoff: Backoff::for_broker(),
            is_canceled: false,
        })
    }

    async fn subscribe(&self, live: &Live) -> Result<Subscription, RabbitError> {
        let queue = self.topology.queue(&self.model, self.priority);
        self.topology.declare_named(live, &queue).await?;
        let channel = live.channel().await?;
        // Before the consumer: lapin's buffer has no bound of its own. Zero would mean no bound at all.
        let qos = channel.basic_qos(self.prefetch.max(1), BasicQosOptions { global: false });
        in_time(qos).await?;
        let tag = ShortString::from(format!("{:032x}", rand::random::<u128>()));
        let consuming = channel.basic_consume(
            queue.into(),
            tag.clone(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        Ok(Subscription {
            deliveries: in_time(consuming).await?,
            channel: Arc::new(channel),
            tag,
            phase: Phase::Running,
        })
    }

    /// A message as a delivery; one that cannot be read is dead-lettered.
    fn read(&self, message: AmqpDelivery, channel: &Arc<Channel>) -> Option<Delivery> {
        let earlier_deliveries = earlier_deliveries(&message);
        let lost = self.counters.lost_settlements.clone();
        let settle = RabbitSettle::new(Arc::clone(channel), message.delivery_tag, lost);
        let settle: Box<dyn Settle> = Box::new(settle);
        let jobs = decode_jobs(&message.data.into()).ok().filter(|jobs| {
            // A job in another's queue would be run by the wrong model, or without its record.
            jobs.iter()
                .all(|job| job.model == self.model && job.priority() == self.priority)
        });
        let Some(jobs) = jobs else {
            self.counters.undecodable.inc();
            tracing::warn!(model.name = %self.model, priority = self.priority.as_str(), "a message that cannot be read was dead-lettered");
            settle.dead_letter();
            return None;
        };
        Some(Delivery {
            jobs,
            earlier_deliveries,
            settle,
        })
    }
}

/// How often the broker says that it handed the message out before.
fn earlier_deliveries(message: &AmqpDelivery) -> u32 {
    let headers = message.properties.headers().as_ref();
    let count = headers.and_then(|headers| match headers.inner().get(DELIVERY_COUNT)? {
        AMQPValue::LongLongInt(count) => Some(*count),
        AMQPValue::LongInt(count) => Some(i64::from(*count)),
        AMQPValue::LongUInt(count) => Some(i64::from(*count)),
        AMQPValue::ShortInt(count) => Some(i64::from(*count)),
        AMQPValue::ShortUInt(count) => Some(i64::from(*count)),
        AMQPValue::ShortShortInt(count) => Some(i64::from(*count)),
        AMQPValue::ShortShortUInt(count) => Some(i64::from(*count)),
        _ => None,
    });
    let count = count.unwrap_or_else(|| i64::from(message.redelivered));
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// The broker has canceled the consumer; what it had sent is still given out.
    Stopping,
    /// The broker did not answer: only what is here already is given out.
    CutOff,
}

#[derive(Debug)]
struct Subscription {
    deliveries: AmqpConsumer,
    channel: Arc<Channel>,
    tag: ShortString,
    phase: Phase,
}

impl Subscription {
    /// Asks the broker to send no more.
    async fn stop(&mut self) {
        // Set first: a caller that goes away in between has asked all the same.
        self.phase = Phase::Stopping;
        let options = BasicCancelOptions::default();
        let canceling = self.channel.basic_cancel(self.tag.clone(), options);
        if !matches!(timeout(CANCEL, canceling).await, Ok(Ok(()))) {
            self.phase = Phase::CutOff;
        }
    }

    async fn next(&mut self) -> Option<lapin::Result<AmqpDelivery>> {
        match self.phase {
            Phase::Running | Phase::Stopping => self.deliveries.next().await,
            Phase::CutOff => self.deliveries.next().now_or_never().flatten(),
        }
    }
}

/// Consumes one queue until its stop token fires.
#[derive(Debug)]
pub(super) struct RabbitConsumer {
    order: Order,
    subscription: Option<Subscription>,
    backoff: Backoff,
    /// The broker has ended the last subscription, since its queue is gone.
    is_canceled: bool,
}

impl RabbitConsumer {
    /// Subscribes again after a loss; false once there is nothing to subscribe for.
    async fn subscribe_again(&mut self) -> bool {
        let order = &self.order;
        let backoff = &mut self.backoff;
        let is_canceled = std::mem::take(&mut self.is_canceled);
        let subscribing = async {
            if is_canceled {
                sleep(REDECLARE_DELAY).await;
            }
            loop {
                sleep(backoff.pause()).await;
                let Ok(live) = order.link.usable().await else {
                    return None;
                };
                match order.subscribe(&live).await {
                    Ok(subscription) => return Some(subscription),
                    Err(error) => {
                        tracing::warn!(model.name = %order.model, priority = order.priority.as_str(), %error, "cannot consume");
                    }
                }
            }
        };
        self.subscription = order.stop.run_until_cancelled(subscribing).await.flatten();
        self.subscription.is_some()
    }

    fn note_loss(&mut self, error: Option<&lapin::Error>) {
        self.is_canceled = error.is_none();
        self.order.counters.lost_consumers.inc();
        tracing::warn!(
            model.name = %self.order.model, priority = self.order.priority.as_str(),
            error = error.map_or_else(|| "ended by the broker".to_owned(), ToString::to_string),
            "consumer lost"
        );
    }
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            let Some(subscription) = &mut self.subscription else {
                if self.subscribe_again().await {
                    continue;
                }
                return None;
            };
            let running = subscription.phase == Phase::Running;
            let message = tokio::select! {
                biased;
                () = self.order.stop.cancelled(), if running => {
                    subscription.stop().await;
                    continue;
                }
                message = subscription.next() => message,
            };
            if let Some(Ok(message)) = message {
                self.backoff.reset();
                if let Some(delivery) = self.order.read(message, &subscription.channel) {
                    return Some(delivery);
                }
                continue;
            }
            self.subscription = None;
            if !running {
                return None;
            }
            self.note_loss(message.and_then(Result::err).as_ref());
        }
    }
}
