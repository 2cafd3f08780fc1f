//! What a guarantee is tested on: a gateway's and a worker's end of one queue, and jobs to send through it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::UnixMillis;
use crate::job::{CachePolicy, Job, JobId, ModelName, Priority, Submission};
use crate::key::{Digest, PredictionKey};
use crate::queue::dead_letters::DeadLetterQueue;
use crate::queue::{Consumer, Delivery, Queue, Reports};

/// Long enough for a busy machine; reached only by a failure.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);

/// Removes what a test leaves behind.
#[async_trait]
pub trait CleanUp: Send + Sync {
    /// Removes all that the test has made.
    async fn clean_up(&self);
}

/// Both ends of a fresh queue.
pub struct Fixture {
    /// The end that publishes.
    pub gateway: Arc<dyn Queue>,
    /// What comes back to it.
    pub reports: Reports,
    /// The end that consumes; may be the same.
    pub worker: Arc<dyn Queue>,
    /// A model whose queues exist.
    pub model: ModelName,
    /// Another one.
    pub other_model: ModelName,
    /// Messages of one job that a queue holds.
    pub capacity: usize,
    /// Whether messages leave a queue before the consumer asks for them, up to its prefetch.
    pub sends_ahead: bool,
    /// Where messages are dead-lettered.
    pub dead_letters: Arc<dyn DeadLetterQueue>,
    /// Removes what is left behind.
    pub clean_up: Option<Box<dyn CleanUp>>,
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").finish_non_exhaustive()
    }
}

impl Fixture {
    /// Closes both ends and removes what they have made.
    pub async fn end(self) {
        self.worker.close().await;
        self.gateway.close().await;
        if let Some(clean_up) = self.clean_up {
            clean_up.clean_up().await;
        }
    }

    /// A job somebody waits for; each number makes another one.
    #[must_use]
    pub fn job(&self, n: u32) -> Job {
        job(&self.model, n)
    }

    /// Publishes jobs one after the other, so that each travels in a message of its own.
    ///
    /// # Panics
    /// When one is not taken.
    pub async fn publish_each(&self, jobs: &[Job]) {
        for job in jobs {
            let published = self.gateway.publish(job.clone()).await;
            published.expect("a queue that is up takes a job");
        }
    }

    /// A consumer that never stops.
    ///
    /// # Panics
    /// When there is none to be had.
    pub async fn consumer(&self, priority: Priority, prefetch: u16) -> Box<dyn Consumer> {
        self.consumer_until(priority, prefetch, CancellationToken::new())
            .await
    }

    /// A consumer with a stop token.
    ///
    /// # Panics
    /// When there is none to be had.
    pub async fn consumer_until(
        &self,
        priority: Priority,
        prefetch: u16,
        stop: CancellationToken,
    ) -> Box<dyn Consumer> {
        let consuming = self.worker.consume(&self.model, priority, prefetch, stop);
        timeout(PATIENCE, consuming)
            .await
            .expect("a queue that is up can be consumed in time")
            .expect("a queue that is up can be consumed")
    }

    /// Messages waiting in the model's interactive queue.
    pub async fn depth(&self) -> u64 {
        let depth = self.gateway.depth(&self.model, Priority::Interactive).await;
        depth.expect("a queue that is up knows its depth")
    }
}

/// The next delivery, in time.
pub(super) async fn take(consumer: &mut Box<dyn Consumer>) -> Delivery {
    timeout(PATIENCE, consumer.next())
        .await
        .expect("a delivery comes in time")
        .expect("a consumer that was not stopped goes on")
}

/// The end of a consumer, in time.
pub(super) async fn take_end(consumer: &mut Box<dyn Consumer>) {
    let next = timeout(PATIENCE, consumer.next()).await;
    let next = next.expect("a stopped consumer ends in time");
    assert!(next.is_none(), "a stopped consumer gives nothing more");
}

/// Waits for a condition.
///
/// # Panics
/// When it does not come.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never happened: {what}");
        sleep(LOOK).await;
    }
}

/// A job somebody waits for; each number makes another one.
#[must_use]
pub fn job(model: &ModelName, n: u32) -> Job {
    let image = Bytes::from(format!("image {n} ").repeat(70));
    Job {
        id: JobId::new(),
        model: model.clone(),
        key: PredictionKey {
            model: Digest::of(model.as_str().as_bytes()),
            preprocessing: 1,
            image: Digest::of(&image),
        },
        created_at: UnixMillis(1),
        deadline: UnixMillis(u64::MAX),
        cache: CachePolicy::default(),
        earlier_attempts: 0,
        reply_to: None,
        request_id: Some(format!("{n}").into()),
        traceparent: None,
        submission: None,
        image,
    }
}

/// The same job, started once before.
#[must_use]
pub fn alone(job: Job) -> Job {
    Job {
        earlier_attempts: 1,
        ..job
    }
}

/// The same job, asynchronous.
#[must_use]
pub fn submitted(job: Job) -> Job {
    let submission = Submission {
        version: "1".to_owned(),
        top_k: 3,
        metadata: serde_json::Map::from_iter([("shelf".to_owned(), "b4".into())]),
        idempotency: None,
        owner: Some("acme".parse().expect("a good name")),
        webhook: None,
        retry_of: None,
        image_hash: None,
    };
    Job {
        submission: Some(submission),
        ..job
    }
}
