//! A queue whose jobs carry the trace on: from the request into the message.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{TRACING, publishing};
use crate::job::{Job, ModelName, Priority, ReplyAddress};
use crate::outcome::Report;
use crate::queue::{Consumer, Health, PublishError, Queue, QueueError};

/// The queue as it is, or one that tells of what is published where traces are kept.
#[must_use]
pub fn traced(queue: Arc<dyn Queue>) -> Arc<dyn Queue> {
    match TRACING.get() {
        Some(_) => Arc::new(Traced(queue)),
        None => queue,
    }
}

#[derive(Debug)]
struct Traced(Arc<dyn Queue>);

#[async_trait]
impl Queue for Traced {
    async fn publish(&self, mut job: Job) -> Result<(), PublishError> {
        let mut span = publishing(&job);
        if let Some(traceparent) = span.as_ref().and_then(super::Span::traceparent) {
            job.traceparent = Some(traceparent);
        }
        let published = self.0.publish(job).await;
        if let (Some(span), Err(error)) = (&mut span, &published) {
            span.fail(error.to_string());
        }
        published
    }

    async fn consume(
        &self,
        model: &ModelName,
        priority: Priority,
        prefetch: u16,
        stop: CancellationToken,
    ) -> Result<Box<dyn Consumer>, QueueError> {
        self.0.consume(model, priority, prefetch, stop).await
    }

    fn reply_address(&self) -> Option<ReplyAddress> {
        self.0.reply_address()
    }

    async fn reply(&self, to: &ReplyAddress, reports: Vec<Report>) -> Result<(), QueueError> {
        self.0.reply(to, reports).await
    }

    async fn depth(&self, model: &ModelName, priority: Priority) -> Result<u64, QueueError> {
        self.0.depth(model, priority).await
    }

    fn health(&self) -> Health {
        self.0.health()
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
