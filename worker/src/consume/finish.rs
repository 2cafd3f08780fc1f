//! What becomes of jobs that have ended: kept in the cache, recorded, reported, and only then settled.
//!
//! Jobs that end in the same moment share one cache write, one store call and one reply per gateway. The two queues are
//! finished apart, so that asynchronous jobs may wait for their store while answers that are waited for go out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use selvage_core::job::{Priority, ReplyAddress};
use selvage_core::outcome::{Failure, FailureCode, Outcome, Report, Scores};
use selvage_core::program::trace::{self, Processed};
use selvage_core::program::{RetryPolicy, failpoint};
use selvage_core::store::{Completion, End as RecordEnd, StoreError};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{Completed, End};
use crate::metrics::Metrics;
use selvage_core::backends::Backends;

/// Rounds of one queue that may be under way at once.
const ROUNDS: usize = 4;
/// Batches that join one round.
const GATHERED: usize = 64;
/// Longest time for one reply; the waiter finds its answer in the cache if it is lost.
const REPLY: Duration = Duration::from_secs(5);

/// How calls of the job store are retried that must succeed; the store has a shorter budget of its own. It may be away for
/// several times what a restart of it takes, and a small part of the half hour after which RabbitMQ takes unsettled
/// deliveries away.
const RETRY: RetryPolicy = RetryPolicy {
    attempt: Duration::from_secs(5),
    pauses: (Duration::from_millis(50), Duration::from_secs(2)),
    patience: Duration::from_secs(30),
};

/// Retries a call of the job store. `None` where the store stays away, or `stop` fires meanwhile.
pub(crate) async fn retry<T, F>(
    metrics: &Metrics,
    stop: &CancellationToken,
    call: impl Fn() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let failed = |_, error| {
        metrics.store_errors.inc();
        tracing::debug!(%error, "the job store failed; retrying");
    };
    RETRY.run(stop, failed, call).await
}

/// Finishes jobs of one queue.
#[derive(Clone, Debug)]
pub(crate) struct Finisher {
    pub(crate) backends: Backends,
    pub(crate) metrics: Metrics,
    /// Fires when the drain is over: what cannot be recorded by then goes back.
    pub(crate) give_up: CancellationToken,
}

impl Finisher {
    /// Finishes what comes until nothing can come any more.
    pub(crate) async fn work(self, priority: Priority, mut ended: mpsc::Receiver<Vec<Completed>>) {
        let rounds = TaskTracker::new();
        let room = Arc::new(Semaphore::new(ROUNDS));
        let mut gathered = Vec::new();
        while ended.recv_many(&mut gathered, GATHERED).await > 0 {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                break;
            };
            // While all rounds were busy more may have ended: they join.
            while gathered.len() < GATHERED {
                match ended.try_recv() {
                    Ok(more) => gathered.push(more),
                    Err(_) => break,
                }
            }
            let round: Vec<Completed> = gathered.drain(..).flatten().collect();
            let finisher = self.clone();
            rounds.spawn(async move {
                match priority {
                    Priority::Interactive => finisher.answer(round).await,
                    Priority::Batch => finisher.record(round).await,
                }
                drop(permit);
            });
        }
        rounds.close();
        rounds.wait().await;
    }

    /// A round of jobs somebody waits for.
    async fn answer(&self, round: Vec<Completed>) {
        let (finished, back) = part(round);
        self.keep(&finished).await;
        // Nobody waits beyond the deadline, so an expired job needs no reply.
        let wanted = |ended: &&Completed| !matches!(ended.end, End::Outcome(Outcome::Expired));
        self.reply(finished.iter().filter(wanted)).await;
        self.settle(finished);
        self.hand_back(back);
    }

    /// A round of asynchronous jobs.
    async fn record(&self, round: Vec<Completed>) {
        let (finished, back) = part(round);
        self.keep(&finished).await;
        if let Some(first) = self.complete(&finished).await {
            failpoint::reach("after_store", finished.iter().map(|ended| &ended.task.job));
            // A record that had ended already may have been read by clients; it is not changed.
            let news = finished.iter().zip(first).filter(|(_, first)| *first);
            self.reply(news.map(|(ended, _)| ended)).await;
            self.settle(finished);
        } else {
            self.hand_back(finished);
        }
        let begun = back.iter().filter(|ended| ended.task.running.is_some());
        let ids: Vec<_> = begun.map(|ended| ended.task.job.id).collect();
        if !ids.is_empty() {
            let release = || self.backends.store.release(&ids);
            let released = retry(&self.metrics, &self.give_up, release).await;
            if released.is_none() {
                tracing::warn!(jobs = ids.len(), "starts of jobs that go back stay counted");
            }
        }
        self.hand_back(back);
    }

    /// New answers into the cache; best effort.
    async fn keep(&self, finished: &[Completed]) {
        let mut seen = HashSet::new();
        let entries: Vec<(_, Scores)> = finished
            .iter()
            .filter(|ended| ended.task.job.cache.write)
            .filter_map(|ended| match &ended.end {
                End::Outcome(Outcome::Succeeded(scores)) => {
                    Some((ended.task.job.key, scores.clone()))
                }
                End::Outcome(_) | End::Cached(_) | End::HandedBack => None,
            })
            .filter(|(key, _)| seen.insert(*key))
            .collect();
        if entries.is_empty() {
            return;
        }
        if let Err(error) = self.backends.cache.put(&entries).await {
            self.metrics.cache_errors.inc();
            tracing::debug!(error = %error.0, "answers could not be kept");
        }
    }

    /// The ends into the records; per job whether this was its first end. `None` where the store stays away.
    async fn complete(&self, finished: &[Completed]) -> Option<Vec<bool>> {
        let completions: Vec<Completion> = finished.iter().filter_map(completion).collect();
        if completions.is_empty() {
            return Some(Vec::new());
        }
        let complete = || self.backends.store.complete(&completions);
        let done = retry(&self.metrics, &self.give_up, complete).await;
        if done.is_none() {
            tracing::warn!(
                jobs = completions.len(),
                "the job store stays away; finished jobs go back to the broker"
            );
        }
        done
    }

    /// One message to each gateway that waits.
    async fn reply(&self, finished: impl Iterator<Item = &Completed>) {
        let mut by_address: HashMap<ReplyAddress, Vec<Report>> = HashMap::new();
        for ended in finished {
            let Some((outcome, cached)) = outcome(&ended.end) else {
                continue;
            };
            if let Some(address) = &ended.task.job.reply_to {
                by_address.entry(address.clone()).or_default().push(Report {
                    id: ended.task.job.id,
                    outcome: outcome.clone(),
                    cost: ended.cost,
                    attempts: ended.task.attempt,
                    cached,
                });
            }
        }
        let send = |(address, reports)| async move {
            let sent = timeout(REPLY, self.backends.queue.reply(&address, reports)).await;
            if !matches!(sent, Ok(Ok(()))) {
                self.metrics.reply_errors.inc();
                tracing::debug!(?sent, "a reply was lost");
            }
        };
        join_all(by_address.into_iter().map(send)).await;
    }

    fn settle(&self, finished: Vec<Completed>) {
        failpoint::reach("before_ack", finished.iter().map(|ended| &ended.task.job));
        let now = self.backends.clock.now();
        for ended in finished {
            if let Some((outcome, _)) = outcome(&ended.end) {
                let job = &ended.task.job;
                self.metrics.finished(job, outcome.as_str(), now);
                trace::processed(&Processed {
                    job,
                    arrived: ended.task.arrived,
                    left: ended.left,
                    cost: &ended.cost,
                    outcome: outcome.as_str(),
                    attempt: ended.task.attempt,
                });
            }
            if is_poison(&ended) {
                ended.task.delivery_guard.dead_letter();
            } else {
                ended.task.delivery_guard.done();
            }
        }
    }

    fn hand_back(&self, back: Vec<Completed>) {
        for ended in back {
            self.metrics.given_back.inc();
            ended.task.delivery_guard.hand_back();
        }
    }
}

/// What a job's record is to say; `None` for a job that has no end.
fn completion(ended: &Completed) -> Option<Completion> {
    let (outcome, cached) = outcome(&ended.end)?;
    let job = &ended.task.job;
    let end = match outcome {
        Outcome::Succeeded(scores) => {
            let top_k = job
                .submission
                .as_ref()
                .map_or(1, |submission| submission.top_k);
            ended.task.meaning.output(scores, top_k).map_or_else(
                || {
                    let detail = "the model's values are not of its task";
                    RecordEnd::Failed(Failure::new(FailureCode::InferenceFailed, detail))
                },
                RecordEnd::Succeeded,
            )
        }
        Outcome::Failed(failure) => RecordEnd::Failed(failure.clone()),
        Outcome::Canceled => RecordEnd::Canceled,
        Outcome::Expired => RecordEnd::Expired,
    };
    Some(Completion {
        id: job.id,
        end,
        cost: ended.cost,
        cached,
    })
}

/// The outcome, and whether it came out of the cache; `None` for a job that has none.
const fn outcome(end: &End) -> Option<(&Outcome, bool)> {
    match end {
        End::Outcome(outcome) => Some((outcome, false)),
        End::Cached(outcome) => Some((outcome, true)),
        End::HandedBack => None,
    }
}

/// Whether the job took its workers down: somebody will want to see what it was.
const fn is_poison(ended: &Completed) -> bool {
    match &ended.end {
        End::Outcome(Outcome::Failed(failure)) => matches!(failure.code, FailureCode::Poison),
        End::Outcome(_) | End::Cached(_) | End::HandedBack => false,
    }
}

/// Jobs that are finished, and jobs that go back.
fn part(round: Vec<Completed>) -> (Vec<Completed>, Vec<Completed>) {
    round
        .into_iter()
        .partition(|ended| outcome(&ended.end).is_some())
}
