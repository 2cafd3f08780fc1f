//! Takes webhooks that are due out of the store's outbox and tries to tell them, for a day. Any gateway may: each is leased,
//! and what a gateway that died has leased is another's when the lease is over. So a webhook may be told twice, never lost.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use selvage_core::store::Record;
use selvage_core::webhook::{Delivery, Next};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::address::Blocked;
use super::message::message;
use super::{Sender, TRY_LIMIT, Webhooks};
use crate::App;

/// How often the outbox is looked into.
const EVERY: Duration = Duration::from_secs(1);
/// Longer than a try and what it writes take.
const LEASE: Duration = Duration::from_secs(30);
/// Longest time one call of the store may take.
const STORE_LIMIT: Duration = Duration::from_secs(3);
/// Most tries at once: a few receivers that hang do not hold up the others.
const MAX_AT_ONCE: usize = 64;
/// After so long since the job's end a webhook is given up.
const GIVE_UP: Duration = Duration::from_secs(86_400);
/// Longest time between two tries.
const SLOWEST: Duration = Duration::from_secs(4 * 3600);
/// Longest wait that a receiver's `Retry-After` is followed for.
const LONGEST_ADVICE: Duration = Duration::from_secs(3600);

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    /// The receiver answered with that status, and perhaps said when to come back.
    Answered(u16, Option<Duration>),
    /// Its name means an address that may not be told.
    Blocked,
    /// No answer came.
    Failed(&'static str),
}

/// Tells what is due, again and again, until `stop` fires.
pub async fn run(app: App, stop: CancellationToken) {
    if app.webhooks.sender.is_none() {
        return;
    }
    let places = Arc::new(Semaphore::new(MAX_AT_ONCE));
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let free = places.available_permits();
        if free == 0 {
            continue;
        }
        let due = timeout(STORE_LIMIT, app.store.untold(free, LEASE)).await;
        // While the store is away its outbox waits.
        let Ok(Ok(due)) = due else { continue };
        for record in due {
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                break;
            };
            let (told, stop) = (app.clone(), stop.clone());
            app.life.tasks.spawn(async move {
                let _place = place;
                stop.run_until_cancelled(tell(&told, record)).await;
            });
        }
    }
}

async fn tell(app: &App, record: Record) {
    let webhooks = &app.webhooks;
    let Some(sender) = &webhooks.sender else {
        return;
    };
    let tried = try_once(app, webhooks, sender, &record).await;
    let now = app.predictions.clock.now();
    let age = now.since(record.finished_at.unwrap_or(now));
    let before = record.delivery.unwrap_or_default();
    let (mut delivery, next, result) = judge(&before, tried, age, webhooks.first_retry);
    match result {
        "delivered" => delivery.delivered_at = Some(now),
        "given_up" | "blocked" => delivery.stopped_at = Some(now),
        _ => {}
    }
    app.metrics.webhooks.with_label_values(&[result]).inc();
    let id = record.seed.id;
    tracing::debug!(job.id = %id, result, attempts = delivery.attempts, "a webhook was tried: {result}");
    let noted = timeout(STORE_LIMIT, app.store.told(id, &delivery, next)).await;
    if !matches!(noted, Ok(Ok(()))) {
        tracing::warn!(job.id = %id, "what became of a webhook could not be noted; it is tried again");
    }
}

async fn try_once(app: &App, webhooks: &Webhooks, sender: &Sender, record: &Record) -> Tried {
    let Some(webhook) = &record.seed.webhook else {
        return Tried::Blocked;
    };
    // The rule may have become stricter since the job was taken.
    let Ok(url) = webhooks.addresses.check(&webhook.url) else {
        return Tried::Blocked;
    };
    let Some(message) = message(app, record, &sender.secret) else {
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
        Ok(Err(error)) if is_blocked(&error) => Tried::Blocked,
        Ok(Err(error)) if error.is_timeout() => Tried::Failed("timeout"),
        Ok(Err(error)) if error.is_connect() => Tried::Failed("unreachable"),
        Ok(Err(_)) => Tried::Failed("broken_off"),
        Err(_elapsed) => Tried::Failed("timeout"),
    }
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

/// What a try means for the delivery, and what comes next.
fn judge(
    before: &Delivery,
    tried: Tried,
    age: Duration,
    first_retry: Duration,
) -> (Delivery, Next, &'static str) {
    let (last_status, last_error, advice) = match tried {
        Tried::Answered(status, advice) => (Some(status), None, advice),
        Tried::Blocked => (None, Some("blocked"), None),
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
        Tried::Blocked => return (delivery, Next::Nothing, "blocked"),
        Tried::Answered(..) | Tried::Failed(_) => {}
    }
    let delay = delay(delivery.attempts, first_retry).max(advice.unwrap_or_default());
    if age + delay > GIVE_UP {
        return (delivery, Next::Nothing, "given_up");
    }
    (delivery, Next::After(delay), "failed")
}

/// Six times as long after each try, up to a bound, and up to a fifth more or less.
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
            (Tried::Blocked, "blocked"),
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
        let (mut age, mut tries) = (Duration::ZERO, 0);
        while let (_, Next::After(delay), _) = after(tries, Tried::Answered(500, None), age) {
            age += delay;
            tries += 1;
        }
        assert!((8..=16).contains(&tries), "{tries} tries");
        assert!(age > GIVE_UP * 3 / 4 && age <= GIVE_UP, "{age:?}");
    }

    #[test]
    fn a_receivers_advice_is_followed_within_bounds() {
        let advice = Some(Duration::from_secs(600));
        let (_, next, _) = after(0, Tried::Answered(429, advice), Duration::ZERO);
        assert_eq!(next, Next::After(Duration::from_secs(600)));
    }
}
