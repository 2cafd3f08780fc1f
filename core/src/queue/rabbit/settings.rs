//! How a process uses RabbitMQ; each default in one place.

use std::time::Duration;

use super::counters::QueueCounters;
use super::publish_buffer::{Grouping, PublishBufferLimits};
use super::topology::QueueLimits;
use crate::job::ModelName;
use crate::program::config::{AmqpUrls, Prefix};

/// What a process does with the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Publishes jobs and takes reports.
    Gateway,
    /// Consumes jobs and sends reports.
    Worker,
}

impl Role {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Worker => "worker",
        }
    }
}

/// How a process uses RabbitMQ.
#[derive(Clone, Debug)]
pub struct RabbitSettings {
    /// The broker's nodes.
    pub urls: AmqpUrls,
    /// First part of all names.
    pub prefix: Prefix,
    /// The models whose queues are declared.
    pub models: Vec<ModelName>,
    /// What this process does.
    pub role: Role,
    /// How long the start waits for a broker that is away; then it goes on in the background.
    pub start_up: Duration,
    /// Bounds of the queues.
    pub limits: QueueLimits,
    /// How jobs share messages.
    pub grouping: Grouping,
    /// Messages that may be unconfirmed at once, each on a channel of its own. The broker writes its log for all of them
    /// together: with 64 and 256 jobs in flight a job cost it 37 and 37 us of CPU at 2 channels, 32 and 23 at 4, 28 and 15
    /// at 8. More than 8 only make messages smaller.
    pub publishers: usize,
    /// Bounds of what waits within this process.
    pub publish_buffer: PublishBufferLimits,
    /// What is counted.
    pub counters: QueueCounters,
}

impl RabbitSettings {
    /// The settings with their defaults.
    #[must_use]
    pub fn new(
        urls: impl Into<AmqpUrls>,
        prefix: Prefix,
        models: Vec<ModelName>,
        role: Role,
    ) -> Self {
        Self {
            urls: urls.into(),
            prefix,
            models,
            role,
            start_up: Duration::from_secs(10),
            limits: QueueLimits::default(),
            grouping: Grouping {
                jobs: 16,
                bytes: 512 * 1024,
            },
            publishers: 8,
            publish_buffer: PublishBufferLimits {
                jobs: 4096,
                bytes: 128 * 1024 * 1024,
            },
            counters: QueueCounters::default(),
        }
    }
}
