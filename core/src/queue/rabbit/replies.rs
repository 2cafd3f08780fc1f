//! Reports on their way back: a gateway's own reply queue, and what workers send to it.
//!
//! Reports may be lost: the gateway then stops waiting and finds the answer in the cache. So they are neither confirmed
//! nor kept on disk.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Consumer, PublisherConfirm};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::connection::{Link, Live, SetUp};
use super::counters::QueueCounters;
use super::error::RabbitError;
use super::topology::{Topology, in_time, table, text};
use crate::job::ReplyAddress;
use crate::outcome::Report;
use crate::queue::wire::{decode_reports, encode_reports};

/// Messages of reports a reply queue holds for a gateway that does not read; then the oldest go.
const REPLY_MESSAGES: i64 = 10_000;
/// Longest wait until the connection has taken a reply.
const SEND: Duration = Duration::from_secs(5);
/// Longest wait for the confirm of a probe: a broker in an alarm gives none.
const PROBE: Duration = Duration::from_secs(1);

/// A channel on a link, opened when it is first needed and again when it has failed.
#[derive(Debug)]
pub(super) struct SharedChannel {
    link: Link,
    slot: Mutex<Option<Channel>>,
}

impl SharedChannel {
    pub(super) fn new(link: Link) -> Self {
        Self {
            link,
            slot: Mutex::default(),
        }
    }

    async fn get(&self) -> Result<Channel, RabbitError> {
        let live = self.link.now()?;
        let mut slot = self.slot.lock().await;
        if let Some(channel) = slot.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let channel = live.channel().await?;
        *slot = Some(channel.clone());
        Ok(channel)
    }

    /// Does something on the channel; one on which anything went wrong is not used again.
    pub(super) async fn run<T>(
        &self,
        act: impl AsyncFnOnce(&Channel) -> Result<T, RabbitError>,
    ) -> Result<T, RabbitError> {
        let channel = self.get().await?;
        let done = act(&channel).await;
        if done.is_err() {
            self.slot.lock().await.take();
        }
        done
    }
}

/// Sends reports to gateways.
#[derive(Debug)]
pub(super) struct ReplySender {
    pub(super) channel: SharedChannel,
    pub(super) topology: Arc<Topology>,
}

impl ReplySender {
    pub(super) async fn send(
        &self,
        to: &ReplyAddress,
        reports: &[Report],
    ) -> Result<(), RabbitError> {
        // The address came in a message: it may name a reply queue of this fleet and nothing else.
        let queue = ShortString::try_new(&*to.0)
            .ok()
            .filter(|queue| queue.as_str().starts_with(&self.topology.reply_prefix()))
            .ok_or(RabbitError::Unusable(
                "the reply address is not one of ours",
            ))?;
        let body = encode_reports(reports)
            .map_err(|_| RabbitError::Unusable("the reports do not fit into a message"))?;
        let send = async |channel: &Channel| {
            let sending = publish_transient(channel, queue, &body);
            match timeout(SEND, sending).await {
                Ok(sent) => sent.map(drop).map_err(RabbitError::from),
                Err(_) => Err(RabbitError::Slow("sending a reply", SEND)),
            }
        };
        self.channel.run(send).await
    }
}

/// Takes the reports for one gateway.
pub(super) struct ReplyInbox {
    pub(super) reports: mpsc::Sender<Vec<Report>>,
    pub(super) address: watch::Sender<Option<ReplyAddress>>,
    pub(super) tasks: TaskTracker,
    pub(super) counters: QueueCounters,
}

impl ReplyInbox {
    /// Makes a fresh queue: the last one may still be locked by a connection that is not quite dead.
    async fn open(&self, topology: &Topology, live: &Arc<Live>) -> Result<(), RabbitError> {
        let channel = live.channel().await?;
        let queue = format!("{}{:032x}", topology.reply_prefix(), rand::random::<u128>());
        let arguments = table([
            ("x-queue-type", text("classic")),
            ("x-max-length", AMQPValue::LongLongInt(REPLY_MESSAGES)),
            ("x-overflow", text("drop-head")),
        ]);
        let options = QueueDeclareOptions::exclusive().auto_delete();
        in_time(channel.queue_declare(queue.as_str().into(), options, arguments)).await?;
        let no_ack = BasicConsumeOptions {
            no_ack: true,
            exclusive: true,
            ..BasicConsumeOptions::default()
        };
        let consuming = channel.basic_consume(
            queue.as_str().into(),
            "replies".into(),
            no_ack,
            FieldTable::default(),
        );
        let consumer = in_time(consuming).await?;
        let address = ReplyAddress(queue.into());
        self.address.send_replace(Some(address.clone()));
        self.tasks.spawn(forward(
            consumer,
            channel,
            Arc::clone(live),
            self.reports.clone(),
            self.counters.clone(),
            AddressInUse {
                address,
                current: self.address.clone(),
            },
        ));
        Ok(())
    }
}

/// Withdraws an address when its queue is no longer read.
struct AddressInUse {
    address: ReplyAddress,
    current: watch::Sender<Option<ReplyAddress>>,
}

impl Drop for AddressInUse {
    fn drop(&mut self) {
        self.current.send_if_modified(|current| {
            let ours = current.as_ref() == Some(&self.address);
            if ours {
                *current = None;
            }
            ours
        });
    }
}

/// Reads a reply queue to its end; the connection is made again then, and with it the queue.
async fn forward(
    mut consumer: Consumer,
    _channel: Channel,
    live: Arc<Live>,
    reports: mpsc::Sender<Vec<Report>>,
    counters: QueueCounters,
    _address: AddressInUse,
) {
    loop {
        let message = tokio::select! {
            message = consumer.next() => message,
            () = live.gone() => break,
        };
        let Some(Ok(message)) = message else { break };
        let Ok(read) = decode_reports(&message.data) else {
            counters.undecodable.inc();
            continue;
        };
        // A gateway that is behind loses reports rather than growing without bound.
        if reports.try_send(read).is_err() {
            counters.lost_replies.inc();
        }
    }
    live.give_up();
}

/// What the consuming connection needs: the queues, and for a gateway its reply queue.
pub(super) struct ConsumeSetUp {
    pub(super) topology: Arc<Topology>,
    pub(super) inbox: Option<ReplyInbox>,
}

#[async_trait]
impl SetUp for ConsumeSetUp {
    async fn set_up(&self, live: &Arc<Live>) -> Result<(), RabbitError> {
        self.topology.declare(live).await?;
        match &self.inbox {
            Some(inbox) => inbox.open(&self.topology, live).await,
            None => Ok(()),
        }
    }
}

/// What the publishing connection needs: the queues, and the right to publish.
pub(super) struct PublishSetUp(pub(super) Arc<Topology>);

#[async_trait]
impl SetUp for PublishSetUp {
    async fn set_up(&self, live: &Arc<Live>) -> Result<(), RabbitError> {
        self.0.declare(live).await?;
        may_publish(live, &self.0).await
    }
}

/// Publishes a message to nobody and waits for its confirm: jobs and replies go through the default exchange, which a user may be
/// forbidden to write to, and the broker says so only then. A confirm that does not come is no refusal: a broker in an alarm gives none.
async fn may_publish(live: &Live, topology: &Topology) -> Result<(), RabbitError> {
    let channel = live.channel().await?;
    in_time(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let confirm = async {
        publish_transient(&channel, topology.nowhere().into(), b"")
            .await?
            .await
    };
    match timeout(PROBE, confirm).await {
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// Publishes a message that may be lost through the default exchange.
pub(super) async fn publish_transient(
    channel: &Channel,
    queue: ShortString,
    body: &[u8],
) -> lapin::Result<PublisherConfirm> {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel
        .basic_publish("".into(), queue, options, body, properties)
        .await
}
