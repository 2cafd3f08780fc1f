//! Messages that queues dead-letter, taken out of the queue in which RabbitMQ collects them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lapin::options::BasicGetOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use prometheus::IntCounter;

use super::error::RabbitError;
use super::replies::SharedChannel;
use super::settle::RabbitSettle;
use super::topology::{Topology, in_time, waiting};
use crate::clock::UnixMillis;
use crate::dead_letters::{Content, DeadLetter, Reason};
use crate::job::{Job, JobId};
use crate::queue::dead_letters::{Arrival, DeadLetterQueue};
use crate::queue::wire::decode_jobs;
use crate::queue::{DELIVERY_LIMIT, QueueError};

/// <https://www.rabbitmq.com/docs/dlx#effects>
const DEATHS: &str = "x-death";
/// Longest queue name AMQP knows.
const MAX_NAME: usize = 255;

/// The dead-lettered messages of a fleet.
#[derive(Debug)]
pub(super) struct RabbitDeadLetterQueue {
    /// On the consuming connection: an alarm does not stop that one.
    pub(super) channel: SharedChannel,
    pub(super) topology: Arc<Topology>,
    pub(super) lost_settlements: IntCounter,
}

impl RabbitDeadLetterQueue {
    async fn take(&self, channel: &Channel) -> Result<Option<Arrival>, RabbitError> {
        let queue = self.topology.dead().into();
        let options = BasicGetOptions { no_ack: false };
        let Some(message) = in_time(channel.basic_get(queue, options)).await? else {
            return Ok(None);
        };
        let message = message.delivery;
        let tag = message.delivery_tag;
        let lost = self.lost_settlements.clone();
        Ok(Some(Arrival {
            dead_letters: arrived(&message.properties, message.data),
            settle: Box::new(RabbitSettle::new(Arc::new(channel.clone()), tag, lost)),
        }))
    }
}

pub(super) fn unavailable(error: RabbitError) -> QueueError {
    QueueError::Unavailable(error.into())
}

#[async_trait]
impl DeadLetterQueue for RabbitDeadLetterQueue {
    async fn next(&self) -> Result<Option<Arrival>, QueueError> {
        let taken = self.channel.run(async |channel| self.take(channel).await);
        taken.await.map_err(unavailable)
    }

    async fn count(&self) -> Result<u64, QueueError> {
        let topology = &self.topology;
        let counted = self
            .channel
            .run(async |channel| waiting(channel, topology.dead()).await);
        let counted = counted.await;
        if matches!(counted, Err(RabbitError::Amqp(_))) {
            // The queue is missing, most likely: queues cannot dead-letter anything without it.
            let declared = self
                .channel
                .run(async |channel| topology.declare_dead(channel).await);
            declared.await.map_err(unavailable)?;
        }
        counted.map_err(unavailable)
    }
}

/// The dead letters in a message. What the broker says of a death is in `x-death`; anybody may have written that, so nothing
/// here relies on it.
fn arrived(properties: &BasicProperties, body: Vec<u8>) -> Vec<DeadLetter> {
    let death =
        properties
            .headers()
            .as_ref()
            .and_then(|headers| match headers.inner().get(DEATHS)? {
                AMQPValue::FieldArray(deaths) => match deaths.as_slice().first()? {
                    AMQPValue::FieldTable(latest) => Some(latest),
                    _ => None,
                },
                _ => None,
            });
    let reason = death
        .and_then(|death| string(death, "reason"))
        .and_then(|word| broker_reason(&word))
        .unwrap_or(Reason::Rejected);
    let queue = death
        .and_then(|death| string(death, "queue"))
        .unwrap_or_default();
    let died_at = death
        .and_then(|death| match death.inner().get("time")? {
            AMQPValue::Timestamp(seconds) => Some(UnixMillis(seconds.saturating_mul(1000))),
            _ => None,
        })
        .unwrap_or_else(UnixMillis::wall);
    let handed_out = match reason {
        Reason::DeliveryLimit => DELIVERY_LIMIT + 1,
        Reason::Rejected | Reason::Undecodable | Reason::Poison => 1,
        Reason::Expired | Reason::Overflow => 0,
    };
    let body = Bytes::from(body);
    let dead_letter = |id, reason, attempts, content| DeadLetter {
        id,
        reason,
        attempts,
        queue: queue.clone(),
        died_at,
        content,
    };
    let of_job = |job: Job| {
        let attempts = job.earlier_attempts.saturating_add(handed_out);
        dead_letter(job.id, reason, attempts, Content::Job(Box::new(job)))
    };
    match decode_jobs(&body) {
        Ok(jobs) => jobs.into_iter().map(of_job).collect(),
        Err(_) => {
            let content = Content::Foreign(body);
            vec![dead_letter(
                JobId::new(),
                Reason::Undecodable,
                handed_out,
                content,
            )]
        }
    }
}

/// The reasons RabbitMQ knows.
fn broker_reason(word: &str) -> Option<Reason> {
    match word {
        "rejected" => Some(Reason::Rejected),
        "delivery_limit" => Some(Reason::DeliveryLimit),
        "expired" => Some(Reason::Expired),
        "maxlen" => Some(Reason::Overflow),
        _ => None,
    }
}

fn string(table: &FieldTable, name: &str) -> Option<String> {
    match table.inner().get(name)? {
        AMQPValue::LongString(text) => {
            let text = std::str::from_utf8(text.as_bytes()).ok()?;
            (text.len() <= MAX_NAME).then(|| text.to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldArray;

    use super::super::topology::{number, table, text};
    use super::*;
    use crate::queue::suite::{job, submitted};
    use crate::queue::wire::encode_jobs;

    fn dead(reason: AMQPValue, body: Vec<u8>) -> Vec<DeadLetter> {
        let death = table([
            ("reason", reason),
            ("queue", text("selvage.v1.first.batch")),
            ("time", AMQPValue::Timestamp(1_700_000_000)),
        ]);
        let mut deaths = FieldArray::default();
        deaths.push(AMQPValue::FieldTable(death));
        let headers = table([(DEATHS, AMQPValue::FieldArray(deaths))]);
        arrived(&BasicProperties::default().with_headers(headers), body)
    }

    #[test]
    fn the_broker_says_why_where_and_when() {
        let model = "first".parse().unwrap();
        let jobs = [job(&model, 1), submitted(job(&model, 2))];
        let dead_letters = dead(text("delivery_limit"), encode_jobs(&jobs).unwrap());
        for (dead_letter, job) in dead_letters.iter().zip(jobs) {
            assert_eq!(dead_letter.reason, Reason::DeliveryLimit);
            assert_eq!(dead_letter.attempts, DELIVERY_LIMIT + 1);
            assert_eq!(dead_letter.queue, "selvage.v1.first.batch");
            assert_eq!(dead_letter.died_at, UnixMillis(1_700_000_000_000));
            assert_eq!(dead_letter.job(), Some(&job));
        }
        assert_eq!(dead_letters.len(), 2);
    }

    #[test]
    fn what_nobody_can_read_is_a_dead_letter_too() {
        for reason in [text("rejected"), text("?"), AMQPValue::Void, number(7)] {
            let [dead_letter] = &dead(reason, b"junk".to_vec())[..] else {
                panic!("one dead letter");
            };
            assert_eq!(dead_letter.reason, Reason::Undecodable);
            assert_eq!(
                dead_letter.content,
                Content::Foreign(Bytes::from_static(b"junk"))
            );
        }
        let bare = arrived(&BasicProperties::default(), Vec::new());
        assert_eq!((bare.len(), bare[0].reason), (1, Reason::Undecodable));
    }
}
