//! The in-process backend: bounded queues that redeliver as a broker would. Nothing here survives the process.

mod consumer;
mod dead_letters;
mod priority_queue;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::consumer::MemoryConsumer;
use self::dead_letters::MemoryDeadLetterQueue;
use self::priority_queue::PriorityQueue;
use super::dead_letters::DeadLetterQueue;
use super::{Consumer, Health, PublishError, Queue, QueueError, Reports};
use crate::job::{Job, ModelName, Priority, ReplyAddress};
use crate::outcome::Report;

/// Batches of reports that may wait for the gateway.
const WAITING_REPORTS: usize = 1024;
/// How long a worker waits for the gateway to take reports.
const REPLY_WAIT: Duration = Duration::from_secs(5);

/// Queues in memory, made when they are first used.
#[derive(Debug)]
pub struct MemoryQueue {
    queues: RwLock<HashMap<(ModelName, Priority), Arc<PriorityQueue>>>,
    capacity_jobs: usize,
    dead_letters: Arc<MemoryDeadLetterQueue>,
    reports: mpsc::Sender<Vec<Report>>,
    address: ReplyAddress,
    closed: CancellationToken,
}

impl MemoryQueue {
    /// A queue whose queues each hold up to `capacity_jobs` waiting jobs, and the reports for the jobs it takes.
    #[must_use]
    pub fn new(capacity_jobs: usize) -> (Arc<Self>, Reports) {
        let (sender, reports) = mpsc::channel(WAITING_REPORTS);
        let queue = Self {
            queues: RwLock::default(),
            capacity_jobs,
            dead_letters: Arc::default(),
            reports: sender,
            address: ReplyAddress("memory".into()),
            closed: CancellationToken::new(),
        };
        (Arc::new(queue), reports)
    }

    /// The dead-lettered messages that are not stored yet.
    #[must_use]
    pub fn dead_letters(&self) -> Arc<dyn DeadLetterQueue> {
        Arc::clone(&self.dead_letters) as _
    }

    fn queue(&self, model: &ModelName, priority: Priority) -> Arc<PriorityQueue> {
        let name = (model.clone(), priority);
        let known = self.queues.read();
        if let Some(priority) = known.get(&name) {
            return Arc::clone(priority);
        }
        drop(known);
        let mut queues = self.queues.write();
        let new = || {
            let queue = format!("{model}.{}", priority.as_str());
            Arc::new(PriorityQueue::new(queue, Arc::clone(&self.dead_letters)))
        };
        Arc::clone(queues.entry(name).or_insert_with(new))
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn publish(&self, job: Job) -> Result<(), PublishError> {
        if self.closed.is_cancelled() {
            return Err(PublishError::Unavailable("the queue is closed".into()));
        }
        self.queue(&job.model, job.priority())
            .push(job, self.capacity_jobs)
    }

    async fn consume(
        &self,
        model: &ModelName,
        priority: Priority,
        prefetch: u16,
        stop: CancellationToken,
    ) -> Result<Box<dyn Consumer>, QueueError> {
        Ok(Box::new(MemoryConsumer {
            queue: self.queue(model, priority),
            hands: Arc::new(Semaphore::new(usize::from(prefetch.max(1)))),
            stop,
            closed: self.closed.clone(),
            left: None,
        }))
    }

    fn reply_address(&self) -> Option<ReplyAddress> {
        (!self.closed.is_cancelled()).then(|| self.address.clone())
    }

    async fn reply(&self, to: &ReplyAddress, reports: Vec<Report>) -> Result<(), QueueError> {
        if *to != self.address {
            return Err(QueueError::Unavailable(
                "no gateway has this address".into(),
            ));
        }
        match timeout(REPLY_WAIT, self.reports.send(reports)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(QueueError::Unavailable("nobody takes reports".into())),
            Err(_) => Err(QueueError::Unavailable("reports are not taken".into())),
        }
    }

    async fn depth(&self, model: &ModelName, priority: Priority) -> Result<u64, QueueError> {
        let jobs = self.queue(model, priority).waiting.lock().jobs;
        Ok(u64::try_from(jobs).unwrap_or(u64::MAX))
    }

    fn health(&self) -> Health {
        if self.closed.is_cancelled() {
            Health::Down
        } else {
            Health::Up
        }
    }

    async fn close(&self) {
        self.closed.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use super::dead_letters::MAX_MESSAGES;
    use super::*;
    use crate::queue::suite::{Fixture, job};

    fn fixture(capacity: usize) -> Ready<Fixture> {
        let (queue, reports) = MemoryQueue::new(capacity);
        ready(Fixture {
            gateway: queue.clone(),
            reports,
            worker: queue.clone(),
            model: "first".parse().unwrap(),
            other_model: "second".parse().unwrap(),
            capacity,
            sends_ahead: false,
            dead_letters: queue.dead_letters(),
            clean_up: None,
        })
    }

    crate::queue_suite!(fixture);

    #[tokio::test]
    async fn an_image_is_moved_and_not_copied() {
        let (queue, _reports) = MemoryQueue::new(8);
        let job = job(&"first".parse().unwrap(), 1);
        let (model, at) = (job.model.clone(), job.image.as_ptr());
        queue.publish(job).await.unwrap();
        let stop = CancellationToken::new();
        let consuming = queue.consume(&model, Priority::Interactive, 1, stop);
        let delivery = consuming.await.unwrap().next().await.unwrap();
        assert_eq!(delivery.jobs[0].image.as_ptr(), at);
        delivery.settle.ack();
    }

    #[tokio::test]
    async fn only_so_many_dead_letters_are_held() {
        let (queue, _reports) = MemoryQueue::new(MAX_MESSAGES + 1);
        let model: ModelName = "first".parse().unwrap();
        let count = u32::try_from(MAX_MESSAGES).unwrap() + 1;
        for n in 0..count {
            queue.publish(job(&model, n)).await.unwrap();
        }
        let stop = CancellationToken::new();
        let mut consumer = queue
            .consume(&model, Priority::Interactive, 1, stop)
            .await
            .unwrap();
        while queue.depth(&model, Priority::Interactive).await.unwrap() > 0 {
            consumer.next().await.unwrap().settle.dead_letter();
        }
        let dead_letters = queue.dead_letters();
        let held = dead_letters.count().await.unwrap();
        assert_eq!(held, u64::try_from(MAX_MESSAGES).unwrap());
        let oldest = dead_letters.next().await.unwrap().unwrap();
        let job = oldest.dead_letters[0].job().unwrap();
        assert_eq!(job.request_id.as_deref(), Some("1"), "the oldest went");
    }
}
