//! Tells the broker what became of a delivery.
//!
//! Settlements are put into the connection's write buffer and not waited for: the broker answers none of them, and the
//! prefetch bounds how many there can be. One whose channel is gone is counted; the broker delivers the message again.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};
use prometheus::IntCounter;

use crate::queue::Settle;

/// One delivery's settlement. Keeps the delivery's channel open until it is made.
pub(super) struct RabbitSettle {
    channel: Option<Arc<Channel>>,
    tag: u64,
    lost: IntCounter,
}

impl RabbitSettle {
    pub(super) const fn new(channel: Arc<Channel>, tag: u64, lost: IntCounter) -> Self {
        Self {
            channel: Some(channel),
            tag,
            lost,
        }
    }

    /// The channel, once.
    fn take(&mut self) -> Option<Arc<Channel>> {
        self.channel.take()
    }

    /// lapin queues a frame when its future is first polled; waiting longer would only wait for the socket.
    fn queue(&self, sending: impl Future<Output = lapin::Result<()>>) {
        if let Some(Err(_)) = sending.now_or_never() {
            self.lost.inc();
        }
    }

    fn requeue(&mut self) {
        if let Some(channel) = self.take() {
            let options = BasicNackOptions {
                requeue: true,
                multiple: false,
            };
            self.queue(channel.basic_nack(self.tag, options));
        }
    }
}

impl fmt::Debug for RabbitSettle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitSettle")
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

impl Drop for RabbitSettle {
    fn drop(&mut self) {
        self.requeue();
    }
}

#[async_trait]
impl Settle for RabbitSettle {
    async fn ack(mut self: Box<Self>) {
        if let Some(channel) = self.take() {
            self.queue(channel.basic_ack(self.tag, BasicAckOptions::default()));
        }
    }

    async fn give_back(mut self: Box<Self>) {
        self.requeue();
    }

    async fn dead_letter(mut self: Box<Self>) {
        if let Some(channel) = self.take() {
            let options = BasicRejectOptions { requeue: false };
            self.queue(channel.basic_reject(self.tag, options));
        }
    }
}
