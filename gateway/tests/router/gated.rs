//! A queue whose `publish` waits until the test lets the broker confirm or refuse the job.

use std::sync::Arc;

use async_trait::async_trait;
use selvage_core::job::{Job, ModelName, Priority, ReplyAddress};
use selvage_core::outcome::Report;
use selvage_core::queue::memory::MemoryQueue;
use selvage_core::queue::{Consumer, Health, PublishError, Queue, QueueError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A job whose `publish` waits. Where this is dropped, the broker never answers.
pub(crate) struct Published {
    pub(crate) job: Job,
    answer: oneshot::Sender<Result<(), PublishError>>,
}

impl Published {
    /// The broker takes the job.
    pub(crate) fn confirm(self) {
        self.answer.send(Ok(())).unwrap();
    }

    /// The broker has no room for the job.
    pub(crate) fn refuse(self) {
        self.answer.send(Err(PublishError::Full)).unwrap();
    }
}

#[derive(Debug)]
pub(crate) struct Gated {
    pub(crate) inner: Arc<MemoryQueue>,
    pub(crate) published: mpsc::UnboundedSender<Published>,
}

#[async_trait]
impl Queue for Gated {
    async fn publish(&self, job: Job) -> Result<(), PublishError> {
        let (answer, answered) = oneshot::channel();
        let (published, kept) = (job.clone(), job);
        let published = Published {
            job: published,
            answer,
        };
        self.published.send(published).map_err(drop).unwrap();
        match answered.await {
            Ok(Ok(())) => self.inner.publish(kept).await,
            Ok(Err(error)) => Err(error),
            Err(_) => std::future::pending().await,
        }
    }

    async fn consume(
        &self,
        model: &ModelName,
        priority: Priority,
        prefetch: u16,
        stop: CancellationToken,
    ) -> Result<Box<dyn Consumer>, QueueError> {
        self.inner.consume(model, priority, prefetch, stop).await
    }

    fn reply_address(&self) -> Option<ReplyAddress> {
        self.inner.reply_address()
    }

    async fn reply(&self, to: &ReplyAddress, reports: Vec<Report>) -> Result<(), QueueError> {
        self.inner.reply(to, reports).await
    }

    async fn depth(&self, model: &ModelName, priority: Priority) -> Result<u64, QueueError> {
        self.inner.depth(model, priority).await
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
