//! The scripted worker of a gateway under test. No test here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use selvage_core::cache::{Cache as _, MemoryCache};
use selvage_core::catalog::Catalog;
use selvage_core::job::{Job, Priority};
use selvage_core::outcome::{Cost, Outcome};
use selvage_core::queue::Queue as _;
use selvage_core::queue::memory::MemoryQueue;
use selvage_core::store::{Claim, Completion, End, MemoryStore, Seed, WorkerStore as _};
use tokio_util::sync::CancellationToken;

use crate::rig::{Script, report};

/// Ends each job as its script says, as a worker would.
pub(crate) struct Worker {
    pub(crate) queue: Arc<MemoryQueue>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) cache: MemoryCache,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) computed: Arc<AtomicUsize>,
    pub(crate) script: Script,
}

impl Worker {
    /// Works on one queue until it is stopped.
    pub(crate) async fn run(self, priority: Priority, stop: CancellationToken) {
        let model = self.catalog.models()[0].name.clone();
        let mut consumer = self.queue.consume(&model, priority, 4, stop).await.unwrap();
        while let Some(delivery) = consumer.next().await {
            for job in &delivery.jobs {
                self.finish(job).await;
            }
            delivery.settle.ack();
        }
    }

    async fn finish(&self, job: &Job) {
        if let Some(seed) = Seed::of(job)
            && self.store.claim(&[seed]).await.unwrap() != [Claim::Run(1)]
        {
            return;
        }
        self.computed.fetch_add(1, Ordering::Relaxed);
        let outcome = (self.script)(job);
        if let (Outcome::Succeeded(scores), true) = (&outcome, job.cache.write) {
            self.cache.put(&[(job.key, scores.clone())]).await.unwrap();
        }
        let cost = Cost {
            waited_us: 0,
            decode_us: 200,
            inference_us: 600,
            batch_size: 4,
        };
        if let Some(submission) = &job.submission {
            let meaning = self.catalog.models()[0].meaning();
            let end = match &outcome {
                Outcome::Succeeded(scores) => {
                    End::Succeeded(meaning.output(scores, submission.top_k).unwrap())
                }
                Outcome::Failed(failure) => End::Failed(failure.clone()),
                Outcome::Canceled => End::Canceled,
                Outcome::Expired => End::Expired,
            };
            let completion = Completion {
                id: job.id,
                end,
                cost,
                cached: false,
            };
            self.store.complete(&[completion]).await.unwrap();
        }
        if let Some(to) = &job.reply_to {
            let report = report(job.id, outcome, cost);
            self.queue.reply(to, vec![report]).await.unwrap();
        }
    }
}
