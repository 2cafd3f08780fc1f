//! Takes in what the queue has dead-lettered: ends its job, so that nobody waits for the deadline, and stores it with its
//! reason. Any gateway does it for the whole fleet.

use std::sync::Arc;
use std::time::Duration;

use selvage_core::BoxError;
use selvage_core::dead_letters::{DeadLetter, Reason};
use selvage_core::outcome::{Failure, FailureCode};
use selvage_core::program::{RetryPolicy, repeat};
use selvage_core::queue::dead_letters::{Arrival, DeadLetterQueue};
use selvage_core::store::{End, Record};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::background::sweeper::completion;
use crate::service::gateway::Gateway;

/// Mean time between two turns: how long the job of a dead letter goes on as if nothing had happened.
const EVERY: Duration = Duration::from_secs(1);
/// Longest time one call of a dependency may take; the queue's own limits are shorter.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// A message is held while the store is away.
const RETRY: RetryPolicy = RetryPolicy {
    attempt: CALL_LIMIT,
    pauses: (EVERY, EVERY),
    patience: Duration::MAX,
};

/// Takes in what arrives on `queue`, turn after turn, until `stop` fires.
pub async fn run(gateway: Arc<Gateway>, queue: Arc<dyn DeadLetterQueue>, stop: CancellationToken) {
    let turn = || turn(&gateway, queue.as_ref(), &stop);
    repeat(EVERY, "read dead letters", &stop, turn).await;
}

/// Takes in all that has arrived by now.
async fn turn(
    gateway: &Gateway,
    queue: &dyn DeadLetterQueue,
    stop: &CancellationToken,
) -> Result<(), BoxError> {
    while !stop.is_cancelled()
        && let Some(arrival) = timeout(CALL_LIMIT, queue.next()).await??
    {
        take_in(gateway, arrival, stop).await;
    }
    let arrived = timeout(CALL_LIMIT, queue.count()).await??;
    let stored = timeout(CALL_LIMIT, gateway.dead_letters.store.count()).await??;
    let kept = i64::try_from(arrived.saturating_add(stored)).unwrap_or(i64::MAX);
    gateway.metrics.dead_letters_kept.set(kept);
    Ok(())
}

/// Ends the jobs of a message and stores its dead letters. While the store is away the message is held: the broker counts
/// what it takes back, and drops it at the limit.
async fn take_in(gateway: &Gateway, arrival: Arrival, stop: &CancellationToken) {
    for dead_letter in &arrival.dead_letters {
        let ended = retry(stop, "end the job of a dead letter", || {
            end(gateway, dead_letter)
        })
        .await;
        let Some(record) = ended else { return };
        let dead_letter = with_record(dead_letter.clone(), record.as_ref());
        let storing = retry(stop, "store a dead letter", || {
            gateway.dead_letters.store.add(&dead_letter)
        });
        if storing.await.is_none() {
            return;
        }
        let reason = dead_letter.reason.as_str();
        gateway
            .metrics
            .dead_letters
            .with_label_values(&[reason])
            .inc();
        tracing::warn!(job.id = %dead_letter.id, reason, queue = dead_letter.queue, attempts = dead_letter.attempts,
            "a message was dead-lettered: {reason}");
    }
    arrival.ack();
}

/// Ends its job, unless it has ended; its record, where it has one.
async fn end(gateway: &Gateway, dead_letter: &DeadLetter) -> Result<Option<Record>, BoxError> {
    let Some(job) = dead_letter.job().filter(|job| job.submission.is_some()) else {
        return Ok(None);
    };
    let Some(record) = gateway.store.get(&[job.id]).await?.pop().flatten() else {
        return Ok(None);
    };
    if !record.state.is_terminal() {
        let found = gateway
            .predictions
            .cache
            .get(&[job.key])
            .await
            .unwrap_or_default();
        let failed = || End::Failed(failure(dead_letter));
        let completion = completion(gateway, &record, found.into_iter().next().flatten(), failed);
        gateway.store.complete(&[completion]).await?;
        gateway.predictions.watch.nudge(job.id);
    }
    Ok(Some(record))
}

/// The dead letter with what the record knows better than the broker: the starts, and that the job was poison.
fn with_record(dead_letter: DeadLetter, record: Option<&Record>) -> DeadLetter {
    let Some(record) = record else {
        return dead_letter;
    };
    let code = record.failure.as_ref().map(|failure| failure.code);
    let reason = match code {
        Some(FailureCode::Poison) => Reason::Poison,
        _ => dead_letter.reason,
    };
    DeadLetter {
        reason,
        attempts: record.attempts,
        ..dead_letter
    }
}

/// Why the job of a dead letter has failed.
fn failure(dead_letter: &DeadLetter) -> Failure {
    let detail = match dead_letter.reason {
        Reason::DeliveryLimit => {
            format!(
                "the job was handed out {} times without an end",
                dead_letter.attempts
            )
        }
        Reason::Expired => "the job waited longer than the broker lets it".to_owned(),
        Reason::Overflow => "the job had to make room in the broker's queue".to_owned(),
        Reason::Poison | Reason::Undecodable | Reason::Rejected => {
            "no worker could use the job's message".to_owned()
        }
    };
    Failure::new(FailureCode::DeadLettered, detail)
}

/// Does it until it is done; `None` once `stop` fires.
async fn retry<T, E: Into<BoxError>, F: Future<Output = Result<T, E>>>(
    stop: &CancellationToken,
    what: &str,
    call: impl Fn() -> F,
) -> Option<T> {
    let failed = |attempt, error| {
        if attempt == 1 {
            tracing::warn!(%error, "cannot {what}; retrying");
        }
    };
    let retrying = RETRY.run(stop, failed, call);
    stop.run_until_cancelled(retrying).await.flatten()
}
