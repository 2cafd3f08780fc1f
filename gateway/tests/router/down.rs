//! A broker and a store that are away.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use selvage_core::clock::UnixMillis;
use selvage_core::dead_letters::{self, DeadLetter, DeadLetterStore, MemoryDeadLetters};
use selvage_core::job::{Job, JobId, ModelName, Priority, ReplyAddress};
use selvage_core::job_state::JobState;
use selvage_core::key_name::KeyName;
use selvage_core::outcome::Report;
use selvage_core::queue::{Consumer, Health, PublishError, Queue, QueueError};
use selvage_core::store::{
    Cancel, Claim, Completion, JobStore, Page, Progress, Record, Seed, StoreError, Submitted,
    WebhookOutbox, WorkerStore,
};
use selvage_core::webhook::{Delivery, Next};
use tokio_util::sync::CancellationToken;

/// A broker that is away.
pub(crate) struct BrokerDown;

impl fmt::Debug for BrokerDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BrokerDown")
    }
}

#[async_trait]
impl Queue for BrokerDown {
    async fn publish(&self, _: Job) -> Result<(), PublishError> {
        Err(PublishError::Unavailable("amqp://ann:s3cret@h".into()))
    }

    async fn consume(
        &self,
        _: &ModelName,
        _: Priority,
        _: u16,
        _: CancellationToken,
    ) -> Result<Box<dyn Consumer>, QueueError> {
        Err(QueueError::Unavailable("away".into()))
    }

    fn reply_address(&self) -> Option<ReplyAddress> {
        Some(ReplyAddress("nowhere".into()))
    }

    async fn reply(&self, _: &ReplyAddress, _: Vec<Report>) -> Result<(), QueueError> {
        Err(QueueError::Unavailable("away".into()))
    }

    async fn depth(&self, _: &ModelName, _: Priority) -> Result<u64, QueueError> {
        Err(QueueError::Unavailable("away".into()))
    }

    fn health(&self) -> Health {
        Health::Down
    }

    async fn close(&self) {}
}

/// A store that is away.
#[derive(Debug)]
pub(crate) struct StoreDown;

fn away<T>() -> Result<T, StoreError> {
    Err(StoreError("redis://ann:s3cret@h".into()))
}

#[async_trait]
impl JobStore for StoreDown {
    async fn submit(&self, _: &Seed) -> Result<Submitted, StoreError> {
        away()
    }

    async fn confirm(&self, _: JobId) -> Result<(), StoreError> {
        away()
    }

    async fn withdraw(&self, _: JobId, _: JobId) -> Result<(), StoreError> {
        away()
    }

    async fn cancel(&self, _: JobId) -> Result<Cancel, StoreError> {
        away()
    }

    async fn get(&self, _: &[JobId]) -> Result<Vec<Option<Record>>, StoreError> {
        away()
    }

    async fn list(
        &self,
        _: Option<&KeyName>,
        _: Option<JobId>,
        _: usize,
        _: Option<JobState>,
    ) -> Result<Page, StoreError> {
        away()
    }

    async fn progress(&self, _: &[ModelName]) -> Result<Vec<Progress>, StoreError> {
        away()
    }

    async fn overdue(&self, _: usize) -> Result<Vec<Record>, StoreError> {
        away()
    }

    async fn abandon(&self, _: JobId, _: UnixMillis) -> Result<(), StoreError> {
        away()
    }
}

#[async_trait]
impl WorkerStore for StoreDown {
    async fn check(&self, _: &[Seed]) -> Result<Vec<Claim>, StoreError> {
        away()
    }

    async fn claim(&self, _: &[Seed]) -> Result<Vec<Claim>, StoreError> {
        away()
    }

    async fn release(&self, _: &[JobId]) -> Result<(), StoreError> {
        away()
    }

    async fn complete(&self, _: &[Completion]) -> Result<Vec<bool>, StoreError> {
        away()
    }

    async fn abandoned(&self, _: &[JobId]) -> Result<Vec<bool>, StoreError> {
        away()
    }

    async fn ping(&self) -> bool {
        false
    }
}

#[async_trait]
impl WebhookOutbox for StoreDown {
    async fn lease_webhooks(&self, _: usize, _: Duration) -> Result<Vec<Record>, StoreError> {
        away()
    }

    async fn complete_webhook(
        &self,
        _: JobId,
        _: Option<&Delivery>,
        _: Next,
    ) -> Result<(), StoreError> {
        away()
    }
}

/// A store of dead letters that refuses the first ones.
#[derive(Debug)]
pub(crate) struct DeadLettersDown {
    pub(crate) inner: Arc<MemoryDeadLetters>,
    pub(crate) refusals: AtomicUsize,
}

#[async_trait]
impl DeadLetterStore for DeadLettersDown {
    async fn add(&self, dead_letter: &DeadLetter) -> Result<(), StoreError> {
        let fewer = |left: usize| left.checked_sub(1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        match self.refusals.fetch_update(set, fetch, fewer) {
            Ok(_) => Err(StoreError("away".into())),
            Err(_) => self.inner.add(dead_letter).await,
        }
    }

    async fn list(&self, offset: u64, limit: u64) -> Result<dead_letters::Page, StoreError> {
        self.inner.list(offset, limit).await
    }

    async fn get(&self, id: JobId) -> Result<Option<DeadLetter>, StoreError> {
        self.inner.get(id).await
    }

    async fn remove(&self, id: JobId) -> Result<bool, StoreError> {
        self.inner.remove(id).await
    }

    async fn purge(&self) -> Result<u64, StoreError> {
        self.inner.purge().await
    }

    async fn count(&self) -> Result<u64, StoreError> {
        self.inner.count().await
    }
}
