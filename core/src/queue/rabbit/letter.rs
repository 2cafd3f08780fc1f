//! A dead letter <-> an AMQP message. What the broker says of a death is in `x-death`; what we found out, in headers of our
//! own. Anybody may have written either, so nothing here relies on them.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use super::topology::{number, table, text};
use crate::clock::UnixMillis;
use crate::job::{Job, JobId};
use crate::queue::DELIVERY_LIMIT;
use crate::queue::dead_letters::{Content, Letter, Reason};
use crate::queue::wire::{WireError, decode_jobs, encode_jobs};

/// `delivery_mode` of a message that is kept on disk.
const PERSISTENT: u8 = 2;
/// <https://www.rabbitmq.com/docs/dlx#effects>
const DEATHS: &str = "x-death";
const REASON: &str = "selvage-reason";
const ATTEMPTS: &str = "selvage-attempts";
const QUEUE: &str = "selvage-queue";
const DIED_AT: &str = "selvage-died-at";
/// Longest queue name AMQP knows.
const MAX_NAME: usize = 255;

/// The letters in a message that a queue has set aside.
pub(super) fn arrived(properties: &BasicProperties, body: Vec<u8>) -> Vec<Letter> {
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
    let letter = |id, reason, attempts, content| Letter {
        id,
        reason,
        attempts,
        queue: queue.clone(),
        died_at,
        content,
    };
    let of_job = |job: Job| {
        let attempts = job.earlier_attempts.saturating_add(handed_out);
        letter(job.id, reason, attempts, Content::Job(Box::new(job)))
    };
    match decode_jobs(&body) {
        Ok(jobs) => jobs.into_iter().map(of_job).collect(),
        Err(_) => {
            let content = Content::Foreign(body);
            vec![letter(
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

/// A letter as it is filed.
pub(super) fn to_message(letter: &Letter) -> Result<(Vec<u8>, BasicProperties), WireError> {
    let body = match &letter.content {
        Content::Job(job) => encode_jobs(std::slice::from_ref(job))?,
        Content::Foreign(bytes) => bytes.to_vec(),
    };
    let died_at = i64::try_from(letter.died_at.0).unwrap_or(i64::MAX);
    let headers = table([
        (REASON, text(letter.reason.as_str())),
        (ATTEMPTS, number(letter.attempts)),
        (QUEUE, text(&letter.queue)),
        (DIED_AT, AMQPValue::LongLongInt(died_at)),
    ]);
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(letter.id.to_string().into())
        .with_headers(headers);
    Ok((body, properties))
}

/// A letter that was filed; a message that somebody else put there is shown as far as it can be read.
pub(super) fn from_message(properties: &BasicProperties, body: Vec<u8>) -> Letter {
    let none = FieldTable::default();
    let headers = properties.headers().as_ref().unwrap_or(&none);
    let body = Bytes::from(body);
    let job = decode_jobs(&body)
        .ok()
        .and_then(|jobs| <[Job; 1]>::try_from(jobs).ok())
        .map(|[job]| job);
    let reason = string(headers, REASON).and_then(|word| Reason::of(&word));
    let own_id = || {
        let id = properties.message_id().as_ref()?;
        id.as_str().parse().ok()
    };
    let id = job.as_ref().map(|job| job.id).or_else(own_id);
    Letter {
        id: id.unwrap_or_default(),
        reason: reason.unwrap_or(match job {
            Some(_) => Reason::Rejected,
            None => Reason::Undecodable,
        }),
        attempts: integer(headers, ATTEMPTS)
            .and_then(|attempts| u32::try_from(attempts).ok())
            .unwrap_or_default(),
        queue: string(headers, QUEUE).unwrap_or_default(),
        died_at: integer(headers, DIED_AT).map_or_else(UnixMillis::wall, UnixMillis),
        content: match job {
            Some(job) => Content::Job(Box::new(job)),
            None => Content::Foreign(body),
        },
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

fn integer(table: &FieldTable, name: &str) -> Option<u64> {
    match table.inner().get(name)? {
        AMQPValue::LongLongInt(value) => u64::try_from(*value).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldArray;

    use super::*;
    use crate::queue::suite::{job, promised};

    fn dead(reason: AMQPValue, body: Vec<u8>) -> Vec<Letter> {
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
        let jobs = [job(&model, 1), promised(job(&model, 2))];
        let letters = dead(text("delivery_limit"), encode_jobs(&jobs).unwrap());
        for (letter, job) in letters.iter().zip(jobs) {
            assert_eq!(letter.reason, Reason::DeliveryLimit);
            assert_eq!(letter.attempts, DELIVERY_LIMIT + 1);
            assert_eq!(letter.queue, "selvage.v1.first.batch");
            assert_eq!(letter.died_at, UnixMillis(1_700_000_000_000));
            assert_eq!(letter.job(), Some(&job));
        }
        assert_eq!(letters.len(), 2);
    }

    #[test]
    fn what_nobody_can_read_is_a_letter_too() {
        for reason in [text("rejected"), text("?"), AMQPValue::Void, number(7)] {
            let [letter] = &dead(reason, b"junk".to_vec())[..] else {
                panic!("one letter");
            };
            assert_eq!(letter.reason, Reason::Undecodable);
            assert_eq!(
                letter.content,
                Content::Foreign(Bytes::from_static(b"junk"))
            );
        }
        let bare = arrived(&BasicProperties::default(), Vec::new());
        assert_eq!((bare.len(), bare[0].reason), (1, Reason::Undecodable));
    }

    #[test]
    fn a_filed_letter_is_read_as_it_was() {
        let model = "first".parse().unwrap();
        let letter = |reason, content| Letter {
            id: JobId::new(),
            reason,
            attempts: 3,
            queue: "somewhere".to_owned(),
            died_at: UnixMillis(1_700_000_000_123),
            content,
        };
        let job = promised(job(&model, 1));
        let mut of_job = letter(Reason::Poison, Content::Job(Box::new(job.clone())));
        of_job.id = job.id;
        let junk = Content::Foreign(Bytes::from_static(b"junk"));
        for letter in [of_job, letter(Reason::Undecodable, junk)] {
            let (body, properties) = to_message(&letter).unwrap();
            assert_eq!(from_message(&properties, body), letter);
        }
    }

    #[test]
    fn what_others_filed_is_shown() {
        let headers = table([
            (REASON, number(1)),
            (ATTEMPTS, text("x")),
            (DIED_AT, text("")),
        ]);
        let strange = BasicProperties::default()
            .with_headers(headers)
            .with_message_id("x".into());
        let letter = from_message(&strange, b"junk".to_vec());
        assert_eq!((letter.reason, letter.attempts), (Reason::Undecodable, 0));
        let model = "first".parse().unwrap();
        let body = encode_jobs(&[job(&model, 1)]).unwrap();
        let letter = from_message(&BasicProperties::default(), body);
        assert_eq!(letter.reason, Reason::Rejected);
        assert!(letter.job().is_some());
    }
}
