//! Counts what becomes of spans: each that ends is sent or dropped, and only so many wait.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use prometheus::{IntCounter, Registry};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The counts of one process; clones count together.
#[derive(Clone, Debug)]
pub(super) struct Spans {
    room: Arc<Semaphore>,
    sent: IntCounter,
    dropped: IntCounter,
}

impl Spans {
    /// Counts where at most so many spans wait.
    pub(super) fn new(most: usize) -> Result<Self, prometheus::Error> {
        let counter =
            |name: &str, help: &str| IntCounter::new(format!("selvage_trace_{name}"), help);
        Ok(Self {
            room: Arc::new(Semaphore::new(most)),
            sent: counter("spans_sent_total", "Spans that the collector has taken")?,
            dropped: counter(
                "spans_dropped_total",
                "Spans that the collector refused, did not take in time, or that found no room to wait",
            )?,
        })
    }

    /// Shows the counts.
    pub(super) fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.sent.clone()))?;
        registry.register(Box::new(self.dropped.clone()))
    }

    /// Takes a place for a span, if there is one.
    fn enter(&self) -> bool {
        let place = self.room.try_acquire();
        let entered = place.map(SemaphorePermit::forget).is_ok();
        if !entered {
            self.dropped.inc();
        }
        entered
    }

    fn leave(&self, spans: usize, are_sent: bool) {
        self.room.add_permits(spans);
        let counter = if are_sent { &self.sent } else { &self.dropped };
        counter.inc_by(spans as u64);
    }
}

/// Lets spans in while there is room.
#[derive(Debug)]
pub(super) struct Entrance<P> {
    pub(super) within: P,
    pub(super) spans: Spans,
}

impl<P: SpanProcessor> SpanProcessor for Entrance<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.within.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.spans.enter() {
            self.within.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.within.force_flush()
    }

    fn shutdown_with_timeout(&self, limit: Duration) -> OTelSdkResult {
        self.within.shutdown_with_timeout(limit)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.within.set_resource(resource);
    }
}

/// Sends spans on and counts how that went.
#[derive(Debug)]
pub(super) struct Exit<E> {
    pub(super) within: E,
    pub(super) spans: Spans,
}

impl<E: SpanExporter> SpanExporter for Exit<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.within.export(batch).await;
        self.spans.leave(spans, sent.is_ok());
        sent
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.within.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_or_is_refused_is_counted_as_dropped() {
        let spans = Spans::new(2).unwrap();
        assert!(spans.enter() && spans.enter() && !spans.enter());
        assert_eq!((spans.sent.get(), spans.dropped.get()), (0, 1));
        spans.leave(1, true);
        spans.leave(1, false);
        assert_eq!((spans.sent.get(), spans.dropped.get()), (1, 2));
        assert!(spans.enter() && spans.enter() && !spans.enter());
    }
}
