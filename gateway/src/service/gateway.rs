//! The parts of one gateway, for handlers and background tasks.

use std::sync::Arc;

use prometheus::Registry;
use selvage_core::cache::{Cache, MemoryCache};
use selvage_core::clock::Clock;
use selvage_core::dead_letters::DeadLetterStore;
use selvage_core::queue::dead_letters::DeadLetterQueue;
use selvage_core::queue::{Health, Queue, Reports};
use selvage_core::registry::Fleet;
use selvage_core::store::JobStore;

use crate::service::admission::Lists;
use crate::service::dead_letters::DeadLetterService;
use crate::service::lifecycle::{Lifecycle, Phase};
use crate::service::metrics::Metrics;
use crate::service::models::Models;
use crate::service::predictions::Predictions;
use crate::service::stats::Stats;
use crate::service::webhooks::Webhooks;

/// What a gateway needs of the outside.
#[derive(Debug)]
pub struct Backends {
    /// The way to the workers.
    pub queue: Arc<dyn Queue>,
    /// What was dead-lettered on it and is not stored yet.
    pub dead_letter_queue: Arc<dyn DeadLetterQueue>,
    /// Dead letters.
    pub dead_letters: Arc<dyn DeadLetterStore>,
    /// What comes back from them.
    pub reports: Reports,
    /// Results.
    pub cache: Arc<dyn Cache>,
    /// The part of the cache that is in this process, where workers are not.
    pub local_cache: Option<MemoryCache>,
    /// Records of asynchronous jobs.
    pub store: Arc<dyn JobStore>,
    /// Who works.
    pub fleet: Arc<dyn Fleet>,
    /// The shared time.
    pub clock: Clock,
    /// Asynchronous jobs outlive this process.
    pub durable: bool,
}

/// The parts of one gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Which model a request means.
    pub models: Models,
    /// The service.
    pub predictions: Predictions,
    /// Records of asynchronous jobs.
    pub store: Arc<dyn JobStore>,
    /// Dead letters.
    pub dead_letters: DeadLetterService,
    /// What tells clients' servers of their jobs' ends.
    pub webhooks: Webhooks,
    /// Lists of jobs that are read now.
    pub lists: Lists,
    /// Where this gateway is in its life.
    pub life: Arc<Lifecycle>,
    /// What is counted.
    pub metrics: Metrics,
    /// Everything that is counted in this process.
    pub registry: Registry,
    /// The fleet in numbers.
    pub stats: Stats,
}

impl Gateway {
    /// The mode's name, for people.
    #[must_use]
    pub const fn mode(&self) -> &'static str {
        if self.predictions.durable {
            "fleet"
        } else {
            "embedded"
        }
    }

    /// Whether traffic should come here: the one truth behind every health check. Without its store a gateway still answers
    /// those who wait; without its broker it answers nothing new.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.life.phase() == Phase::Serving && self.predictions.queue.health() == Health::Up
    }
}
