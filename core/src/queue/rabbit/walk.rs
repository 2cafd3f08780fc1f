//! A walk over the filed letters. It holds what it has seen until its end, so that each letter is seen once; what it did not
//! take out goes back to its old place.
//!
//! While one walk holds letters another would miss them, so a walk takes the floor first: it is the exclusive consumer of an
//! exclusive queue, both of which end with its channel.

use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions,
    QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, ErrorKind};
use tokio::time::{Instant, sleep, timeout};

use super::connection::Link;
use super::dead_letters::unavailable;
use super::letter;
use super::topology::{Topology, in_time, table, text};
use super::trouble::Trouble;
use crate::queue::QueueError;
use crate::queue::backoff::Backoff;
use crate::queue::dead_letters::{Letter, Walk};

/// Longest wait for another walk to end.
const TURN: Duration = Duration::from_secs(5);
/// Longest wait for the broker's word that the walk's channel is closed.
const CLOSE: Duration = Duration::from_secs(2);
/// What the broker says to the second walk: its consumer is refused, its queue is locked, or just being deleted.
const TAKEN: [u16; 3] = [403, 404, 405];

/// Begins a walk as soon as no other one is under way.
pub(super) async fn begin(link: &Link, topology: &Topology) -> Result<RabbitWalk, Trouble> {
    let give_up = Instant::now() + TURN;
    let mut backoff = Backoff::default();
    loop {
        let live = link.now()?;
        let channel = live.channel().await?;
        match take_floor(&channel, topology).await {
            Ok(()) => {
                let total = topology.declare_letters(&channel).await?;
                return Ok(RabbitWalk {
                    channel,
                    queue: topology.letters(),
                    total,
                    last: None,
                });
            }
            Err(trouble) if !is_taken(&trouble) => return Err(trouble),
            Err(_) => {}
        }
        let pause = backoff.pause();
        if Instant::now() + pause > give_up {
            return Err(Trouble::Unusable("somebody else reads the dead letters"));
        }
        sleep(pause).await;
    }
}

async fn take_floor(channel: &Channel, topology: &Topology) -> Result<(), Trouble> {
    let floor = topology.letters_floor();
    let options = QueueDeclareOptions::exclusive().auto_delete();
    let arguments = table([("x-queue-type", text("classic"))]);
    in_time(channel.queue_declare(floor.as_str().into(), options, arguments)).await?;
    let exclusive = BasicConsumeOptions {
        exclusive: true,
        ..BasicConsumeOptions::default()
    };
    let consuming = channel.basic_consume(
        floor.as_str().into(),
        "".into(),
        exclusive,
        FieldTable::default(),
    );
    in_time(consuming).await?;
    Ok(())
}

fn is_taken(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Amqp(error) => match error.kind() {
            ErrorKind::ProtocolError(answer) => TAKEN.contains(&answer.get_id()),
            _ => false,
        },
        _ => false,
    }
}

/// A walk that has the floor.
pub(super) struct RabbitWalk {
    channel: Channel,
    queue: String,
    total: u64,
    /// Tag of the letter that was given last.
    last: Option<u64>,
}

#[async_trait]
impl Walk for RabbitWalk {
    fn total(&self) -> u64 {
        self.total
    }

    async fn next(&mut self) -> Result<Option<Letter>, QueueError> {
        let options = BasicGetOptions { no_ack: false };
        let getting = self.channel.basic_get(self.queue.as_str().into(), options);
        let message = in_time(getting).await.map_err(unavailable)?;
        let message = message.map(|message| message.delivery);
        self.last = message.as_ref().map(|message| message.delivery_tag);
        Ok(message.map(|message| letter::from_message(&message.properties, message.data)))
    }

    async fn remove(&mut self) -> Result<(), QueueError> {
        let Some(tag) = self.last.take() else {
            return Ok(());
        };
        let acking = self.channel.basic_ack(tag, BasicAckOptions::default());
        in_time(acking).await.map_err(unavailable)
    }

    async fn purge(&mut self) -> Result<u64, QueueError> {
        let queue = self.queue.as_str().into();
        let purging = self
            .channel
            .queue_purge(queue, QueuePurgeOptions::default());
        let purged = in_time(purging).await.map_err(unavailable)?;
        Ok(u64::from(purged))
    }

    async fn end(self: Box<Self>) {
        let all = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        let ending = async {
            self.channel.basic_nack(0, all).await?;
            // The queue answers after it has taken back the letters; only then may the next walk begin.
            let options = QueueDeclareOptions::durable().passive();
            let queue = self.queue.as_str().into();
            self.channel
                .queue_declare(queue, options, FieldTable::default())
                .await?;
            self.channel.close(200, "OK".into()).await
        };
        // Whatever comes of it, the channel ends with this value, and the letters go back then.
        let _ = timeout(CLOSE, ending).await;
    }
}
