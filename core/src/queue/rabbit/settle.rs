//! Tells the broker what became of a delivery.
//!
//! Settlements are put into the connection's write buffer and not waited for: the broker answers none of them, and the
//! prefetch bounds how many there can be. One whose channel is gone is counted; the broker delivers the message again.

use std::sync::Arc;

use futures_util::FutureExt;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};
use prometheus::IntCounter;

use crate::queue::{Settle, Settlement};

/// One delivery's settlement. Keeps the delivery's channel open until it is made.
#[derive(Debug)]
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

    fn send(&mut self, settlement: Settlement) {
        let Some(channel) = self.channel.take() else {
            return;
        };
        // lapin queues a frame when its future is first polled; waiting longer would only wait for the socket.
        let sent = match settlement {
            Settlement::Ack => channel
                .basic_ack(self.tag, BasicAckOptions::default())
                .now_or_never(),
            Settlement::GiveBack => {
                let options = BasicNackOptions {
                    requeue: true,
                    multiple: false,
                };
                channel.basic_nack(self.tag, options).now_or_never()
            }
            Settlement::DeadLetter => {
                let options = BasicRejectOptions { requeue: false };
                channel.basic_reject(self.tag, options).now_or_never()
            }
        };
        if let Some(Err(_)) = sent {
            self.lost.inc();
        }
    }
}

impl Drop for RabbitSettle {
    fn drop(&mut self) {
        self.send(Settlement::GiveBack);
    }
}

impl Settle for RabbitSettle {
    fn settle(mut self: Box<Self>, settlement: Settlement) {
        self.send(settlement);
    }
}
