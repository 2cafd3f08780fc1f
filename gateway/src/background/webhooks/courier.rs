//! Takes webhooks that are due out of the store's outbox and tries to deliver them, for a day. Any gateway may: each is leased,
//! and what a gateway that died has leased is another's when the lease is over. So a webhook may be delivered twice, never lost.
//!
//! What has no slot is put back for a short time, and the next part of the outbox is looked at: a long backlog of one owner
//! does not hide what is due for another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::Rng as _;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use selvage_core::key_name::KeyName;
use selvage_core::program::ticks;
use selvage_core::store::Record;
use selvage_core::webhook::{Delivery, Next, TRIED_FOR};
use tokio::select;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::message::message;
use super::slots::{Slot, Slots};
use crate::service::gateway::Gateway;
use crate::service::webhooks::address::Blocked;
use crate::service::webhooks::{Sender, TRY_LIMIT, Webhooks};

/// How often the outbox is looked into.
const EVERY: Duration = Duration::from_secs(1);
/// Longer than an attempt and what it writes take.
const LEASE: Duration = Duration::from_secs(30);
/// Longest time one call of the store may take.
const STORE_LIMIT: Duration = Duration::from_secs(3);
/// Webhooks that are leased at once.
const BATCH: usize = 64;
/// Most batches that are leased in one turn.
const MAX_BATCHES: usize = 16;
/// The first webhook of an owner that has no slot is put back for so long, the second for twice as long, and so on: they keep
/// their order, and what is put back is looked at no more often than that.
const PUT_BACK: Duration = Duration::from_millis(10);
/// Longest time between two attempts.
const SLOWEST: Duration = Duration::from_secs(4 * 3600);
/// Longest wait that a receiver's `Retry-After` is followed for.
const LONGEST_ADVICE: Duration = Duration::from_secs(3600);

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    /// The receiver answered with that status, and perhaps said when to come back.
    Answered(u16, Option<Duration>),
    /// No answer came.
    Failed(&'static str),
}

/// No connection was made.
const UNREACHABLE: Tried = Tried::Failed("unreachable");

/// Tells what is due, again and again, until `stop` fires.
pub async fn run(gateway: Arc<Gateway>, stop: CancellationToken) {
    if gateway.webhooks.sender.is_none() {
        return;
    }
    let slots = Arc::<Slots>::default();
    let mut ticks = ticks(EVERY);
    let mut some_wait = false;
    loop {
        let next_turn = async {
            select! {
                _ = ticks.tick() => {}
                () = slots.freed(), if some_wait => {}
            }
        };
        if stop.run_until_cancelled(next_turn).await.is_none() {
            return;
        }
        some_wait = turn(&gateway, &slots, &stop).await;
    }
}

/// Leases what is due, a batch at a time, and starts what has a slot. Says whether some had none.
async fn turn(gateway: &Arc<Gateway>, slots: &Arc<Slots>, stop: &CancellationToken) -> bool {
    let mut waiting: HashMap<Option<KeyName>, u32> = HashMap::new();
    for _ in 0..MAX_BATCHES {
        if slots.are_taken() {
            return true;
        }
        let due = timeout(STORE_LIMIT, gateway.store.lease_webhooks(BATCH, LEASE)).await;
        // While the store is away its outbox waits.
        let Ok(Ok(due)) = due else { break };
        let is_last = due.len() < BATCH;
        let mut put_back = Vec::new();
        for record in due {
            let url = record
                .seed
                .submission
                .webhook
                .as_ref()
                .map(|webhook| &webhook.url);
            let url = url.map_or("", String::as_str);
            if let Some(slot) = slots.take(record.seed.submission.owner.as_ref(), url) {
                start(gateway, record, slot, stop.clone());
            } else {
                let (id, owner) = (record.seed.id, record.seed.submission.owner);
                let earlier = waiting.entry(owner).or_default();
                *earlier += 1;
                let next = Next::After(PUT_BACK * *earlier);
                put_back.push(timeout(
                    STORE_LIMIT,
                    gateway.store.complete_webhook(id, None, next),
                ));
            }
        }
        // One that could not be put back is due again when its lease is over.
        join_all(put_back).await;
        if is_last {
            break;
        }
    }
    !waiting.is_empty()
}

fn start(gateway: &Arc<Gateway>, record: Record, slot: Slot, stop: CancellationToken) {
    let owned = Arc::clone(gateway);
    gateway.life.tasks.spawn(async move {
        stop.run_until_cancelled(tell(&owned, record)).await;
        drop(slot);
    });
}

async fn tell(gateway: &Gateway, record: Record) {
    let webhooks = &gateway.webhooks;
    let Some(sender) = &webhooks.sender else {
        return;
    };
    let tried = try_once(gateway, webhooks, sender, &record).await;
    let now = gateway.predictions.clock.now();
    let age = now.since(record.finished_at.unwrap_or(now));
    let before = record.delivery.unwrap_or_default();
    let (mut delivery, next, result) = judge(&before, tried, age, webhooks.first_retry);
    match result {
        "delivered" => delivery.delivered_at = Some(now),
        "given_up" => delivery.stopped_at = Some(now),
        _ => {}
    }
    gateway.metrics.webhooks.with_label_values(&[result]).inc();
    let id = record.seed.id;
    tracing::debug!(job.id = %id, result, attempts = delivery.attempts, "a webhook was tried: {result}");
    let noted = timeout(
        STORE_LIMIT,
        gateway.store.complete_webhook(id, Some(&delivery), next),
    )
    .await;
    if !matches!(noted, Ok(Ok(()))) {
        tracing::warn!(job.id = %id, "what became of a webhook could not be noted; it is tried again");
    }
}

async fn try_once(
    gateway: &Gateway,
    webhooks: &Webhooks,
    sender: &Sender,
    record: &Record,
) -> Tried {
    // The rule may have become stricter since the job was taken.
    let url = record.seed.submission.webhook.as_ref();
    let url = url.and_then(|webhook| webhooks.addresses.check(&webhook.url).ok());
    let Some(url) = url else {
        return blocked(record);
    };
    let Some(message) = message(gateway, record, &sender.secrets) else {
        return Tried::Failed("unwritable");
    };
    let request = sender
        .client
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", message.id)
        .header("webhook-timestamp", message.timestamp)
        .header("webhook-signature", message.signature)
        .body(message.body);
    // The answer's body is not read: its connection is closed with it.
    match timeout(TRY_LIMIT, request.send()).await {
        Ok(Ok(answer)) => {
            let advice = answer.headers().get(RETRY_AFTER);
            let seconds = advice.and_then(|value| value.to_str().ok()?.parse().ok());
            let advice = seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_ADVICE));
            Tried::Answered(answer.status().as_u16(), advice)
        }
        Ok(Err(error)) if is_blocked(&error) => blocked(record),
        Ok(Err(error)) if error.is_timeout() => Tried::Failed("timeout"),
        Ok(Err(error)) if error.is_connect() => UNREACHABLE,
        Ok(Err(_)) => Tried::Failed("broken_off"),
        Err(_elapsed) => Tried::Failed("timeout"),
    }
}

/// The address is forbidden. To the client it looks as if nobody answered: else it could ask which names have an address
/// inside.
fn blocked(record: &Record) -> Tried {
    let id = record.seed.id;
    tracing::info!(job.id = %id, "a webhook was not sent: its address is not public");
    UNREACHABLE
}

fn is_blocked(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<Blocked>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// What an attempt means for the delivery, and what comes next.
fn judge(
    before: &Delivery,
    tried: Tried,
    age: Duration,
    first_retry: Duration,
) -> (Delivery, Next, &'static str) {
    let (last_status, last_error, advice) = match tried {
        Tried::Answered(status, advice) => (Some(status), None, advice),
        Tried::Failed(reason) => (None, Some(reason), None),
    };
    let delivery = Delivery {
        attempts: before.attempts.saturating_add(1),
        last_status,
        last_error: last_error.map(str::to_owned),
        ..before.clone()
    };
    match tried {
        Tried::Answered(200..=299, _) => return (delivery, Next::Nothing, "delivered"),
        // The receiver wants no more of it.
        Tried::Answered(410, _) => return (delivery, Next::Nothing, "given_up"),
        Tried::Answered(..) | Tried::Failed(_) => {}
    }
    let delay = delay(delivery.attempts, first_retry).max(advice.unwrap_or_default());
    if age + delay > TRIED_FOR {
        return (delivery, Next::Nothing, "given_up");
    }
    (delivery, Next::After(delay), "failed")
}

/// Six times as long after each attempt, up to a bound, and up to a fifth more or less.
fn delay(attempts: u32, first: Duration) -> Duration {
    let factor = 6_u32.saturating_pow(attempts.saturating_sub(1).min(10));
    let delay = first.saturating_mul(factor).min(SLOWEST);
    delay.mul_f64(rand::rng().random_range(0.8..1.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(5);

    fn after(attempts: u32, tried: Tried, age: Duration) -> (Delivery, Next, &'static str) {
        let before = Delivery {
            attempts,
            ..Delivery::default()
        };
        judge(&before, tried, age, FIRST)
    }

    #[test]
    fn an_answer_decides_what_comes_next() {
        let cases = [
            (Tried::Answered(200, None), "delivered"),
            (Tried::Answered(204, None), "delivered"),
            (Tried::Answered(410, None), "given_up"),
            (Tried::Answered(301, None), "failed"),
            (Tried::Answered(404, None), "failed"),
            (Tried::Answered(500, None), "failed"),
            (Tried::Failed("timeout"), "failed"),
        ];
        for (tried, expected) in cases {
            let (delivery, next, result) = after(0, tried, Duration::ZERO);
            assert_eq!((result, delivery.attempts), (expected, 1), "{tried:?}");
            assert_eq!(
                matches!(next, Next::After(_)),
                expected == "failed",
                "{tried:?}"
            );
        }
    }

    #[test]
    fn tries_go_on_for_a_day_and_not_longer() {
        let (mut age, mut attempts) = (Duration::ZERO, 0);
        while let (_, Next::After(delay), _) = after(attempts, Tried::Answered(500, None), age) {
            age += delay;
            attempts += 1;
        }
        assert!((8..=16).contains(&attempts), "{attempts} attempts");
        assert!(age > TRIED_FOR * 3 / 4 && age <= TRIED_FOR, "{age:?}");
    }

    #[test]
    fn a_receivers_advice_is_followed_within_bounds() {
        let advice = Some(Duration::from_secs(600));
        let (_, next, _) = after(0, Tried::Answered(429, advice), Duration::ZERO);
        assert_eq!(next, Next::After(Duration::from_secs(600)));
    }
}
